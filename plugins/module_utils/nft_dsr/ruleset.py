# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The nftables table that a set of VIPs asks for: maps, their elements, chains, their rules. Pure.

A packet's way: the ingress chain of its NIC looks its address, protocol and port up in one verdict map,
which sends it to the chain of its VIP, or to the one of its pool if the VIP asks for nothing but a hash.
There an index (a seeded hash of the packet, or a counter) is looked up in a slot table, which gives a
backend's number; VIP and number are looked up in the pool's backends, which give both MAC addresses and
count; the last chain sends the frame out. What has no ports of its own takes another way: the later
fragments of a datagram follow its first, and an ICMP error follows the flow that it quotes.

Names: what stands before the first '_' says what it is, what stands after it whose it is, so no name of
a VIP can clash with anything. What VIPs share is named after the one that had it first (naming.py). What
a NIC has for IPv4 and IPv6 both ends in 6 for the latter.

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
    vips_ip             set     the VIPs, which are nobody's source; vips_ip6
    pool_<VIP>          chain   what happens to packets of all VIPs that hash alike over one pool
    poolerror_<VIP>     chain   ICMP errors about their flows
    vip_<VIP>           chain   what happens to a VIP's packets; syn_, fin_, fallback_, grace_: its parts
    error_<VIP>         chain   ICMP errors about a VIP's flows
    slots_<VIP>         map     hash slot to backend; shared by VIPs with equal members and weights
    backends_<VIP>      map     backend to its MAC and our own, as frames begin; one that is not here gets no packet
    handout_<VIP>       map     the slots of backends that are not available: slot to backend instead
    poolbackends_<VIP>  map     the same of a pool, by VIP . backend; of its VIPs no two have one address
    poolhandout_<VIP>   map     the same of a pool, by VIP . slot
    egress_<NIC>        chain   health checks that are addressed to VIPs; probes_ and answers_: by what
    turns_<VIP>         map     whose turn it is: turn to backend; shared by VIPs with equal members and weights
    opened_<VIP>        set     backends of a VIP whose turns the agent steers: counts flows that began; closed_: ended
    fit_<VIP>           set     the backends that get new flows, where clients are remembered
    allow_<VIP>         set     sources that may come; deny_: that may not; newflows_: how many flows each began
    flows_<VIP>         map     tracked flows; closing_: connections after their end began
    clients_<VIP>       map     clients that are to stay with their backend
    switch_<VIP>        map     turns the first seconds of a UDP drain on, and itself off
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Optional

from . import schedule
from .dialect import CURRENT, Dialect
from .dispatch import Dispatch, families, guard, output_chains
from .model import IPNetwork, Vip
from .naming import choose_names
from .probing import outgoing, probed
from .resolved import DRAINING, PLAIN, RELEASED, TRACKED, ResolvedVip
from .steered import counting_sets
from .table import Names, Spec, Table, TableBuilder, mark
from .vip_rules import VipRules

_ETHER_TYPES = {4: "ip", 6: "ip6"}
NEW_FLOWS_TABLE_SIZE = 65536
# How long a source is remembered that began flows; longer than any burst lasts at its rate.
_NEW_FLOWS_TIMEOUT = {"second": 10, "minute": 120, "hour": 7200, "day": 172800}


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
    in_use: Optional[Mapping[str, Names]] = None,
    modes: Optional[Mapping[str, str]] = None,
    dialect: Dialect = CURRENT,
    steering: bool = False,
) -> Table:
    """The table for these VIPs.

    ``own_macs`` has the MAC of each NIC that reaches backends. ``in_use`` says what each VIP goes through now,
    from names_in_use(), so that nothing shared is renamed. ``modes`` comes from flow_modes(), ``dialect`` is
    what the host's nft understands. ``steering`` says that an agent gives out the turns of least connections.
    """
    build = TableBuilder()
    ordered = [replace(item, dialect=dialect) for item in sorted(resolved, key=lambda item: item.vip.name)]
    modes = modes if modes is not None else flow_modes([item.vip for item in ordered], ())
    names = choose_names(ordered, modes, in_use or {})
    if ordered:
        guard(build, ordered, own_macs)  # first: the kernel finds the sets by walking a list
    by_chain: dict[str, list[ResolvedVip]] = {}
    for item in ordered:
        _shared_maps(build, item, names[item.vip.name], own_macs[item.backend_interface], steering)
        by_chain.setdefault(names[item.vip.name].chain, []).append(item)
    for group in by_chain.values():
        name = group[0].vip.name
        _chains(build, group, names[name], modes[name])
    for interface in sorted({item.backend_interface for item in ordered}):
        output_chains(build, interface, [item for item in ordered if item.backend_interface == interface])
    checked = probed(ordered)
    probing = {item.backend_interface for item in checked}
    for interface in sorted({item.interface for item in ordered} | probing):
        arriving = [item for item in ordered if item.interface == interface]
        answering = [item for item in checked if item.backend_interface == interface]
        if answering:
            outgoing(build, interface, answering, families(answering))
        Dispatch(build, interface, arriving, answering, own_macs, modes, names).render()
    return Table(build.maps, build.chains, names)


def with_flows_of(absent: Sequence[ResolvedVip], table: Table, existing: Collection[str], dialect: Dialect) -> Table:
    """The table, and what the kernel has of the flows of VIPs that cannot be served now as their NIC is gone.

    No rule can name a NIC that is not there, so nothing else of them can stay; with the NIC their flows come home.
    """
    macs = {interface: "00:00:00:00:00:00" for item in absent for interface in (item.interface, item.backend_interface)}
    modes = flow_modes([item.vip for item in absent], existing)
    kept = {
        name: item
        for name, item in render(absent, macs, None, modes, dialect).maps.items()
        if item.elements is None and name in existing and not name.startswith("fragments")
    }
    return replace(table, maps={**kept, **table.maps})


def _turns_of(vip: Vip) -> int:
    """How many turns the VIP's table has."""
    size = schedule.steered_slots if vip.steered else schedule.turn_slots
    return size(len(vip.backends))


def _index_map(
    build: TableBuilder, name: str, item: ResolvedVip, size: int, owners: Sequence[int], steered: bool = False
) -> None:
    """A map that an index looks up, a hash or a counter: slot or turn to backend."""
    if item.dialect.mark_index:
        declaration, key = "type mark : mark", "mark"
        elements = {mark(slot): mark(backend) for slot, backend in enumerate(owners)}
    else:
        declaration, key = f"typeof numgen inc mod {size} : meta mark", "integer"
        elements = {str(slot): mark(backend) for slot, backend in enumerate(owners)}
    build.map(name, (declaration, f"size {size}"), Spec((key,), "mark", size), elements, steered=steered)


def _shared_maps(build: TableBuilder, item: ResolvedVip, names: Names, own_mac: str, steering: bool) -> None:
    """What the VIP has in maps that others may share."""
    vip, family = item.vip, item.family
    weights = item.weights()
    if names.slots not in build.maps:
        _index_map(build, names.slots, item, schedule.hash_slots(len(weights)), schedule.hash_table(weights))
    if names.turns and names.turns not in build.maps:
        takers = {item.mark(backend): backend.weight for backend in item.takers}
        turns = _turns_of(vip)
        _index_map(
            build, names.turns, item, turns, schedule.turn_table(takers, turns), steered=steering and vip.steered
        )
    declared, types = (
        (f"{family.daddr} . meta mark", (family.address_type, "mark"))
        if names.pooled
        else (
            "meta mark",
            ("mark",),
        )
    )
    # Both addresses at once: writing them one after the other costs a rule its speed.
    build.merge(
        names.backends,
        (f"typeof {declared} : @ll,0,96", "counter"),
        Spec(types, "integer", counter=True),
        {
            names.key(vip.address, item.mark(backend)): frame_start(item.macs[backend.address], own_mac)
            for backend in vip.backends
            if item.usable(backend)
        },
    )
    available = [item.mark(backend) for backend in vip.backends if item.eligible(backend)]
    homes = schedule.handout(weights, available, item.weights(backup=True))
    build.merge(
        names.handout,
        (f"typeof {declared} : meta mark",),
        Spec(types, "mark"),
        {names.key(vip.address, slot): mark(backend) for slot, backend in homes.items()},
    )


def _chains(build: TableBuilder, group: Sequence[ResolvedVip], names: Names, mode: str) -> None:
    """The rules of a VIP and what they alone use, or of several that differ in nothing but their address."""
    item = group[0]
    vip = item.vip
    name = vip.name
    _source_sets(build, item)
    if mode != PLAIN:
        _flow_map(build, item, f"flows_{name}")
        if vip.connections:
            _flow_map(build, item, f"closing_{name}")
    if vip.persistence_timeout:
        _clients_map(build, item)
    if vip.steered:
        counting_sets(build, vip)

    rules = VipRules(
        item,
        mode,
        names,
        schedule.hash_slots(len(item.weights())),
        _turns_of(vip) if names.turns else 0,
        [other.vip.address for other in group] if names.pooled else (),
    )
    if item.family.steers:
        build.chain(names.error, rules.icmp_error())
    if mode == PLAIN:
        build.chain(
            names.chain, [*rules.refused(), *rules.impossible(), *rules.new_connections(), *rules.by_full_table()]
        )
        return
    build.chain(f"fallback_{name}", [*rules.impossible(), *rules.by_full_table()])
    if vip.connections:
        build.chain(f"syn_{name}", rules.opening())
        build.chain(f"fin_{name}", rules.ending())
        build.chain(names.chain, [*rules.refused(), *rules.connections()])
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
    build.chain(names.chain, [*rules.refused(), *rules.datagrams()])


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
    fit = {mark(item.mark(backend)): "" for backend in item.takers}
    build.map(f"fit_{name}", ("type mark",), Spec(("mark",), None), fit)


def _tracking_map(build: TableBuilder, name: str, key: str, types: tuple[str, ...], size: int) -> None:
    build.map(
        name,
        (key, f"size {size}", "flags dynamic,timeout"),
        Spec(types, "mark", size, frozenset({"timeout"})),
        None,
    )
