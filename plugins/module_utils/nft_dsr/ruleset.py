# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The nftables table that a set of VIPs asks for: maps, their elements, chains, their rules. Pure.

A packet's way: the ingress chain of its NIC looks its address, protocol and port up in one verdict map,
which sends it to the chain of its VIP. There an index (a seeded hash of the packet, or a counter) is
looked up in a slot table, which gives a backend's number; the backend's number is looked up in the
VIP's backends, which give the MAC address and count; the last chain writes the load balancer's own MAC
as the source and sends the frame out. What has no ports of its own takes another way: the later
fragments of a datagram follow its first, and an ICMP error follows the flow that it quotes.

Names: what stands before the first '_' says what it is, what stands after it whose it is, so no name of
a VIP can clash with anything. What a NIC has for IPv4 and IPv6 both ends in 6 for the latter.

    ingress_<NIC>       chain   the hook
    services_<NIC>      map     address . protocol . port to chain; counts each service
    ranges_<NIC>        map     the same for port ranges; allports_ for all ports of a protocol, any_ for the rest
    errors_<NIC>        map     the same by what an ICMP error quotes; also errorranges_, errorall_, errorany_
    icmp_<NIC>          chain   ICMP errors
    fragment_<NIC>      chain   fragments without ports, that is all but the first
    orphans_<NIC>       map     where those go of which no first one was seen, by address . protocol
    fragments_<NIC>     map     datagrams of which the first fragment went out of this NIC: to which MAC
    output_<NIC>        chain   out of this NIC
    stations_all        set     MACs of backends and our own; guard_ip, guard_ip6: MAC . VIP that must not be
    guard_all           chain   drops what these send to such a VIP: a backend that forwards makes no storm
    vip_<VIP>           chain   what happens to a VIP's packets; syn_, fin_, fallback_, grace_: its parts
    error_<VIP>         chain   ICMP errors about a VIP's flows
    slots_<VIP>         map     hash slot to backend; shared by VIPs with equal members and weights,
                                named after the one that had it first
    handout_<VIP>       map     the slots of backends that are not available: slot to backend instead
    turns_<VIP>         map     round-robin turn to backend
    backends_<VIP>      map     backend to its MAC and our own, as frames begin; one that is not here gets no packet
    fit_<VIP>           set     the backends that get new flows, where clients are remembered
    allow_<VIP>         set     sources that may come; deny_: that may not; newflows_: how many flows each began
    flows_<VIP>         map     tracked flows; closing_: connections after their end began
    clients_<VIP>       map     clients that are to stay with their backend
    switch_<VIP>        map     turns the first seconds of a UDP drain on, and itself off
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Optional

from . import schedule
from .dialect import CURRENT, Dialect
from .dispatch import Dispatch, guard, output_chains
from .model import IPNetwork, Vip
from .resolved import DRAINING, PLAIN, RELEASED, TRACKED, ResolvedVip
from .table import KernelTable, Spec, Table, TableBuilder
from .vip_rules import VipRules

_ETHER_TYPES = {4: "ip", 6: "ip6"}
NEW_FLOWS_TABLE_SIZE = 65536
# How long a source is remembered that began flows; longer than any burst lasts at its rate.
_NEW_FLOWS_TIMEOUT = {"second": 10, "minute": 120, "hour": 7200, "day": 172800}

# What stands before the '_' in the names of objects that belong to one VIP
VIP_OBJECTS = frozenset(
    (
        *("vip", "syn", "fin", "fallback", "grace", "error", "slots", "handout", "turns", "backends", "fit"),
        *("allow", "deny", "newflows", "flows", "closing", "clients", "switch"),
    )
)
# Maps that count packets by service, without the suffix of their family.
SERVICE_MAPS = frozenset(
    f"{name}{suffix}" for name in ("services", "ranges", "allports", "any") for suffix in ("", "6")
)


def flow_modes(vips: Iterable[Vip], existing: Collection[str]) -> dict[str, str]:
    """How each VIP tracks flows, given the names of the maps that the kernel has."""
    return {vip.name: _flow_mode(vip, existing) for vip in vips}


def _flow_mode(vip: Vip, existing: Collection[str]) -> str:
    if vip.tracks:
        return TRACKED
    if vip.draining:
        return DRAINING
    return RELEASED if f"flows_{vip.name}" in existing else PLAIN


def render(
    resolved: Sequence[ResolvedVip],
    own_macs: Mapping[str, str],
    slot_tables: Optional[Mapping[str, str]] = None,
    modes: Optional[Mapping[str, str]] = None,
    dialect: Dialect = CURRENT,
) -> Table:
    """The table for these VIPs.

    ``own_macs`` has the MAC of each NIC that reaches backends. ``slot_tables`` says which slot table
    each VIP uses now, from slot_tables_in_use(), so that it keeps its name. ``modes`` comes from
    flow_modes(), ``dialect`` is what the host's nft understands.
    """
    build = TableBuilder()
    ordered = [replace(item, dialect=dialect) for item in sorted(resolved, key=lambda item: item.vip.name)]
    modes = modes if modes is not None else flow_modes([item.vip for item in ordered], ())
    names = _slot_table_names(ordered, slot_tables or {})
    if ordered:
        guard(build, ordered, own_macs)  # first: the kernel finds the sets by walking a list
    for item in ordered:
        name = names[item.vip.name]
        if name not in build.maps:
            owners = schedule.hash_table(item.weights())
            _slots_map(build, name, item, len(owners), dict(enumerate(owners)))
    for item in ordered:
        _vip_objects(build, item, names[item.vip.name], modes[item.vip.name], own_macs[item.backend_interface])
    for interface in sorted({item.backend_interface for item in ordered}):
        output_chains(build, interface, [item for item in ordered if item.backend_interface == interface])
    for interface in sorted({item.interface for item in ordered}):
        arriving = [item for item in ordered if item.interface == interface]
        Dispatch(build, interface, arriving, own_macs, modes).render()
    return Table(build.maps, build.chains)


def slot_tables_in_use(have: KernelTable) -> dict[str, str]:
    """Which slot table the rules of each VIP look up in the kernel: VIP to the map's name."""
    return _slot_tables({name: chain.code for name, chain in have.chains.items()}, have.maps)


def slot_tables_of(table: Table) -> dict[str, str]:
    """The same of a table that is wanted."""
    return _slot_tables({name: chain.rules for name, chain in table.chains.items()}, table.maps)


def _slot_tables(chains: Mapping[str, Sequence[str]], maps: Collection[str]) -> dict[str, str]:
    found = {}
    for name, rules in chains.items():
        kind, _underscore, owner = name.partition("_")
        if kind in ("vip", "fallback"):
            match = re.search(r"\bslots_[A-Za-z0-9_.-]+", "\n".join(rules))
            if match and match[0] in maps:
                found[owner] = match[0]
    return found


def _slot_table_names(ordered: Sequence[ResolvedVip], in_use: Mapping[str, str]) -> dict[str, str]:
    """The slot table of each VIP: one for all VIPs with equal members and weights.

    A table is named after the VIP that had it first and keeps its name while a VIP uses it, so that a
    change of one VIP does not rename what others look up.
    """
    groups: dict[tuple[tuple[int, int], ...], list[str]] = {}
    for item in ordered:
        groups.setdefault(tuple(sorted(item.weights().items())), []).append(item.vip.name)
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


def _slots_map(build: TableBuilder, name: str, item: ResolvedVip, size: int, slots: Mapping[int, int]) -> None:
    """A map that an index of ``size`` values looks up: slot or turn to backend."""
    if item.dialect.mark_index:
        declaration, key = "type mark : mark", "mark"
        elements = {_mark(slot): _mark(backend) for slot, backend in slots.items()}
    else:
        declaration, key = f"typeof numgen inc mod {size} : meta mark", "integer"
        elements = {str(slot): _mark(backend) for slot, backend in slots.items()}
    build.map(name, (declaration, f"size {size}"), Spec((key,), "mark", size), elements)


def _vip_objects(build: TableBuilder, item: ResolvedVip, slot_table: str, mode: str, own_mac: str) -> None:
    vip = item.vip
    name = vip.name
    weights = item.weights()
    slots = schedule.hash_slots(len(weights))
    available = [item.mark(backend) for backend in vip.backends if item.eligible(backend)]

    homes = schedule.handout(weights, available, item.weights(backup=True))
    _slots_map(build, f"handout_{name}", item, slots, homes)
    build.map(
        f"backends_{name}",
        # Both addresses at once: writing them one after the other costs a rule its speed.
        ("typeof meta mark : @ll,0,96", "counter"),
        Spec(("mark",), "integer", counter=True),
        {
            _mark(item.mark(backend)): frame_start(item.macs[backend.address], own_mac)
            for backend in vip.backends
            if item.usable(backend)
        },
    )
    turns = 0
    if not vip.hashed:
        turns = schedule.turn_slots(len(vip.backends))
        table = schedule.turn_table({item.mark(backend): backend.weight for backend in item.takers}, turns)
        _slots_map(build, f"turns_{name}", item, turns, dict(enumerate(table)))
    _source_sets(build, item)
    if mode != PLAIN:
        _flow_map(build, item, f"flows_{name}")
        if vip.connections:
            _flow_map(build, item, f"closing_{name}")
    if vip.persistence_timeout:
        _clients_map(build, item)

    rules = VipRules(item, mode, slot_table, slots, turns)
    if item.family.steers:
        build.chain(f"error_{name}", rules.icmp_error())
    if mode == PLAIN:
        build.chain(
            f"vip_{name}", [*rules.refused(), *rules.impossible(), *rules.new_connections(), *rules.by_full_table()]
        )
        return
    build.chain(f"fallback_{name}", [*rules.impossible(), *rules.by_full_table()])
    if vip.connections:
        build.chain(f"syn_{name}", rules.opening())
        build.chain(f"fin_{name}", rules.ending())
        build.chain(f"vip_{name}", [*rules.refused(), *rules.connections()])
        return
    if mode == DRAINING:
        build.chain(f"grace_{name}", rules.datagrams_in_grace())
        build.map(
            f"switch_{name}",
            ("type ether_type : verdict", "flags timeout"),
            Spec(("ether_type",), "verdict", flags=frozenset({"timeout"})),
            None,
            {f"{_ETHER_TYPES[item.family.version]} timeout {vip.flows.timeouts['udp']}s": f"goto grace_{name}"},
        )
    build.chain(f"vip_{name}", [*rules.refused(), *rules.datagrams()])


def frame_start(destination: str, source: str) -> str:
    """The first twelve bytes of a frame, as a number in nft's words."""
    return f"0x{destination}{source}".replace(":", "")


def _source_sets(build: TableBuilder, item: ResolvedVip) -> None:
    vip, family = item.vip, item.family
    kind = (f"type {family.address_type}", "flags interval")
    spec = Spec((family.address_type,), None, flags=frozenset({"interval"}))
    if vip.deny_sources:
        build.map(f"deny_{vip.name}", kind, spec, {_network(network): "" for network in vip.deny_sources})
    if vip.allow_sources is not None:
        build.map(f"allow_{vip.name}", kind, spec, {_network(network): "" for network in vip.allow_sources})
    if vip.new_flows_per_source is not None:
        build.map(
            f"newflows_{vip.name}",
            (
                f"typeof {family.saddr}",
                f"size {NEW_FLOWS_TABLE_SIZE}",
                "flags dynamic,timeout",
                f"timeout {_NEW_FLOWS_TIMEOUT[vip.new_flows_per_source.unit]}s",
            ),
            Spec(
                (family.address_type,),
                None,
                NEW_FLOWS_TABLE_SIZE,
                frozenset({"timeout"}),
                timeout=_NEW_FLOWS_TIMEOUT[vip.new_flows_per_source.unit],
            ),
            None,
        )


def _network(network: IPNetwork) -> str:
    """A network as nft writes it: one address without a length."""
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)


def _flow_map(build: TableBuilder, item: ResolvedVip, name: str) -> None:
    family, vip = item.family, item.vip
    key, types = (
        (family.alone_declaration, family.alone_types)
        if vip.protocol == "any"
        else (family.flow_declaration, family.flow_types)
    )
    _tracking_map(build, name, key, types, vip.flows.size)


def _clients_map(build: TableBuilder, item: ResolvedVip) -> None:
    name = item.vip.name
    kind = item.family.address_type
    _tracking_map(build, f"clients_{name}", f"type {kind} : mark", (kind,), item.vip.flows.size)
    fit = {_mark(item.mark(backend)): "" for backend in item.takers}
    build.map(f"fit_{name}", ("type mark",), Spec(("mark",), None), fit)


def _tracking_map(build: TableBuilder, name: str, key: str, types: tuple[str, ...], size: int) -> None:
    build.map(
        name,
        (key, f"size {size}", "flags dynamic,timeout"),
        Spec(types, "mark", size, frozenset({"timeout"})),
        None,
    )
