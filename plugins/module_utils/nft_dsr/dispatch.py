# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way in and the way out: to which VIP a frame of a NIC belongs, and how it leaves. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from .model import Vip
from .packet_fields import IP_PROTOCOLS, Family
from .probing import incoming
from .resolved import PLAIN, ResolvedVip
from .table import Names, Spec, TableBuilder

FRAGMENT_TIMEOUT = 30  # seconds in which all fragments of a datagram arrive
FRAGMENT_TABLE_SIZE = 65536
# Stations that must not send to VIPs, or not to all of them, and the chain that looks closer at what they send.
STATIONS, GUARD = "stations_all", "guard_all"
_NO_MAC = "00:00:00:00:00:00"
# Maps that count packets by service.
SERVICE_MAPS = frozenset(
    f"{name}{suffix}" for name in ("services", "ranges", "allports", "any") for suffix in ("", "6")
)


def service_keys(vip: Vip) -> list[str]:
    """By what a VIP's packets are found in those maps."""
    if vip.protocol == "any":
        return [str(vip.address)]
    service = f"{vip.address} . {vip.protocol}"
    return [f"{service} . {ports}" for ports in vip.ports] or [service]


def guard(build: TableBuilder, items: Sequence[ResolvedVip], own_macs: Mapping[str, str]) -> None:
    """What stations must not send: backends to a VIP that is theirs (they would be forwarding), we ourselves to any.

    In two steps, as most packets come from none of these: whether it is one of them, and whose.
    """
    stations: set[str] = set()
    for family in families(items):
        pairs: dict[str, str] = {}
        for item in items:
            if item.family != family:
                continue
            macs = {item.macs[backend.address] for backend in item.vip.backends if backend.address in item.macs}
            macs |= {_NO_MAC, own_macs[item.interface], own_macs[item.backend_interface]}
            pairs.update((f"{mac} . {item.vip.address}", "") for mac in sorted(macs))
            stations |= macs
        types = ("ether_addr", family.address_type)
        build.map(family.guard, (f"type {' . '.join(types)}",), Spec(types, None), pairs)
        vips = sorted({str(item.vip.address) for item in items if item.family == family})
        build.map(family.vips, (f"type {family.address_type}",), Spec(types[1:], None), dict.fromkeys(vips, ""))
    build.map(STATIONS, ("type ether_addr",), Spec(("ether_addr",), None), dict.fromkeys(sorted(stations), ""))
    build.chain(GUARD, [f"ether saddr . {family.daddr} @{family.guard} counter drop" for family in families(items)])


def guarded() -> str:
    """The rule that has the guard look at what such a station sends."""
    return f"ether saddr @{STATIONS} jump {GUARD}"


def output_chains(build: TableBuilder, interface: str, items: Sequence[ResolvedVip]) -> None:
    """The last chain, of each family. A fragment that got here is the first of its datagram: others have no ports."""
    for family in families(items):
        rules = []
        if family.steers:
            name = build.map(
                f"fragments{family.suffix}_{interface}",
                (
                    family.fragment_declaration,
                    f"size {FRAGMENT_TABLE_SIZE}",
                    "flags dynamic,timeout",
                    f"timeout {FRAGMENT_TIMEOUT}s",
                ),
                Spec(
                    family.fragment_types,
                    "ether_addr",
                    FRAGMENT_TABLE_SIZE,
                    frozenset({"timeout"}),
                    timeout=FRAGMENT_TIMEOUT,
                ),
                None,
            )
            entry = f"@{name} {{ {family.fragment_key} : ether daddr }}"
            # Datagrams' numbers come round again: an update alone would keep the old one's backend.
            rules.append(f"{family.is_fragment} delete {entry} update {entry}")
        build.chain(f"output{family.suffix}_{interface}", [*rules, f'fwd to "{interface}"'])


def _send(interface: str, own_macs: Mapping[str, str]) -> str:
    return f'ether saddr set {own_macs[interface]} fwd to "{interface}"'


def families(items: Iterable[ResolvedVip]) -> list[Family]:
    """IPv4 before IPv6, those that there are."""
    return sorted({item.family for item in items}, key=lambda family: family.version)


class Dispatch:
    """The hook of one NIC: to which VIP a packet belongs."""

    def __init__(
        self,
        build: TableBuilder,
        interface: str,
        items: Sequence[ResolvedVip],
        answering: Sequence[ResolvedVip],
        own_macs: Mapping[str, str],
        modes: Mapping[str, str],
        names: Mapping[str, Names],
    ) -> None:
        self._build = build
        self._interface = interface
        self._items = items
        self._answering = answering  # VIPs whose backends answer health checks through this NIC
        self._own_macs = own_macs
        self._modes = modes
        self._names = names

    def render(self) -> None:
        # A flooded frame is never forwarded: two load balancers would pass it to and fro for ever.
        rules = ["meta pkttype != host accept"]
        later = []
        for family in families(self._items):
            items = [item for item in self._items if item.family == family]
            rules += self._ports(family, items)
            later += self._without_ports(family, items)
        for family in families(self._items):
            later += self._whole_protocols(family, [item for item in self._items if item.family == family])
        for family in families(self._answering):
            items = [item for item in self._answering if item.family == family]
            later.append(incoming(self._build, self._interface, items, family))
        self._build.chain(f"ingress_{self._interface}", [*rules, *later], device=self._interface)

    def _map(
        self,
        kind: str,
        family: Family,
        key: str,
        types: Sequence[str],
        elements: Mapping[str, str],
        interval: bool = False,
        counter: bool = True,
    ) -> str:
        """A verdict map of this NIC; the name by which rules look it up."""
        # By types where there are any: nft 1.0.2 cannot list an interval map that was declared by fields.
        declared = f"typeof {key}" if "integer" in types else f"type {' . '.join(types)}"
        lines = [f"{declared} : verdict"]
        lines += ["flags interval"] if interval else []
        lines += ["counter"] if counter else []
        flags = frozenset({"interval"}) if interval else frozenset[str]()
        name = f"{kind}{family.suffix}_{self._interface}"
        self._build.map(name, lines, Spec(tuple(types), "verdict", flags=flags, counter=counter), elements)
        return f"@{name}"

    def _to(self, item: ResolvedVip) -> str:
        return f"goto {self._names[item.vip.name].chain}"

    def _ports(self, family: Family, items: Sequence[ResolvedVip]) -> list[str]:
        key = f"{family.daddr} . {family.protocol} . th dport"
        types = (family.address_type, "inet_proto", "inet_service")
        singles: dict[str, str] = {}
        ranges: dict[str, str] = {}
        for item in items:
            for ports in item.vip.ports:
                into = singles if ports.first == ports.last else ranges
                into[f"{item.vip.address} . {item.vip.protocol} . {ports}"] = self._to(item)
        # The first is always there, so that adding a VIP edits an element and no rule.
        rules = [f"{key} vmap {self._map('services', family, key, types, singles)}"]
        if ranges:
            rules.append(f"{key} vmap {self._map('ranges', family, key, types, ranges, interval=True)}")
        return rules

    def _without_ports(self, family: Family, items: Sequence[ResolvedVip]) -> list[str]:
        """Packets that belong to a flow and don't say so by their own ports."""
        if not family.steers:
            return []
        fragment = self._build.chain(f"fragment{family.suffix}_{self._interface}", self._fragments(family, items))
        icmp = self._build.chain(f"icmp{family.suffix}_{self._interface}", self._errors(family, items))
        return [
            f"{family.is_later_fragment} goto {fragment}",
            *(f"{condition} goto {icmp}" for condition in family.is_error),
        ]

    def _fragments(self, family: Family, items: Sequence[ResolvedVip]) -> list[str]:
        rules = [guarded()]
        rules += [
            f"ether daddr set {family.fragment_key} map @fragments{family.suffix}_{interface} "
            + _send(interface, self._own_macs)
            for interface in sorted({item.backend_interface for item in items})
        ]
        # A fragment whose first one was not seen (it may come later) can go where its client's others
        # go, if the client's address alone says where that is.
        by_service: dict[str, list[ResolvedVip]] = {}
        for item in items:
            if item.vip.protocol != "any":
                by_service.setdefault(f"{item.vip.address} . {item.vip.protocol}", []).append(item)
        orphans = {
            service: self._to(group[0])
            for service, group in by_service.items()
            if len(group) == 1 and group[0].vip.scheduler == "source_hash" and self._modes[group[0].vip.name] == PLAIN
        }
        # Always there, so that a second VIP on an address edits an element and no rule.
        key = f"{family.daddr} . {family.protocol}"
        types = (family.address_type, "inet_proto")
        rules.append(f"{key} vmap {self._map('orphans', family, key, types, orphans, counter=False)}")
        if any(item.vip.protocol == "any" for item in items):
            rules.append(self._rest(family, items))
        return rules

    def _errors(self, family: Family, items: Sequence[ResolvedVip]) -> list[str]:
        singles: dict[str, str] = {}
        ranges: dict[str, str] = {}
        everything: dict[str, str] = {}
        rest: dict[str, str] = {}
        for item in items:
            vip = item.vip
            verdict = f"goto {self._names[vip.name].error}"
            if vip.protocol == "any":
                rest[str(vip.address)] = verdict
                continue
            number = IP_PROTOCOLS[vip.protocol]
            if not vip.ports:
                everything[f"{vip.address} . {number}"] = verdict
            for ports in vip.ports:
                into = singles if ports.first == ports.last else ranges
                into[f"{vip.address} . {number} . {ports}"] = verdict
        by_protocol = f"{family.daddr} . {family.quoted_protocol}"
        by_port = f"{by_protocol} . {family.quoted_service_port}"
        types = (family.address_type, "integer", "integer")
        rules = [f"{by_port} vmap {self._map('errors', family, by_port, types, singles, counter=False)}"]
        if ranges:
            name = self._map("errorranges", family, by_port, types, ranges, interval=True, counter=False)
            rules.append(f"{by_port} vmap {name}")
        if everything:
            name = self._map("errorall", family, by_protocol, types[:2], everything, counter=False)
            rules.append(f"{by_protocol} vmap {name}")
        if rest:
            name = self._map("errorany", family, family.daddr, types[:1], rest, counter=False)
            rules.append(f"{family.daddr} vmap {name}")
        return rules

    def _whole_protocols(self, family: Family, items: Sequence[ResolvedVip]) -> list[str]:
        everything = {
            f"{item.vip.address} . {item.vip.protocol}": self._to(item)
            for item in items
            if not item.vip.ports and item.vip.protocol != "any"
        }
        rules = []
        if everything:
            key = f"{family.daddr} . {family.protocol}"
            types = (family.address_type, "inet_proto")
            rules.append(f"{key} vmap {self._map('allports', family, key, types, everything)}")
        if any(item.vip.protocol == "any" for item in items):
            rules.append(self._rest(family, items))
        return rules

    def _rest(self, family: Family, items: Sequence[ResolvedVip]) -> str:
        """What is for an address that takes every protocol. Echo and the like are the host's own."""
        rest = {str(item.vip.address): self._to(item) for item in items if item.vip.protocol == "any"}
        name = self._map("any", family, family.daddr, (family.address_type,), rest)
        return f"{family.protocol} != {family.icmp} {family.daddr} vmap {name}"
