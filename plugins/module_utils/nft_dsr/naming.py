# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which maps and chains a VIP shares with others, and what they are called. Pure.

VIPs that spread over the same backends by the same weights share what they look up, and hash VIPs that
differ in nothing but their address share their rules. A thousand VIPs with one pool then keep a few
lines in the processor's cache instead of a thousand times as many, and load as fast as their elements.
What differs from VIP to VIP (who is available, who counts) is keyed by the VIP's address in there.

VIPs with rules of their own, as all have that track flows, have such maps of their own too: the kernel checks
each element of a map against each chain that looks it up, so one map for a thousand chains loads slowly.

Something shared is named after the VIP that had it first, and keeps its name while anyone uses it, so
that a change of one VIP does not rename what others look up.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Optional

from .dispatch import SERVICE_MAPS, service_keys
from .model import IPAddress, Vip
from .resolved import PLAIN, ResolvedVip
from .table import KernelTable, Names, Table

# Whole words: a VIP may be called web-slots_x.
_LOOKED_UP = re.compile(r"(?<![A-Za-z0-9_.-])(slots|(?:pool)?backends|turns)_[A-Za-z0-9_.-]+")


def choose_names(
    ordered: Sequence[ResolvedVip], modes: Mapping[str, str], in_use: Mapping[str, Names]
) -> dict[str, Names]:
    """The names of each VIP's objects. ``in_use`` has those of the kernel."""
    everyone = {item.vip.name: item for item in ordered}

    def used(kind: str) -> dict[str, str]:
        return {vip: getattr(names, kind) for vip, names in in_use.items() if vip in everyone}

    slots = _shared("slots", _grouped(everyone, {vip: _weights(item) for vip, item in everyone.items()}), used("slots"))
    plain = {vip: item for vip, item in everyone.items() if modes[vip] == PLAIN and _has_no_rules_of_its_own(item.vip)}
    pools = {vip: (slots[vip], item.backend_interface, item.vip.address.version) for vip, item in plain.items()}
    # Their elements are told apart by the VIP's address, so of two VIPs on one address each has its own.
    parts = [part for group in _grouped(plain, pools) for part in _apart(group, plain, used("backends"))]
    backends = _shared("poolbackends", parts, used("backends"))
    turning = {
        vip: tuple((item.mark(backend), backend.weight) for backend in sorted(item.takers, key=item.mark))
        for vip, item in everyone.items()
        if not item.vip.hashed and item.could_serve
    }
    # Where health is checked or turns are steered, who takes part may change at any time, and for each VIP by itself.
    sizes = {
        vip: (len(mine.backends), vip if mine.health_check or mine.steered else takers)
        for vip, takers in turning.items()
        for mine in [everyone[vip].vip]
    }
    turns = _shared("turns", _grouped(turning, sizes), used("turns"))
    alike = {
        vip: (backends[vip], item.vip.scheduler, item.vip.protocol, item.vip.on_empty) for vip, item in plain.items()
    }
    chains = _shared("pool", _grouped(alike, alike), used("chain"))
    return {
        vip: Names(chains.get(vip, f"vip_{vip}"), slots[vip], backends.get(vip, f"backends_{vip}"), turns.get(vip, ""))
        for vip in everyone
    }


def _weights(item: ResolvedVip) -> Hashable:
    return tuple(sorted(item.weights().items()))


def _has_no_rules_of_its_own(vip: Vip) -> bool:
    return not (vip.deny_sources or vip.allow_sources is not None or vip.new_flows_per_source)


def _grouped(vips: Iterable[str], keys: Mapping[str, Hashable]) -> list[list[str]]:
    groups: dict[Hashable, list[str]] = {}
    for vip in vips:
        groups.setdefault(keys[vip], []).append(vip)
    return list(groups.values())


def _apart(group: Sequence[str], everyone: Mapping[str, ResolvedVip], in_use: Mapping[str, str]) -> list[list[str]]:
    """The group in as few parts as there are VIPs on one address; no part has two of these."""
    together: dict[str, dict[IPAddress, str]] = {}
    new = []
    for vip in group:
        address = everyone[vip].vip.address
        part = together.setdefault(in_use[vip], {}) if in_use.get(vip) else None
        if part is None or address in part:
            new.append(vip)
        else:
            part[address] = vip
    parts = sorted(together.values(), key=lambda part: (-len(part), min(part.values())))
    for vip in new:
        address = everyone[vip].vip.address
        home = next((part for part in parts if address not in part), None)
        if home is None:
            home = {}
            parts.append(home)
        home[address] = vip
    # Who has been together stays so, but where a part less will do: the smallest goes into the others.
    while len(parts) > 1:
        last = parts.pop()
        homes = {address: next((part for part in parts if address not in part), last) for address in last}
        if any(home is last for home in homes.values()):
            parts.append(last)  # all parts have one at that address
            break
        for address, home in homes.items():
            home[address] = last[address]
    return [sorted(part.values()) for part in parts]


def _shared(kind: str, groups: Iterable[Sequence[str]], in_use: Mapping[str, str]) -> dict[str, str]:
    """What each VIP has of this kind: one for each group."""
    # Where a group splits, the larger part keeps what it had, and where some come together what most of them had:
    # fewer rules change.
    by_size = sorted(groups, key=lambda vips: (-len(vips), vips[0]))
    mine = {vip: name for vip, name in in_use.items() if name.startswith(f"{kind}_")}
    taken: set[str] = set()
    kept: dict[str, str] = {}  # first VIP of a group to the name that it keeps
    for vips in by_size:
        had = Counter(mine[vip] for vip in vips if vip in mine and mine[vip] not in taken)
        if had:
            kept[vips[0]] = had.most_common(1)[0][0]  # of equals the first
            taken.add(kept[vips[0]])
    names: dict[str, str] = {}
    for vips in by_size:
        name = kept.get(vips[0])
        if name is None:
            name = f"{kind}_{vips[0]}"
            number = 2
            while name in taken:
                name = f"{kind}_{vips[0]}.{number}"  # no VIP's name has a dot
                number += 1
            taken.add(name)
        names.update((vip, name) for vip in vips)
    return names


def names_in_use(vips: Iterable[Vip], have: KernelTable) -> dict[str, Names]:
    """What these VIPs go through in the kernel, as far as it has them."""
    verdicts = {
        key: verdict.partition(" ")[2]
        for name, elements in have.elements.items()
        if name.partition("_")[0] in SERVICE_MAPS
        for key, verdict in elements.items()
    }
    found = {}
    for vip in vips:
        chain = next((verdicts[key] for key in service_keys(vip) if key in verdicts), f"vip_{vip.name}")
        names = _of_chain(chain, vip.name, have)
        if names is not None:
            found[vip.name] = names
    return found


def _of_chain(chain: str, vip: str, have: KernelTable) -> Optional[Names]:
    if chain not in have.chains:
        return None
    code = "\n".join(
        rule
        for name in (chain, f"syn_{vip}", f"fallback_{vip}")
        if name in have.chains and (name == chain or chain == f"vip_{vip}")
        for rule in have.chains[name].code
    )
    looked_up = {match[1].replace("pool", ""): match[0] for match in _LOOKED_UP.finditer(code) if match[0] in have.maps}
    return Names(chain, looked_up.get("slots", ""), looked_up.get("backends", ""), looked_up.get("turns", ""))


def users(table: Table) -> dict[str, set[str]]:
    """Of each chain and map that packets of VIPs go through after their dispatch: the VIPs."""
    maps = {
        name: [word[1:] for rule in chain.rules for word in rule.split() if word.startswith("@")]
        for name, chain in table.chains.items()
    }
    found: dict[str, set[str]] = {}
    for vip, names in table.names.items():
        chains = [names.chain, names.error]
        if not names.pooled:
            chains += [f"{part}_{vip}" for part in ("syn", "fin", "fallback", "grace")]
        for name in chains:
            for used in (name, *maps.get(name, ())):
                found.setdefault(used, set()).add(vip)
    return found
