# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The nftables table that a set of VIPs asks for: maps, their elements, chains, their rules. Pure.

A packet's way: the ingress chain of its NIC looks its address, protocol and port up in one verdict map,
which sends it to the chain of its VIP. There an index (a seeded hash of the packet, or a counter) is
looked up in a slot table, which gives a backend's number; the backend's number is looked up in the
VIP's backends, which give the MAC address and count; the last chain writes the load balancer's own MAC
as the source and sends the frame out.

Names: what stands before the first '_' says what it is, what stands after it whose it is, so no name of
a VIP can clash with anything.

    ingress_<NIC>    chain   the hook
    services_<NIC>   map     address . protocol . port to chain; counts each service
    ranges_<NIC>     map     the same for port ranges; allports_<NIC> for all ports of a protocol
    output_<NIC>     chain   own MAC as source, out of this NIC
    vip_<VIP>        chain   what happens to a VIP's packets; syn_, fin_, fallback_, grace_: its parts
    slots_<VIP>      map     hash slot to backend; shared by VIPs with equal members and weights,
                             named after the one that had it first
    handout_<VIP>    map     the slots of backends that are not available: slot to backend instead
    turns_<VIP>      map     round-robin turn to backend
    backends_<VIP>   map     backend to MAC; a backend that is not here gets no packet
    guard_<VIP>      set     the backends' MACs: frames from them to the VIP are dropped
    flows_<VIP>      map     tracked flows; closing_: TCP flows after FIN or RST
    switch_<VIP>     map     turns the first seconds of a UDP drain on, and itself off
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

from . import schedule
from .model import Backend, Vip
from .table import Chain, KernelTable, Map, Spec, Table

# Fixed, so that every load and every load balancer hashes alike; 0 would mean "draw one".
_SEED = 0x2D5A1B0D

# How long a flow that sends nothing is remembered, in seconds, and how many flows a VIP may have.
SYN_TIMEOUT = 60
ESTABLISHED_TIMEOUT = 900
CLOSING_TIMEOUT = 60
UDP_TIMEOUT = 120
FLOW_TABLE_SIZE = 1048576

PLAIN = "plain"  # a hash VIP that tracks nothing
DRAINING = "draining"  # a hash VIP that tracks because a backend drains
RELEASED = "released"  # a hash VIP with entries left over from such a time, or from another scheduler
TRACKED = "tracked"  # a VIP whose scheduler tracks

# What stands before the '_' in the names of objects that belong to one VIP
VIP_OBJECTS = frozenset(
    (
        *("vip", "syn", "fin", "fallback", "grace"),
        *("slots", "handout", "turns", "backends", "guard", "flows", "closing", "switch"),
    )
)

_FLOW_KEY = "ip saddr . th sport . th dport"
_FLAGS = "tcp flags & (fin | syn | rst | ack)"


@dataclass(frozen=True)
class ResolvedVip:
    """A VIP and what the host adds to it: the NICs, and the MAC of each backend that has one."""

    vip: Vip
    interface: str
    backend_interface: str
    macs: Mapping[ipaddress.IPv4Address, str]

    def usable(self, backend: Backend) -> bool:
        """Packets may be sent to it: not down, and its MAC is known."""
        return not backend.down and backend.address in self.macs

    def eligible(self, backend: Backend) -> bool:
        """It gets new flows."""
        return self.usable(backend) and not backend.draining

    @property
    def weights(self) -> dict[int, int]:
        return {backend.mark: self.vip.table_weight(backend) for backend in self.vip.backends}


class _Builder:
    """Collects the objects of a table in the order in which they are made."""

    def __init__(self) -> None:
        self.maps: dict[str, Map] = {}
        self.chains: dict[str, Chain] = {}

    def map(
        self,
        name: str,
        declaration: Sequence[str],
        spec: Spec,
        elements: Optional[Mapping[str, str]],
        initial: Optional[Mapping[str, str]] = None,
    ) -> str:
        self.maps[name] = Map(name, tuple(declaration), spec, elements, initial or {})
        return name

    def chain(self, name: str, rules: Iterable[str], device: Optional[str] = None) -> str:
        self.chains[name] = Chain(name, tuple(rules), device)
        return name


def flow_modes(vips: Iterable[Vip], existing: Collection[str]) -> dict[str, str]:
    """How each VIP tracks flows, given the names of the maps that the kernel has."""
    return {vip.name: _flow_mode(vip, existing) for vip in vips}


def _flow_mode(vip: Vip, existing: Collection[str]) -> str:
    if not vip.hashed:
        return TRACKED
    if vip.draining:
        return DRAINING
    return RELEASED if f"flows_{vip.name}" in existing else PLAIN


def render(
    resolved: Sequence[ResolvedVip],
    own_macs: Mapping[str, str],
    slot_tables: Optional[Mapping[str, str]] = None,
    modes: Optional[Mapping[str, str]] = None,
) -> Table:
    """The table for these VIPs.

    ``own_macs`` has the MAC of each NIC that reaches backends. ``slot_tables`` says which slot table
    each VIP uses now, from slot_tables_in_use(), so that it keeps its name. ``modes`` comes from
    flow_modes().
    """
    build = _Builder()
    ordered = sorted(resolved, key=lambda item: item.vip.name)
    modes = modes if modes is not None else flow_modes([item.vip for item in ordered], ())
    names = _slot_table_names(ordered, slot_tables or {})
    for item in ordered:
        name = names[item.vip.name]
        if name not in build.maps:
            _slots_map(build, name, item)
    for item in ordered:
        _vip_objects(build, item, names[item.vip.name], modes[item.vip.name])
    for interface in sorted({item.backend_interface for item in ordered}):
        build.chain(
            f"output_{interface}",
            [f'ether saddr set {own_macs[interface]} fwd to "{interface}"'],
        )
    for interface in sorted({item.interface for item in ordered}):
        _dispatch(build, interface, [item for item in ordered if item.interface == interface])
    return Table(build.maps, build.chains)


def slot_tables_in_use(have: KernelTable) -> dict[str, str]:
    """Which slot table the rules of each VIP look up in the kernel: VIP to the map's name."""
    found = {}
    for name, chain in have.chains.items():
        kind, _underscore, owner = name.partition("_")
        if kind in ("vip", "fallback"):
            match = re.search(r"\bslots_[A-Za-z0-9_.-]+", "\n".join(chain.code))
            if match and match[0] in have.maps:
                found[owner] = match[0]
    return found


def _slot_table_names(ordered: Sequence[ResolvedVip], in_use: Mapping[str, str]) -> dict[str, str]:
    """The slot table of each VIP: one for all VIPs with equal members and weights.

    A table is named after the VIP that had it first and keeps its name while a VIP uses it, so that a
    change of one VIP does not rename what others look up.
    """
    groups: dict[tuple[tuple[int, int], ...], list[str]] = {}
    for item in ordered:
        groups.setdefault(tuple(sorted(item.weights.items())), []).append(item.vip.name)
    # Where a group splits, the larger part keeps the table: fewer rules change.
    by_size = sorted(groups.values(), key=lambda vips: (-len(vips), vips[0]))
    taken: dict[str, str] = {}  # name of the table to the first VIP of its group
    for vips in by_size:
        kept = next((in_use[vip] for vip in vips if in_use.get(vip, "") not in ("", *taken)), None)
        if kept:
            taken[kept] = vips[0]
    names: dict[str, str] = {}
    for vips in by_size:
        name = next((table for table, first in taken.items() if first == vips[0]), None)
        if name is None:
            name = f"slots_{vips[0]}"
            number = 2
            while name in taken:
                name = f"slots_{vips[0]}.{number}"  # no VIP's name has a dot
                number += 1
            taken[name] = vips[0]
        names.update((vip, name) for vip in vips)
    return names


def _mark(number: int) -> str:
    return f"0x{number:08x}"


def _slots_spec(size: int) -> tuple[tuple[str, ...], Spec]:
    return (f"typeof numgen inc mod {size} : meta mark", f"size {size}"), Spec(("integer",), "mark", size)


def _slots_map(build: _Builder, name: str, item: ResolvedVip) -> None:
    owners = schedule.hash_table(item.weights)
    declaration, spec = _slots_spec(len(owners))
    elements = {str(slot): _mark(owner) for slot, owner in enumerate(owners)}
    build.map(name, declaration, spec, elements)


def _vip_objects(build: _Builder, item: ResolvedVip, slot_table: str, mode: str) -> None:
    vip = item.vip
    name = vip.name
    slots = schedule.hash_slots(len(vip.backends))
    eligible = [backend for backend in vip.backends if item.eligible(backend)]

    homes = schedule.handout(item.weights, [backend.mark for backend in eligible])
    declaration, spec = _slots_spec(slots)
    build.map(f"handout_{name}", declaration, spec, {str(slot): _mark(taker) for slot, taker in homes.items()})
    build.map(
        f"backends_{name}",
        ("type mark : ether_addr", "counter"),
        Spec(("mark",), "ether_addr", counter=True),
        {_mark(backend.mark): item.macs[backend.address] for backend in vip.backends if item.usable(backend)},
    )
    build.map(
        f"guard_{name}",
        ("type ether_addr",),
        Spec(("ether_addr",), None),
        {item.macs[backend.address]: "" for backend in vip.backends if backend.address in item.macs},
    )
    if not vip.hashed:
        turns = schedule.turn_slots(len(vip.backends))
        table = schedule.turn_table({backend.mark: backend.weight for backend in eligible}, turns)
        declaration, spec = _slots_spec(turns)
        build.map(f"turns_{name}", declaration, spec, {str(turn): _mark(owner) for turn, owner in enumerate(table)})
    if mode != PLAIN:
        _flow_map(build, f"flows_{name}")
        if vip.protocol == "tcp":
            _flow_map(build, f"closing_{name}")

    rules = _VipRules(vip, item.backend_interface, slot_table, slots, has_eligible=bool(eligible))
    guard = f"ether saddr @guard_{name} counter drop"
    if mode == PLAIN:
        build.chain(f"vip_{name}", [guard, *rules.by_full_table()])
        return
    build.chain(f"fallback_{name}", rules.by_full_table())
    if vip.protocol == "tcp":
        build.chain(f"syn_{name}", rules.tcp_syn(mode))
        build.chain(f"fin_{name}", rules.tcp_fin())
        build.chain(f"vip_{name}", [guard, *rules.tcp()])
    else:
        if mode == DRAINING:
            build.chain(f"grace_{name}", rules.udp_grace())
            build.map(
                f"switch_{name}",
                ("type inet_proto : verdict", "flags timeout"),
                Spec(("inet_proto",), "verdict", flags=frozenset({"timeout"})),
                None,
                {f"{vip.protocol} timeout {UDP_TIMEOUT}s": f"goto grace_{name}"},
            )
        build.chain(f"vip_{name}", [guard, *rules.udp(mode)])


def _flow_map(build: _Builder, name: str) -> None:
    build.map(
        name,
        (f"typeof {_FLOW_KEY} : meta mark", f"size {FLOW_TABLE_SIZE}", "flags dynamic,timeout"),
        Spec(
            ("ipv4_addr", "inet_service", "inet_service"),
            "mark",
            FLOW_TABLE_SIZE,
            frozenset({"timeout"}),
        ),
        None,
    )


class _VipRules:
    """The rules of one VIP. Each rule ends the packet's way, or breaks off and leaves it to the next.

    A lookup that finds nothing breaks the rule. An update of a full flow table breaks it too, which is
    why recording and forwarding always share one rule: what can't be recorded falls to the hash, and so
    does every later packet of that flow.
    """

    def __init__(self, vip: Vip, backend_interface: str, slot_table: str, slots: int, has_eligible: bool) -> None:
        name = vip.name
        self._vip = vip
        self._has_eligible = has_eligible
        field_of_port = f"{vip.protocol} sport"
        hashed = f"ip saddr . {field_of_port}" if vip.scheduler == "connection_hash" or not vip.hashed else "ip saddr"
        index = f"meta mark set jhash {hashed} mod {slots} seed {_SEED:#x}"
        self._owner = f"{index} map @{slot_table}"
        self._taker = f"{index} map @handout_{name}"
        turns = schedule.turn_slots(len(vip.backends))
        self._turn = f"meta mark set numgen inc mod {turns} map @turns_{name}"
        self._to_backend = f"ether daddr set meta mark map @backends_{name}"
        self._out = f"goto output_{backend_interface}"
        self._flow = f"meta mark set {_FLOW_KEY} map @flows_{name}"
        self._closing = f"meta mark set {_FLOW_KEY} map @closing_{name}"

    def _set(self, operation: str, kind: str, timeout: int = 0) -> str:
        life = f" timeout {timeout}s" if timeout else ""
        return f"{operation} @{kind}_{self._vip.name} {{ {_FLOW_KEY}{life} : meta mark }}"

    def _forward(self, choice: str, *notes: str) -> str:
        return " ".join((choice, self._to_backend, *notes, self._out))

    def _record(self, choice: str) -> str:
        """Choose, record, forward. Deleting first: an update would renew a dead backend's entry."""
        tcp = self._vip.protocol == "tcp"
        forget = (self._set("delete", "flows"), *((self._set("delete", "closing"),) if tcp else ()))
        return " ".join(
            (
                choice,
                self._to_backend,
                *forget,
                self._set("update", "flows", SYN_TIMEOUT if tcp else UDP_TIMEOUT),
                self._out,
            )
        )

    def by_full_table(self) -> list[str]:
        """The slot's owner; if it isn't available, who has the slot meanwhile; or nobody."""
        return [self._forward(self._owner), self._forward(self._taker), "counter drop"]

    def _schedule_new(self, mode: str) -> list[str]:
        if not self._has_eligible:
            return []
        if mode == TRACKED:
            return [self._record(self._turn)]
        # Slots of backends that get no new flows are all in the handout; any other owner is fine.
        return [self._record(self._taker), self._record(self._owner)]

    def tcp(self) -> list[str]:
        name = self._vip.name
        return [
            f"{_FLAGS} == syn goto syn_{name}",
            f"tcp flags & (fin | rst) != 0 goto fin_{name}",
            self._forward(self._flow, self._set("update", "flows", ESTABLISHED_TIMEOUT)),
            # Once closing, never established again: a half-closed download lives while it moves.
            self._forward(self._closing, self._set("update", "closing", CLOSING_TIMEOUT)),
            f"goto fallback_{name}",
        ]

    def tcp_syn(self, mode: str) -> list[str]:
        name = self._vip.name
        repeated = self._forward(self._flow)  # a SYN sent again stays with its backend
        if mode == RELEASED:
            # Nothing new is recorded, but an entry of an earlier connection of these ports must not
            # catch the packets that follow.
            return [repeated, self._set("delete", "closing"), f"goto fallback_{name}"]
        if not self._has_eligible:
            return [repeated, "counter drop"]
        return [repeated, *self._schedule_new(mode), f"counter goto fallback_{name}"]

    def tcp_fin(self) -> list[str]:
        return [
            self._forward(self._flow, self._set("update", "closing", CLOSING_TIMEOUT), self._set("delete", "flows")),
            self._forward(self._flow),  # the closing table is full: the entry stays where it is
            self._forward(self._closing, self._set("update", "closing", CLOSING_TIMEOUT)),
            f"goto fallback_{self._vip.name}",
        ]

    def udp(self, mode: str) -> list[str]:
        name = self._vip.name
        known = self._forward(self._flow, self._set("update", "flows", UDP_TIMEOUT))
        if mode == RELEASED:
            return [known, f"goto fallback_{name}"]
        grace = [f"ip protocol vmap @switch_{name}"] if mode == DRAINING else []
        if not self._has_eligible:
            return [known, *grace, "counter drop"]
        return [known, *grace, *self._schedule_new(mode), f"counter goto fallback_{name}"]

    def udp_grace(self) -> list[str]:
        """In the first seconds of a drain an unknown flow may be an old one: by the full table."""
        return [
            self._record(self._owner),
            self._record(self._taker),
            f"counter goto fallback_{self._vip.name}",
        ]


def _dispatch(build: _Builder, interface: str, items: Sequence[ResolvedVip]) -> None:
    singles: dict[str, str] = {}
    ranges: dict[str, str] = {}
    everything: dict[str, str] = {}
    for item in items:
        vip = item.vip
        verdict = f"goto vip_{vip.name}"
        if not vip.ports:
            everything[f"{vip.address} . {vip.protocol}"] = verdict
        for ports in vip.ports:
            into = singles if ports.first == ports.last else ranges
            into[f"{vip.address} . {vip.protocol} . {ports}"] = verdict
    # A flooded frame is never forwarded: two load balancers would pass it to and fro for ever.
    rules = ["meta pkttype != host accept"]
    by_port = "ip daddr . ip protocol . th dport"
    key = ("ipv4_addr", "inet_proto", "inet_service")
    # The first is always there, so that adding a VIP edits an element and no rule.
    build.map(
        f"services_{interface}", (f"typeof {by_port} : verdict", "counter"), Spec(key, "verdict", counter=True), singles
    )
    rules.append(f"{by_port} vmap @services_{interface}")
    if ranges:
        build.map(
            f"ranges_{interface}",
            (f"typeof {by_port} : verdict", "flags interval", "counter"),
            Spec(key, "verdict", flags=frozenset({"interval"}), counter=True),
            ranges,
        )
        rules.append(f"{by_port} vmap @ranges_{interface}")
    if everything:
        build.map(
            f"allports_{interface}",
            ("typeof ip daddr . ip protocol : verdict", "counter"),
            Spec(key[:2], "verdict", counter=True),
            everything,
        )
        rules.append(f"ip daddr . ip protocol vmap @allports_{interface}")
    build.chain(f"ingress_{interface}", rules, device=interface)
