# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab itself: hosts with their NICs on segments, each segment a bridge in the lab's switch."""

from __future__ import annotations

import contextlib
import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Optional

from . import inventory
from .errors import LabError
from .machines import Machine, check_machine
from .running import Result, Running
from .state import LabState

REPOSITORY = Path(__file__).resolve().parents[2]
LAN = "lan"  # the segment where hosts are put unless told otherwise
_SWITCH = "switch"
_TRAFFIC = ["/usr/bin/python3", "-I", str(Path(__file__).resolve().with_name("traffic"))]


@dataclass
class Nic:
    """A NIC of a host. ``port`` is its other end, on the switch."""

    name: str
    segment: str
    mac: str
    port: str
    addresses: list[str] = field(default_factory=list)  # with their prefix lengths


@dataclass
class Host:
    """A host of the lab."""

    name: str
    nics: dict[str, Nic] = field(default_factory=dict)

    @property
    def mac(self) -> str:
        """The MAC of the first NIC."""
        return next(iter(self.nics.values())).mac

    @property
    def address(self) -> str:
        """The first address of the first NIC, without prefix length."""
        return next(iter(self.nics.values())).addresses[0].partition("/")[0]

    @property
    def address6(self) -> str:
        """The first IPv6 address of the first NIC, without prefix length."""
        held = next(iter(self.nics.values())).addresses
        return next(address for address in held if ":" in address).partition("/")[0]


class Lab:
    """A lab. As a context manager it is taken down at the end, whatever happened.

    It also ends with the process that made it, unless it is to ``linger``. ``shown`` are folders of this machine
    that the hosts see at the same path, read-only, besides the repository.
    """

    def __init__(self, name: str, *, linger: bool = False, shown: Iterable[Path] = ()) -> None:
        self.name = name
        self.hosts: dict[str, Host] = {}
        self._segments: list[str] = []
        self._state = LabState(name)
        self._linger = linger
        self._shown = list(dict.fromkeys([REPOSITORY, *shown]))
        self._machines: dict[str, Machine] = {}
        self._running: list[Running] = []

    @classmethod
    def attach(cls, name: str) -> Lab:
        """The lab of this name that another process has made."""
        lab = cls(name)
        topology = lab._state.load()
        lab._segments = topology["segments"]
        lab._shown = [Path(path) for path in topology["shown"]]
        lab._linger = True
        for host in topology["hosts"]:
            nics = {nic["name"]: Nic(**nic) for nic in host["nics"].values()}
            lab.hosts[host["name"]] = Host(host["name"], nics)
        lab._machines = {name: Machine(lab._state, name, process) for name, process in lab._state.processes().items()}
        return lab

    def __enter__(self) -> Lab:
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    # -- the whole

    def up(self) -> Lab:
        """Take the name and start the switch; hosts are added after that."""
        if _SWITCH in self._machines:
            return self
        check_machine()
        self._state.claim()
        try:
            self._machines[_SWITCH] = Machine.start(self._state, _SWITCH, host=False, linger=self._linger)
            self.add_segment(LAN)
        except BaseException:
            self.down()
            raise
        return self

    def down(self) -> None:
        """End everything, also where some of it resists. A lab that is not up is fine."""
        with contextlib.ExitStack() as ending:  # from the last to the first, each whatever became of the others
            ending.callback(self._state.release)
            for machine in self._machines.values():
                ending.callback(machine.stop)
            for running in self._running:
                ending.callback(running.close)
        self._running.clear()
        self._machines.clear()
        self.hosts.clear()
        self._segments.clear()

    @staticmethod
    def remove(name: str) -> bool:
        """End the lab of this name, whoever made it and however far it came; False when there is none."""
        state = LabState(name)
        found = state.exists
        state.remove()
        return found

    @property
    def alive(self) -> bool:
        """Whether the switch and all hosts are there."""
        return bool(self._machines) and all(machine.process.alive for machine in self._machines.values())

    # -- what it is made of

    def add_segment(self, name: str) -> None:
        """Add a broadcast domain: a plain learning bridge."""
        _check_name(name)
        bridge = f"br-{name}"
        # Multicast snooping would hide frames from ports that never asked, as nothing here asks.
        self._machines[_SWITCH].ip(
            f"link add {bridge} type bridge stp_state 0 mcast_snooping 0",
            f"link set {bridge} up",
        )
        self._segments.append(name)
        self._save()

    def add_host(
        self,
        name: str,
        address: Optional[str] = None,
        prefix: int = 24,
        *,
        mac: Optional[str] = None,
        address6: Optional[str] = None,
        prefix6: int = 64,
        segment: str = LAN,
        gateway: Optional[str] = None,
        gateway6: Optional[str] = None,
    ) -> Host:
        """Start a host with one NIC, eth0. The MAC is 02:d5:00:00:00:<last octet of the address> unless given."""
        self.up()
        _check_name(name)
        if name in self._machines:
            raise LabError(f"the lab '{self.name}' has a machine '{name}' already")
        machine = Machine.start(self._state, name, host=True, linger=self._linger, shown=self._shown)
        self._machines[name] = machine
        self.hosts[name] = host = Host(name)
        try:
            machine.ip("link set lo up")
            self.add_nic(name, "eth0", address, prefix, mac=mac, address6=address6, prefix6=prefix6, segment=segment)
            for way, router in (("0.0.0.0/0", gateway), ("::/0", gateway6)):
                if router is not None:
                    machine.ip(f"route add {way} via {router}")
        except BaseException:
            self.remove_host(name)
            raise
        return host

    def remove_host(self, name: str) -> None:
        """End a host, as if its power were cut."""
        machine = self._machine(name)
        for nic in self.hosts[name].nics.values():
            self._unwire(nic)
        machine.stop()
        del self._machines[name], self.hosts[name]
        self._save()

    def add_nic(
        self,
        host: str,
        name: str,
        address: Optional[str] = None,
        prefix: int = 24,
        *,
        mac: Optional[str] = None,
        address6: Optional[str] = None,
        prefix6: int = 64,
        segment: str = LAN,
    ) -> Nic:
        """Give a host one more NIC."""
        self._machine(host)
        _check_name(name, longest=4)
        if segment not in self._segments:
            raise LabError(f"the lab '{self.name}' has no segment '{segment}'")
        addresses = [f"{address}/{prefix}"] if address else []
        addresses += [f"{address6}/{prefix6}"] if address6 else []
        if mac is None:
            mac = _readable_mac(addresses, len(self.hosts[host].nics))
        nic = Nic(name, segment, mac, f"{host}-{name}", addresses)
        self._wire(host, nic)
        self.hosts[host].nics[name] = nic
        self._save()
        return nic

    def recreate_nic(self, host: str, name: str = "eth0") -> None:
        """Delete a NIC and make it anew, as a driver or an orchestrator may do."""
        nic = self.hosts[host].nics[name]
        self._unwire(nic)
        self._wire(host, nic)

    def take_nic(self, host: str, name: str = "eth0") -> None:
        """Delete a NIC; its host goes on without until ``put_nic()``."""
        self._unwire(self.hosts[host].nics[name])

    def put_nic(self, host: str, name: str = "eth0") -> None:
        """Make a NIC anew that was taken."""
        self._wire(host, self.hosts[host].nics[name])

    def _wire(self, host: str, nic: Nic) -> None:
        machine = self._machine(host)
        self._machines[_SWITCH].ip(
            f"link add {nic.port} type veth peer name {nic.name} address {nic.mac} netns {machine.process.pid}",
        )
        try:
            self._machines[_SWITCH].ip(f"link set {nic.port} master br-{nic.segment} up")
            machine.ip(
                *(
                    f"address add {address} dev {nic.name}" + (" nodad" if ":" in address else " broadcast +")
                    for address in nic.addresses
                ),
                f"link set {nic.name} up",
            )
        except BaseException:
            # With its host the NIC would go too, but only some time after.
            self._unwire(nic)
            raise

    def _unwire(self, nic: Nic) -> None:
        self._machines[_SWITCH].ip(f"link delete {nic.port}")

    def unplug(self, host: str, nic: str = "eth0") -> None:
        """Take the cable out: the host's NIC loses its carrier."""
        self._machines[_SWITCH].ip(f"link set {self.hosts[host].nics[nic].port} down")

    def plug(self, host: str, nic: str = "eth0") -> None:
        """Put the cable back."""
        self._machines[_SWITCH].ip(f"link set {self.hosts[host].nics[nic].port} up")

    def link_down(self, host: str, nic: str = "eth0") -> None:
        """Set a host's NIC down, as its administrator would."""
        self._machine(host).ip(f"link set {nic} down")

    def link_up(self, host: str, nic: str = "eth0") -> None:
        """Set a host's NIC up."""
        self._machine(host).ip(f"link set {nic} up")

    # -- what happens in it

    def run(
        self,
        host: str,
        argv: Sequence[str],
        input: Optional[str] = None,
        check: bool = True,
        timeout: float = 60.0,
    ) -> Result:
        """Run a program on a host (or on ``switch``). An exit status other than 0 is a LabError if ``check``."""
        result = self._machine(host).run(argv, input, timeout)
        if check and result.status != 0:
            said = result.stderr.strip() or result.stdout.strip()
            raise LabError(f"{host}: '{' '.join(argv)}' failed (exit status {result.status}): {said[-4000:]}")
        return result

    def command(self, host: str, argv: Sequence[str]) -> list[str]:
        """The command of this machine that runs ``argv`` on a host."""
        return self._machine(host).enter(argv)

    def ip(self, host: str, *lines: str) -> None:
        """Give commands to `ip` on a host, all at once: ``lab.ip("b1", "address add 10.77.0.100/32 dev lo")``."""
        self._machine(host).ip(*lines)

    def popen(self, host: str, argv: Sequence[str]) -> Running:
        """Start a program on a host; it ends with the lab at the latest."""
        running = self._machine(host).popen(argv)
        self._running = [other for other in self._running if other.running] + [running]
        return running

    def traffic(self, host: str, *arguments: object, timeout: float = 120.0) -> Any:
        """Run tests/lab/traffic on a host to its end; what it reports."""
        return self.run(host, [*_TRAFFIC, *map(str, arguments)], timeout=timeout).json()

    def start_traffic(self, host: str, *arguments: object, wait: bool = True) -> Running:
        """Start tests/lab/traffic on a host and wait until it is ready. ``stop()`` gives what it reports."""
        running = self.popen(host, [*_TRAFFIC, *map(str, arguments)])
        return running.wait_for("READY") if wait else running

    def write(self, host: str, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file on a host, with the folders that it needs."""
        script = 'mkdir -p -- "${1%/*}/" && cat >"$1" && chmod "$2" "$1"'
        self.run(host, ["sh", "-c", script, "sh", path, f"{mode:o}"], input=text)

    def read(self, host: str, path: str) -> str:
        """What a file on a host holds."""
        return self.run(host, ["cat", "--", path]).stdout

    def exists(self, host: str, path: str) -> bool:
        """Whether a host has this file or folder."""
        return self.run(host, ["test", "-e", path], check=False).status == 0

    def inventory(
        self,
        path: Path,
        variables: Optional[Mapping[str, Any]] = None,
        host_variables: Optional[Mapping[str, Mapping[str, Any]]] = None,
        groups: Optional[Mapping[str, Sequence[str]]] = None,
    ) -> Path:
        """Write an Ansible inventory of this lab, with ``variables`` for all hosts; see inventory.render()."""
        path.write_text(self.inventory_text(variables, host_variables, groups), encoding="utf-8")
        return path

    def inventory_text(
        self,
        variables: Optional[Mapping[str, Any]] = None,
        host_variables: Optional[Mapping[str, Mapping[str, Any]]] = None,
        groups: Optional[Mapping[str, Sequence[str]]] = None,
    ) -> str:
        """The inventory itself."""
        return inventory.render(self.name, self.hosts, variables, host_variables, groups)

    def _machine(self, name: str) -> Machine:
        try:
            return self._machines[name]
        except KeyError:
            raise LabError(f"the lab '{self.name}' has no host '{name}'") from None

    def _save(self) -> None:
        self._state.save(
            {
                "name": self.name,
                "segments": self._segments,
                "shown": [str(path) for path in self._shown],
                "hosts": [asdict(host) for host in self.hosts.values()],
            }
        )


def _check_name(name: str, longest: int = 10) -> None:
    # Names end up in those of the switch's ports (HOST-NIC), and a NIC's name has 15 characters at most.
    if not re.fullmatch(r"[a-z][a-z0-9]*", name) or len(name) > longest:
        raise LabError(f"'{name}' is no name in a lab: use {longest} lower-case letters and digits at most")


def _readable_mac(addresses: Sequence[str], nic: int) -> str:
    if not addresses:
        raise LabError("a NIC without an address needs a MAC")
    return f"02:d5:00:00:{nic:02x}:{ipaddress.ip_interface(addresses[0]).packed[-1]:02x}"
