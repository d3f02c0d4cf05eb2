# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A load balancer made of data: its NICs, addresses and routes, the hosts on its segments, and its kernel."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from ansible_collections.dsr.layer2.plugins.module_utils.common.command import Completed
from ansible_collections.dsr.layer2.plugins.module_utils.common.iproute import Iproute
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.engine import LoadBalancer
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.kernel import Kernel
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.live import LiveFile
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.nft_dsr.memory_nft import MemoryNft

OWN = {"eth0": "02:d5:00:00:00:02", "eth1": "02:d5:00:00:01:02"}


def mac_of(address: str) -> str:
    """The MAC of a host of these segments: its address's last two bytes, after the version if that is 6."""
    packed = ipaddress.ip_address(address).packed
    return "02:d5:00:{:02x}:{:02x}:{:02x}".format(6 if len(packed) > 4 else 0, *packed[-2:])


def backends(*last_octets: int, **options: Any) -> list[dict[str, Any]]:
    return [{"address": f"10.77.0.{octet}", **options} for octet in last_octets]


def backends6(*last_groups: int, **options: Any) -> list[dict[str, Any]]:
    """The same in IPv6; 21 is ::21 there."""
    return [{"address": f"fd00:77::{group}", **options} for group in last_groups]


def vip(name: str = "web", **options: Any) -> dict[str, Any]:
    """What a user writes for a VIP."""
    given = {"name": name, "address": "10.77.0.100", "ports": ["80"], "backends": backends(21, 22, 23), **options}
    return {key: value for key, value in given.items() if value is not None}


def vip6(name: str = "web", **options: Any) -> dict[str, Any]:
    """What a user writes for a VIP in IPv6."""
    return vip(name, **{"address": "fd00:77::100", "backends": backends6(21, 22, 23), **options})


class Network:
    """What `ip` says, and who answers ARP and neighbour solicitations.

    eth0 is on 10.77.0.0/24 and fd00:77::/64, eth1 on 10.78.0.0/24 and fd00:78::/64, routers are on eth0.
    """

    def __init__(self) -> None:
        self.links: dict[str, Optional[str]] = {"lo": None, **OWN}
        self.addresses = {
            "lo": ["127.0.0.1/8", "::1/128"],
            "eth0": ["10.77.0.2/24", "10.77.0.100/32", "fd00:77::2/64", "fd00:77::100/128", "fe80::2/64"],
            "eth1": ["10.78.0.2/24", "fd00:78::2/64", "fe80::1:2/64"],
        }
        self.routers: dict[int, str] = {4: "10.77.0.1", 6: "fd00:77::1"}
        self.indices = {name: index for index, name in enumerate(self.links, 1)}
        self.answers: dict[str, frozenset[str]] = {}  # what differs from mac_of()
        self.asked: list[tuple[str, tuple[str, ...]]] = []

    def renumber(self, nic: str) -> None:
        """The NIC goes and comes back: with the same name and MAC, and with an index of its own."""
        self.indices[nic] = max(self.indices.values()) + 1

    def silence(self, *addresses: str) -> None:
        """Hosts that don't answer."""
        self.answers.update(dict.fromkeys(addresses, frozenset()))

    def resolve(self, interface: str, addresses: Iterable[str]) -> Mapping[str, frozenset[str]]:
        wanted = tuple(addresses)
        self.asked.append((interface, wanted))
        found = {address: self.answers.get(address, frozenset({mac_of(address)})) for address in wanted}
        return {address: macs for address, macs in found.items() if macs}

    def ip(self, argv: Sequence[str], stdin: Optional[str] = None) -> Completed:
        if "-batch" in argv:
            said = [self._route(line.split()[-1]) for line in (stdin or "").splitlines()]
            return Completed(tuple(argv), 0 if all(said) else 1, "".join(f"{line}\n" for line in said if line), "")
        rows: list[dict[str, Any]] = [
            {
                "ifname": name,
                "ifindex": self.indices[name],
                "flags": ["UP", "LOWER_UP"] if name != "lo" else ["LOOPBACK", "UP"],
                "link_type": "ether" if mac else "loopback" if name == "lo" else "none",
                **({"address": mac} if mac else {}),
                "addr_info": [
                    {"local": text.split("/")[0], "prefixlen": int(text.split("/")[1]), "scope": "global"}
                    for text in self.addresses.get(name, ())
                ],
            }
            for name, mac in self.links.items()
        ]
        return Completed(tuple(argv), 0, json.dumps(rows), "")

    def _route(self, text: str) -> str:
        address = ipaddress.ip_address(text)
        for name, held in self.addresses.items():
            if any(address == ipaddress.ip_interface(item).ip for item in held):
                return json.dumps([{"type": "local", "dst": text, "dev": "lo"}])
            networks = [ipaddress.ip_interface(item).network for item in held]
            if any(network.prefixlen < network.max_prefixlen and address in network for network in networks):
                return json.dumps([{"dst": text, "dev": name}])
        router = self.routers.get(address.version)
        return json.dumps([{"dst": text, "gateway": router, "dev": "eth0"}]) if router else ""


class Host:
    """A load balancer that keeps its state in ``folder``.

    One that is ``forgetful`` cannot tell whether somebody changed a rule since its last run, and always reads all.
    """

    def __init__(self, folder: Path, forgetful: bool = False) -> None:
        self.nft = MemoryNft()
        self.network = Network()
        self.folder = folder / "nft-dsr"
        self.run_folder = folder / "run"
        self.forgetful = forgetful

    @property
    def load_balancer(self) -> LoadBalancer:
        """A new one for each call, as each run of a module has one."""
        return LoadBalancer(
            kernel=Kernel(self.nft, lambda: None if self.forgetful else self.nft.generation),
            iproute=Iproute(self.network.ip),
            resolver=self.network.resolve,
            directory=str(self.folder),
            lock_file=str(self.run_folder / "lock"),
            seen_file=str(self.run_folder / "seen.json"),
            others_seen=(),
            live=self.live_file,
        )

    @property
    def live_file(self) -> LiveFile:
        """Where the agent says what it found out; nothing where none runs."""
        return LiveFile(str(self.run_folder / "state.json"), str(self.run_folder / "agent.lock"))

    def files(self) -> dict[str, str]:
        return {path.name: path.read_text() for path in self.folder.iterdir()} if self.folder.exists() else {}

    def everything(self) -> tuple[Any, dict[str, str]]:
        """What a run can change."""
        return {name: table.contents() for name, table in self.nft.tables.items()}, self.files()
