# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which backends are to be found, by what is configured, and what of that is worth being published. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Optional

from ..nft_dsr.model import IPAddress
from ..nft_dsr.resolved import ResolvedVip
from .whereabouts import Sought

INTERVAL = 2.0  # seconds between two questions where no check says another

Configured = Mapping[IPAddress, frozenset[Optional[str]]]


@dataclass
class _Backend:
    """What all VIPs together say of a backend on a segment."""

    interval: float = 0.0  # 0: none says one
    name: Optional[str] = None
    pinned: set[str] = field(default_factory=set)  # MACs that the user gave
    macs: set[Optional[str]] = field(default_factory=set)  # those that were found; None where none was
    asked: bool = False


Survey = Mapping[str, Mapping[IPAddress, _Backend]]


def survey(items: Iterable[ResolvedVip]) -> Survey:
    """Each backend that may get packets once, by its NIC, however many VIPs have it."""
    segments: dict[str, dict[IPAddress, _Backend]] = {}
    for item in items:
        segment = segments.setdefault(item.backend_interface, {})
        interval = item.vip.health_check.interval if item.vip.health_check else 0.0
        for backend in item.vip.backends:
            if backend.down:
                continue
            found = segment.get(backend.address)
            if found is None:
                found = segment[backend.address] = _Backend()
            if interval and not 0 < found.interval <= interval:
                found.interval = interval
            found.name = found.name or backend.name
            if backend.mac:
                found.pinned.add(backend.mac)
            else:
                found.asked = True
                found.macs.add(item.macs.get(backend.address))
    return segments


def configured(found: Survey) -> Configured:
    """The MACs that the configuration has for each backend that may be followed; None where it has none.

    An address on two segments may be two hosts (link-local ones are), and what is published goes by address alone.
    """
    seen: dict[IPAddress, list[_Backend]] = {}
    for segment in found.values():
        for address, backend in segment.items():
            if backend.asked:
                seen.setdefault(address, []).append(backend)
    return {address: frozenset(backends[0].macs) for address, backends in seen.items() if len(backends) == 1}


def sought_of(found: Survey, followed: Configured, macs: Mapping[IPAddress, str]) -> list[Sought]:
    """Whom to look for. ``followed`` comes from configured(); ``macs`` are those that were found beside it."""
    sought = []
    for interface, segment in found.items():
        for address, backend in segment.items():
            asked = backend.asked and address in followed
            if not asked and not backend.pinned:
                continue
            mac = (macs.get(address) or _agreed(followed[address])) if asked else min(backend.pinned)
            name = f"{backend.name} ({address})" if backend.name else str(address)
            sought.append(Sought(interface, address, name, backend.interval or INTERVAL, mac, asked))
    return sought


def _agreed(macs: frozenset[Optional[str]]) -> Optional[str]:
    """The MAC on which all VIPs agree; where runs at different times left different ones, nobody knows."""
    return next(iter(macs)) if len(macs) == 1 else None


def still_live(macs: Mapping[IPAddress, str], now: Configured, before: Optional[Configured]) -> dict[IPAddress, str]:
    """What of the MACs that were found holds with another configuration; ``before`` is the one until now.

    One that has come to be configured need not be published; and where the configuration changed to another one, that
    was found out later than ours.
    """
    return {
        address: mac
        for address, mac in macs.items()
        if address in now
        and now[address] != {mac}
        and (before is None or address not in before or not now[address] - before[address] - {mac, None})
    }
