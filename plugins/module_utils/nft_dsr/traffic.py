# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What VIPs and their backends counted, and who has how many flows: from the bytes of the kernel's elements. Pure,
but for whoever reads these, who is given."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Callable

from .model import Backend, IPAddress, Vip
from .packet_fields import IP_PROTOCOLS
from .resolved import ResolvedVip
from .table import Counter, Names

# The bytes of each key of a map, with what it counted.
ReadCounters = Callable[[str], Iterable[tuple[bytes, Counter]]]
CountFlows = Callable[[str], Mapping[bytes, int]]
Counters = Mapping[str, Counter]  # by VIP
BackendCounters = Mapping[tuple[str, IPAddress], Counter]


def read_counters(
    items: Sequence[ResolvedVip], names: Mapping[str, Names], read: ReadCounters
) -> tuple[dict[str, Counter], dict[tuple[str, IPAddress], Counter]]:
    """What each VIP counted, and each backend of it; each map is read once, however many VIPs share it."""
    vips = {item.vip.name: Counter() for item in items}
    backends: dict[tuple[str, IPAddress], Counter] = {}
    services: dict[str, dict[bytes, str]] = {}
    pools: dict[str, dict[bytes, tuple[str, IPAddress]]] = {}
    for item in items:
        vip = item.vip
        for kind, key in service_keys(vip):
            services.setdefault(f"{kind}{item.family.suffix}_{item.interface}", {})[key] = vip.name
        mine = names.get(vip.name, Names())
        if not mine.backends:
            continue
        for backend in vip.backends:
            key = _backend_key(item, backend, mine)
            pools.setdefault(mine.backends, {})[key] = (vip.name, backend.address)
    for name, owners in services.items():
        for key, counter in read(name):
            if key in owners:
                vips[owners[key]] += counter
    for name, members in pools.items():
        for key, counter in read(name):
            if key in members:
                backends[members[key]] = counter
    return vips, backends


def count_flows(items: Sequence[ResolvedVip], count: CountFlows) -> dict[tuple[str, IPAddress], int]:
    """The flows that are tracked, of each backend of a VIP that tracks; opened and closing ones."""
    flows: dict[tuple[str, IPAddress], int] = {}
    for item in items:
        vip = item.vip
        if not vip.tracks and not vip.draining:
            continue
        found: dict[bytes, int] = {}
        for kind in ("flows", "closing") if vip.connections else ("flows",):
            for value, number in count(f"{kind}_{vip.name}").items():
                found[value] = found.get(value, 0) + number
        for backend in vip.backends:
            flows[vip.name, backend.address] = found.get(_mark(item, backend), 0)
    return flows


def service_keys(vip: Vip) -> list[tuple[str, bytes]]:
    """Kinds of maps that count a VIP's packets, and the bytes of its keys in there: each field fills up four bytes."""
    address = vip.address.packed
    if vip.protocol == "any":
        return [("any", address)]
    service = address + bytes([IP_PROTOCOLS[vip.protocol], 0, 0, 0])
    if not vip.ports:
        return [("allports", service)]
    return [
        ("services" if ports.first == ports.last else "ranges", service + struct.pack(">HH", ports.first, 0))
        for ports in vip.ports
    ]


def _backend_key(item: ResolvedVip, backend: Backend, names: Names) -> bytes:
    return (item.vip.address.packed if names.pooled else b"") + _mark(item, backend)


def _mark(item: ResolvedVip, backend: Backend) -> bytes:
    """A mark is a number of this host's, in its order of bytes."""
    return struct.pack("=I", item.mark(backend))
