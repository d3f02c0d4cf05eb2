# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small machine that works: a folder as its disk, links and addresses in memory, netplan and systemd of a sort."""

from __future__ import annotations

import ipaddress
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

import pytest
import yaml

from ansible_collections.dsr.layer2.plugins.module_utils.common.command import Completed
from ansible_collections.dsr.layer2.plugins.module_utils.common.errors import CommandError
from ansible_collections.dsr.layer2.plugins.module_utils.common.iproute import (
    HeldAddress,
    IPInterface,
    Iproute,
    Link,
)
from ansible_collections.dsr.layer2.plugins.module_utils.loopback import backend, info, vip_address
from ansible_collections.dsr.layer2.plugins.module_utils.loopback.holding import Outcome
from ansible_collections.dsr.layer2.plugins.module_utils.loopback.host import Host

LO = Link("lo", 1, "", 65536, frozenset({"LOOPBACK", "UP"}), "UNKNOWN")
ETH0 = Link("eth0", 2, "02:d5:00:00:00:15", 1500, frozenset({"BROADCAST", "UP"}), "UP")
DEFAULTS: dict[str, Any] = {
    "state": "present",
    "purge": False,
    "persist": "auto",
    "sysctl_file": "/etc/sysctl.d/99-dsr.conf",
    "netplan_file": "/etc/netplan/99-dsr.yaml",
}


class Machine(Iproute):
    """``log``: what was done to the kernel, with the ARP settings in force at that moment."""

    def __init__(self, folder: Path) -> None:
        super().__init__(self.run)
        self.folder = folder
        self.links_by_name: dict[str, Link] = {}
        self.held: list[HeldAddress] = [HeldAddress("lo", ipaddress.ip_interface("127.0.0.1/8"), "host")]
        self.programs = {"ip": "/usr/sbin/ip"}
        self.commands: list[str] = []
        self.log: list[str] = []
        self.fail_at = ""  # a command or a change of an address that starts so fails
        self.networkd: dict[str, dict[str, Any]] = {}  # what networkctl says, by link
        self.nmcli: dict[str, str] = {}  # what nmcli says, by link
        self.ifupdown: dict[str, str] = {}  # what ifquery says, by its arguments
        self.devices: set[str] = set()  # device units that udev has made
        self.answers: dict[str, frozenset[str]] = {}  # who answers ARP on the segment
        self.asked: list[str] = []
        self.announced: list[str] = []
        self.put("/proc/sys/net/ipv4/conf/all/arp_ignore", "0\n")
        self.put("/proc/sys/net/ipv4/conf/all/arp_announce", "0\n")
        self.add_link(LO)
        self.add_link(ETH0)
        self.hold("eth0", "10.77.0.21/24")
        (folder / "etc/sysctl.d").mkdir(parents=True)

    # --- its parts

    def add_link(self, link: Link) -> None:
        self.links_by_name[link.name] = link
        self.sysctl(link.name, "arp_ignore", 0)
        self.sysctl(link.name, "arp_announce", 0)
        self.put(f"/proc/sys/net/ipv6/conf/{link.name}/disable_ipv6", "0\n")

    def change_link(self, name: str, **changes: Any) -> None:
        self.links_by_name[name] = replace(self.links_by_name[name], **changes)

    def hold(self, link: str, address: str, scope: str = "global", *states: str) -> None:
        self.held.append(HeldAddress(link, ipaddress.ip_interface(address), scope, frozenset(states)))

    def drop(self, link: str, address: str) -> None:
        self._drop(link, ipaddress.ip_interface(address))

    def _drop(self, link: str, address: IPInterface) -> None:
        (found,) = (entry for entry in self.held if (entry.link, entry.value) == (link, address))
        self.held.remove(found)

    def states_of(self, address: str) -> frozenset[str]:
        (found,) = (entry for entry in self.held if str(entry.ip) == address)
        return found.states

    def addresses_of(self, link: str) -> list[str]:
        return [str(entry.value) for entry in self.held if entry.link == link and not entry.ip.is_loopback]

    def sysctl(self, interface: str, name: str, value: Optional[int] = None) -> int:
        path = f"/proc/sys/net/ipv4/conf/{interface}/{name}"
        if value is not None:
            self.put(path, f"{value}\n")
        return int(self.get(path) or "")

    @property
    def arp(self) -> tuple[int, int]:
        return self.sysctl("all", "arp_ignore"), self.sysctl("all", "arp_announce")

    def put(self, path: str, text: str, mode: int = 0o644) -> None:
        file = self.folder / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        file.chmod(mode)

    def get(self, path: str) -> Optional[str]:
        file = self.folder / path.lstrip("/")
        return file.read_text(encoding="utf-8") if file.exists() else None

    def mode(self, path: str) -> int:
        return (self.folder / path.lstrip("/")).stat().st_mode & 0o7777

    def snapshot(self) -> dict[str, Any]:
        """All that a run could change."""
        disk = {}
        for root, _folders, names in os.walk(self.folder):
            for name in names:
                path = Path(root, name)
                shown = os.readlink(path) if path.is_symlink() else (path.read_bytes(), path.stat().st_mode)
                disk[str(path.relative_to(self.folder))] = shown
        disk.pop("run/lock/nft-dsr-addresses.lock", None)
        return {"disk": disk, "held": sorted(self.held, key=str)}

    # --- iproute2

    def links(self) -> dict[str, Link]:
        return dict(self.links_by_name)

    def addresses(self, link: Optional[str] = None) -> list[HeldAddress]:
        return [entry for entry in self.held if link in (None, entry.link)]

    def add_address(self, link: str, address: IPInterface) -> None:
        self._note(f"add {address} {link}")
        states = frozenset({"deprecated"} if address.version == 6 else ())
        entry = HeldAddress(link, address, "global", states)
        there = [other for other in self.held if (other.link, other.value) == (link, address)]
        for index, other in enumerate(self.held):
            if other in there:
                self.held[index] = entry
        if not there:
            self.held.append(entry)

    def delete_address(self, link: str, address: IPInterface) -> None:
        self._note(f"delete {address} {link}")
        self._drop(link, address)

    def _note(self, what: str) -> None:
        if self.fail_at and what.startswith(self.fail_at):
            raise CommandError(f"'{what}' failed")
        self.log.append(f"{what} at arp {self.arp}")

    # --- programs

    def find(self, name: str) -> Optional[str]:
        return self.programs.get(name)

    def run(self, argv: Sequence[str], stdin: Optional[str]) -> Completed:
        command = " ".join(argv).replace(str(self.folder), "ROOT")
        self.commands.append(command)
        if self.fail_at and command.startswith(self.fail_at):
            return Completed(tuple(argv), 1, "", "it was to fail")
        if argv[0] == "netplan":
            return self._netplan(argv)
        if argv[0] == "networkctl":
            status = self.networkd.get(argv[-1])
            return Completed(tuple(argv), 0 if status else 1, json.dumps(status), "")
        if argv[0] == "nmcli":
            return Completed(tuple(argv), 0 if argv[-1] in self.nmcli else 8, self.nmcli.get(argv[-1], "") + "\n", "")
        if argv[0] == "ifquery":
            return Completed(tuple(argv), 0, self.ifupdown.get(" ".join(argv[1:]), ""), "")
        if argv[0] == "ifup":
            return self._ifup(argv)
        if argv[:2] == ["systemctl", "show"]:
            return Completed(tuple(argv), 0, "active\n" if argv[-1] in self.devices else "inactive\n", "")
        return Completed(tuple(argv), 0, "", "")

    def install_netplan(self, **files: str) -> None:
        """``files``: text by name, without .yaml."""
        self.programs["netplan"] = "/usr/sbin/netplan"
        for name, text in files.items():
            self.put(f"/etc/netplan/{name}.yaml", text, 0o600)

    def _netplan(self, argv: Sequence[str]) -> Completed:
        root = Path(argv[argv.index("--root-dir") + 1])
        try:
            network = _merged(root)
        except yaml.YAMLError as error:
            return Completed(tuple(argv), 1, "", f"{root}/etc/netplan: {error}")
        if argv[1] == "get":
            return Completed(tuple(argv), 0, yaml.safe_dump({"network": network}, sort_keys=False), "")
        target = root / "run/systemd/network"
        for old in target.glob("10-netplan-*"):
            old.unlink()
        target.mkdir(parents=True, exist_ok=True)
        for devices in (value for value in network.values() if isinstance(value, dict)):
            for name, device in devices.items():
                if device.get("renderer", network.get("renderer")) != "NetworkManager":
                    (target / f"10-netplan-{name}.network").write_text(_rendered(name, device))
        return Completed(tuple(argv), 0, "", "")

    def _ifup(self, argv: Sequence[str]) -> Completed:
        """ifup that is to do nothing: it tells of each command of each stanza that the files have for its interface."""
        text = Path(argv[argv.index("--interfaces") + 1]).read_text()
        told = []
        stanza = ""
        for line in text.splitlines():
            words = line.split()
            if words[:1] == ["iface"]:
                stanza = words[1]
            elif words[:1] == ["up"] and stanza == argv[-1].partition("=")[0]:
                told.append(" ".join(words[1:]))
        return Completed(tuple(argv), 0, "", "\n".join(told))

    def enable(self, unit: str, wanted_by: str = "multi-user.target.wants") -> None:
        link = self.folder / "etc/systemd/system" / wanted_by / unit
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(f"/lib/systemd/system/{unit}")

    def enable_networkd(self) -> None:
        self.enable("systemd-networkd.service")

    def install_networkmanager(self, **states: str) -> None:
        """``states``: what nmcli says of each link."""
        self.enable("NetworkManager.service")
        self.enable("dbus-org.freedesktop.nm-dispatcher.service", "")
        self.programs["nmcli"] = "/usr/bin/nmcli"
        self.nmcli = states

    def install_ifupdown(self, interfaces: str, **more: str) -> None:
        """``interfaces``: the file; lo and eth0 are brought up at boot unless ``more`` says otherwise."""
        self.enable("networking.service")
        self.programs.update(ifup="/sbin/ifup", ifquery="/sbin/ifquery")
        self.put("/etc/network/interfaces", interfaces)
        self.ifupdown = {
            "--version": more.get("version", "ifquery version 0.8.41\n"),
            "--list": more.get("auto", "lo\neth0\n"),
            "--list --allow=hotplug": more.get("hotplug", ""),
            "--state": more.get("state", "lo=lo\neth0=eth0\n"),
        }

    def boot_systemd(self) -> None:
        self.put("/proc/1/comm", "systemd\n")
        self.programs.update(networkctl="/usr/bin/networkctl", systemctl="/usr/bin/systemctl")

    # --- the engines on it

    @property
    def host(self) -> Host:
        return Host(str(self.folder), self.run, self.find, self)

    def backend(self, *vips: str, check: bool = False, **options: Any) -> Outcome:
        return backend.ensure(self.host, {**DEFAULTS, "interface": "lo", "vips": list(vips), **options}, check)

    def vip_address(self, *addresses: str, check: bool = False, **options: Any) -> Outcome:
        return vip_address.ensure(
            self.host,
            {
                **DEFAULTS,
                "interface": "eth0",
                "addresses": list(addresses),
                "announce": True,
                "check_duplicate": True,
                **options,
            },
            check,
            resolve=self._resolve,
            announce=lambda _interface, group: self.announced.extend(group),
        )

    def info(self, *vips: str, **options: Any) -> dict[str, Any]:
        return info.look(self.host, {**DEFAULTS, "interface": "lo", "vips": list(vips), **options})

    def _resolve(self, _interface: str, addresses: Sequence[str]) -> dict[str, frozenset[str]]:
        self.asked += addresses
        return {address: macs for address, macs in self.answers.items() if address in addresses}


def _merged(root: Path) -> dict[str, Any]:
    """All files of netplan as one: dictionaries merge, lists grow, anything else is replaced."""

    def merge(into: dict[str, Any], other: dict[str, Any]) -> None:
        for key, value in other.items():
            if isinstance(value, dict) and isinstance(into.get(key), dict):
                merge(into[key], value)
            elif isinstance(value, list) and isinstance(into.get(key), list):
                into[key] = into[key] + value
            else:
                into[key] = value

    network: dict[str, Any] = {}
    paths = [path for folder in ("lib", "etc", "run") for path in (root / folder / "netplan").glob("*.yaml")]
    for path in sorted(paths, key=lambda path: path.name):
        merge(network, (yaml.safe_load(path.read_text()) or {}).get("network", {}))
    return network


def _rendered(name: str, device: dict[str, Any]) -> str:
    match = device.get("match", {})
    lines = ["[Match]", f"Name={match.get('name', device.get('set-name', name))}"]
    if "macaddress" in match:
        lines.append(f"PermanentMACAddress={match['macaddress']}")
    lines += ["", "[Network]"]
    lines += ["DHCP=ipv4"] if device.get("dhcp4") else []
    sections = []
    for address in device.get("addresses", []):
        if isinstance(address, dict):
            ((address, options),) = address.items()
            sections += ["", "[Address]", f"Address={address}"]
            sections += ["PreferredLifetime=0"] if options.get("lifetime") == 0 else []
        else:
            lines.append(f"Address={address}")
    return "\n".join([*lines, *sections, ""])


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    yield Machine(tmp_path)
