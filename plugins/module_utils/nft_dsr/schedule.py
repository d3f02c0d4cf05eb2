# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Slot tables: which backend has which slot. Pure arithmetic, the same on every load balancer.

Two kinds of table stand behind the schedulers:

*Hash slots.* A seeded hash of the packet picks a slot. Who owns it is settled by a race: every backend bids
for slots that a pseudo-random sequence of its own names, at even intervals, twice as often for twice the
weight, and the first bid gets the slot. This is weighted rendezvous hashing (Thaler and Ravishankar 1998,
"Using name-based mappings to increase hit rates"; Schindelhauer and Schomaker 2005, "Weighted distributed
hash tables") read as a race of exponential clocks, with two changes. Bids at even intervals instead of
random ones halve the variance of a backend's share; that preference lists fill the table is Maglev's idea
(Eisenbud and others 2016), but there a backend that met a taken slot goes on at once to its next one, which
is why its tables move more. And a backend that has its share and some headroom bids no more (Mirrokni,
Thorup and Zadimoghaddam 2018, "Consistent hashing with bounded loads"). Slot and backend rank a bid alike,
by its time, so the outcome is the one stable matching (Gale and Shapley 1962) and depends on nothing but
the set of backends and weights.

*Turns.* A counter walks the table. Each backend's turns are spread evenly over the table (earliest
deadline first), so a weight of 5 comes as five single turns and not as a burst of five. For least connections
the agent rewrites turns by what it counts; what is made here is where it begins.
"""

from __future__ import annotations

import hashlib
import math
import sys
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain, cycle
from typing import NamedTuple, Optional


class _Tier(NamedTuple):
    """What pools up to a size get."""

    size: int  # the largest pool
    slots: int
    # How far above its share of s slots a backend may go, in square roots of s. By nature shares vary by 0.66 of
    # that: a bound far above hardly ever acts and moves nothing, one close to it balances.
    headroom: float


# More slots balance better, and cost memory and load time for each pool.
_SMALL = _Tier(8, 384, 2.4)
_MIDDLE = _Tier(16, 384, 1.6)
_LARGE = _Tier(1024, 24576, 0.64)
_TIERS = (_SMALL, _MIDDLE, _LARGE)
_TURN_TIERS = ((4, 256), (16, 1024), (64, 4096), (1024, 65536))
_STEERED_TIERS = ((16, 256), (64, 1024), (1024, 4096))


def hash_slots(pool_size: int) -> int:
    """How many slots the hash table of a pool of this size has."""
    return _tier(pool_size).slots


def turn_slots(pool_size: int) -> int:
    """How many turns the round-robin table of a pool of this size has."""
    return next(slots for size, slots in _TURN_TIERS if pool_size <= size)


def steered_slots(pool_size: int) -> int:
    """The same where the agent rewrites turns all the time: fewer, as no share has to last."""
    return next(slots for size, slots in _STEERED_TIERS if pool_size <= size)


def _tier(pool_size: int) -> _Tier:
    return next(tier for tier in _TIERS if pool_size <= tier.size)


def hash_table(weights: Mapping[int, int], slots: Optional[int] = None) -> list[int]:
    """The owner of each slot of a pool.

    ``weights`` maps a backend's number to its weight (1 or more). The outcome does not depend on the
    mapping's order. Every backend has at least one slot, whatever its weight (as long as there are as
    many slots as backends). ``slots`` is the size of the table where another than the pool's own is wanted,
    at most 65,536.
    """
    pool = tuple(sorted(weights.items()))
    backends = [backend for backend, _weight in pool]
    return list(map(backends.__getitem__, _owners(pool, slots or hash_slots(len(pool)))))


@lru_cache(maxsize=2048)
def _owners(pool: tuple[tuple[int, int], ...], slots: int) -> array[int]:
    """The owner of each slot, as its place in the pool."""
    owners = array("H")
    if pool:
        weights = [weight for _backend, weight in pool]
        owners = array("H", _race(pool, slots, None, _bounds(weights, slots, _tier(len(pool)).headroom)))
        _give_everyone_one(owners, pool)
    return owners


def _race(
    pool: Sequence[tuple[int, int]],
    slots: int,
    wanted: Optional[Iterable[int]] = None,
    bounds: Optional[Sequence[int]] = None,
) -> Sequence[int]:
    """Who was first to bid for each slot, as its place in the pool.

    ``wanted`` are the slots to race for, by default all; others have place 0. ``bounds`` is how many each
    may win.
    """
    owners = [0] * slots
    if len(pool) == 1:
        return owners
    free = bytearray(slots) if wanted is not None else bytearray(b"\1") * slots
    for slot in wanted or ():
        free[slot] = 1
    left = sum(free)
    room = list(bounds) if bounds is not None else [slots] * len(pool)
    bids = _bids(pool, slots, room)
    while left:
        for place, slot in next(bids):
            if free[slot] and room[place]:
                free[slot] = 0
                owners[slot] = place
                room[place] -= 1
                left -= 1
                if not left:
                    break
    return owners


def _bounds(weights: Sequence[int], slots: int, headroom: float) -> list[int]:
    """How many slots each backend may have: its share and the headroom, at least one."""
    total = sum(weights)
    shares = [slots * weight / total for weight in weights]
    return [max(1, math.ceil(share + headroom * math.sqrt(share))) for share in shares]


def _bids(pool: Sequence[tuple[int, int]], slots: int, room: Sequence[int]) -> Iterator[Iterable[tuple[int, int]]]:
    """All bids (backend's place in the pool, slot) in order of time, in portions; of those who still have room."""
    weights = tuple(weight for _backend, weight in pool)
    even = len(set(weights)) == 1
    # After slots * ln(slots) bids a slot without one is about to be rare.
    since, until = 0, int(slots * (math.log(slots) + 1))
    while True:
        active = tuple(place for place, left in enumerate(room) if left)
        spans, who = (_even_bidders if even else _bidders)(weights, active, since, until)
        drawn = [_draws(pool[place][0], slots, *span) for place, span in zip(active, spans)]
        if even:
            yield zip(who, chain.from_iterable(zip(*(row[0::2] for row in drawn), *(row[1::2] for row in drawn[::-1]))))
        else:
            following = {place: iter(row).__next__ for place, row in zip(active, drawn)}
            yield ((place, following[place]()) for place in who)
        since, until = until, until + max(until // 4, since)


@lru_cache(maxsize=32)
def _bidders(
    weights: tuple[int, ...], active: tuple[int, ...], since: int, until: int
) -> tuple[Sequence[tuple[int, int]], Iterable[int]]:
    """From which to which of its bids each place has them in a portion, and whose bids they are in order of time.

    A backend's bid k is due at (2k + 1) / weight. Of bids due at the same time the lower place goes first
    if k is even, else the higher, so that nobody gains by its place.
    """
    total = sum(weights)
    spans = [
        ((2 * since * weights[place] + total) // (2 * total), (2 * until * weights[place] + total) // (2 * total))
        for place in active
    ]
    # Float division of integers is rounded correctly, so it orders these fractions as they are.
    due = sorted(
        ((2 * bid + 1) / weights[place], -place if bid & 1 else place)
        for place, span in zip(active, spans)
        for bid in range(*span)
    )
    return spans, array("H", (abs(place) for _time, place in due))


def _even_bidders(
    weights: tuple[int, ...], active: tuple[int, ...], since: int, until: int
) -> tuple[Sequence[tuple[int, int]], Iterable[int]]:
    """The same for equal weights, where it takes no arithmetic: there and back, again and again."""
    double = 2 * len(weights)
    return [(since // double * 2, until // double * 2)] * len(active), cycle(active + active[::-1])


def _draws(backend: int, slots: int, start: int, stop: int) -> list[int]:
    """The slots that a backend bids for, in order; the digest is read alike by machines of either byte order."""
    digest = hashlib.shake_128(b"dsr.layer2 slots %d" % backend).digest(2 * stop)
    draws = array("H", digest[2 * start :])
    if sys.byteorder == "little":
        draws.byteswap()
    return [draw % slots for draw in draws]


def _give_everyone_one(owners: array[int], pool: Sequence[tuple[int, int]]) -> None:
    """A backend whose weight is tiny beside the others' gets the first slot of its list that can be spared."""
    held = [0] * len(pool)
    for owner in owners:
        held[owner] += 1
    for place, (backend, _weight) in enumerate(pool):
        if held[place] or len(owners) < len(pool):
            continue
        stop = 16
        while not held[place]:
            for slot in _draws(backend, len(owners), 0, stop):
                if held[owners[slot]] > 1:
                    held[owners[slot]] -= 1
                    owners[slot] = place
                    held[place] = 1
                    break
            stop *= 2


def handout(
    weights: Mapping[int, int], available: Iterable[int], backups: Optional[Mapping[int, int]] = None
) -> dict[int, int]:
    """Who gets the slots of the backends that are not available: slot to backend.

    Only slots whose owner is not available are in it, so nobody else's flows move, and all go home
    when their owner is back. Each goes to the available backend that was first to bid for it.

    When none is available, every slot goes to the ``backups``: by a table of their own over all of them,
    in which the slots of those that are not available are handed out likewise. Empty when nobody at all
    is available.
    """
    takers = frozenset(available)
    slots = hash_slots(len(weights))
    if takers.isdisjoint(weights):
        if not backups or not weights or takers.isdisjoint(backups):
            return {}
        return {**dict(enumerate(hash_table(backups, slots))), **_in_place_of(backups, slots, takers)}
    return _in_place_of(weights, slots, takers)


def _in_place_of(weights: Mapping[int, int], slots: int, available: frozenset[int]) -> dict[int, int]:
    """The slots whose owner is not available, each to one who is."""
    pool = tuple(sorted(weights.items()))
    absent = frozenset(place for place, (backend, _weight) in enumerate(pool) if backend not in available)
    homeless = [slot for slot, owner in enumerate(_owners(pool, slots)) if owner in absent]
    takers = [(backend, weight) for backend, weight in pool if backend in available]
    winners = _race(takers, slots, homeless)
    return {slot: takers[winners[slot]][0] for slot in homeless}


def turn_table(weights: Mapping[int, int], slots: int) -> list[int]:
    """Whose turn it is at each step of the counter, ``slots`` steps in all; empty without backends.

    Turns are given out by the largest remainder, at least one each, and then placed earliest deadline
    first: the k-th of a backend's n turns is due at (k + p) / n of the table, with a phase p of its own,
    so that backends with few turns don't all come at the same moment.
    """
    pool = sorted(weights.items())
    if not pool:
        return []
    total = sum(weight for _backend, weight in pool)
    counts = {backend: max(1, slots * weight // total) for backend, weight in pool}
    # What rounding down left over goes by the largest remainder (a backend that got its one has had more
    # than its share); what the ones of at least one took too many comes off the largest.
    left = slots - sum(counts.values())
    by_remainder = sorted(pool, key=lambda entry: (counts[entry[0]] * total - slots * entry[1], entry[0]))
    for backend, _weight in by_remainder[: max(0, left)]:
        counts[backend] += 1
    while sum(counts.values()) > slots:
        counts[max(counts, key=lambda backend: (counts[backend], backend))] -= 1
    # Float division of integers is rounded correctly, so it orders these fractions as they are.
    due = sorted(
        ((2 * len(pool) * turn + 2 * index + 1) / counts[backend], backend)
        for index, (backend, _weight) in enumerate(pool)
        for turn in range(counts[backend])
    )
    return [backend for _due, backend in due]
