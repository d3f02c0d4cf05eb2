# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Slot tables: which backend has which slot. Pure arithmetic, the same on every load balancer.

Two kinds of table stand behind the schedulers:

*Hash slots.* A seeded hash of the packet picks a slot. The table is rendezvous hashing (Thaler and
Ravishankar 1998, "Using name-based mappings to increase hit rates") over slots, with a bound on each
backend's load (Mirrokni, Thorup and Zadimoghaddam 2018, "Consistent hashing with bounded loads"). Two
things make it move less than those: a backend's scores are a permutation of the slots (as in Maglev,
Eisenbud and others 2016), not independent draws, which halves the variance of its share before any
bound is applied; and slots over the bound are settled by deferred acceptance (Gale and Shapley 1962),
whose outcome does not depend on any order of processing.

*Turns.* A counter walks the table. Each backend's turns are spread evenly over the table (earliest
deadline first), so a weight of 5 comes as five single turns and not as a burst of five.
"""

from __future__ import annotations

import hashlib
import heapq
import math
import struct
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from functools import lru_cache

# Pool sizes (up to), slots, and by how many thousandths a backend may go above its share of them.
# More slots move less and balance better, and cost memory and load time for each pool.
_HASH_TIERS = ((8, 512, 200), (32, 16384, 23), (1024, 65536, 23))
_TURN_TIERS = ((4, 256), (16, 1024), (64, 4096), (1024, 65536))


def hash_slots(pool_size: int) -> int:
    """How many slots the hash table of a pool of this size has."""
    return next(slots for size, slots, _headroom in _HASH_TIERS if pool_size <= size)


def turn_slots(pool_size: int) -> int:
    """How many turns the round-robin table of a pool of this size has."""
    return next(slots for size, slots in _TURN_TIERS if pool_size <= size)


@lru_cache(maxsize=4096)
def _scores(backend: int, slots: int) -> array[int]:
    """The score of a backend for each slot: a pseudo-random permutation of 0 to slots-1.

    The digest is read in a fixed byte order, so every machine gets the same numbers.
    """
    digest = hashlib.shake_128(b"dsr.layer2 slots %d" % backend).digest(4 * slots)
    draws = struct.unpack(f">{slots}I", digest)
    ranks = array("H", bytes(2 * slots))  # two bytes each: a pool of a thousand has 64 million of them
    for rank, slot in enumerate(sorted(range(slots), key=draws.__getitem__)):
        ranks[slot] = rank
    return ranks


@lru_cache(maxsize=64)
def _costs(weight: int, slots: int) -> array[int]:
    """The cost that goes with each score.

    For a weight it is -ln(u)/w (weighted rendezvous: Schindelhauer and Schomaker 2005), with u the
    score as a fraction, in integers so that no rounding of a mathematical library matters.
    """
    return array("Q", (int(-math.log((score + 0.5) / slots) * (1 << 40)) // weight for score in range(slots)))


class _Bids:
    """What slots pay for a backend; the lowest (cost, tie break) wins."""

    def __init__(self, backend: int, weight: int, slots: int) -> None:
        self._scores = _scores(backend, slots)
        self._costs = _costs(weight, slots)
        self._tie = int.from_bytes(hashlib.shake_128(b"dsr.layer2 tie %d" % backend).digest(8), "big")

    def __getitem__(self, slot: int) -> tuple[int, int]:
        return self._costs[self._scores[slot]], self._tie ^ slot

    def costs(self) -> Iterator[int]:
        """The cost of every slot, in order."""
        return map(self._costs.__getitem__, self._scores)


def _bounds(weights: Sequence[int], slots: int, headroom: int) -> list[int]:
    """How many slots each backend may have: its share and the headroom, at least one."""
    total = sum(weights)
    return [max(1, -(-slots * weight * (1000 + headroom) // (1000 * total))) for weight in weights]


def hash_table(weights: Mapping[int, int]) -> list[int]:
    """The owner of each slot of a pool.

    ``weights`` maps a backend's number to its weight (1 or more). The outcome does not depend on the
    mapping's order. Every backend has at least one slot, whatever its weight.
    """
    return list(_hash_table(tuple(sorted(weights.items()))))


@lru_cache(maxsize=2048)
def _hash_table(pool: tuple[tuple[int, int], ...]) -> tuple[int, ...]:
    if not pool:
        return ()
    backends = [backend for backend, _weight in pool]
    weights = _reduced([weight for _backend, weight in pool])
    slots, headroom = next((slots, headroom) for size, slots, headroom in _HASH_TIERS if len(pool) <= size)
    if len(pool) == 1:
        return tuple(backends * slots)
    bids = [_Bids(backend, weight, slots) for backend, weight in zip(backends, weights)]
    bounds = _bounds(weights, slots, headroom)
    count = range(len(pool))
    # Every slot applies to its cheapest backend; a backend over its bound rejects those that cost
    # most; the rejected apply to their next, until nobody is rejected. As a heap's top is what is
    # rejected first, costs stand in it negated.
    held: list[list[tuple[int, int, int]]] = [[] for _unused in count]
    rejected: list[tuple[int, int]] = []  # (slot, how many backends have rejected it)
    lowest = list(bids[0].costs())
    best = [0] * slots
    for backend in count[1:]:
        for slot, cost in enumerate(bids[backend].costs()):
            if cost < lowest[slot] or (cost == lowest[slot] and bids[backend][slot] < bids[best[slot]][slot]):
                lowest[slot] = cost
                best[slot] = backend
    for slot, backend in enumerate(best):
        cost, tie = bids[backend][slot]
        held[backend].append((-cost, -tie, slot))
    for backend in count:
        heapq.heapify(held[backend])
        while len(held[backend]) > bounds[backend]:
            rejected.append((heapq.heappop(held[backend])[2], 1))
    orders: dict[int, list[int]] = {}
    refusals: dict[int, int] = dict(rejected)
    waiting = [slot for slot, _times in rejected]
    while waiting:
        slot = waiting.pop()
        order = orders.get(slot)
        if order is None:
            order = orders[slot] = sorted(count, key=lambda backend: bids[backend][slot])
        backend = order[refusals[slot]]
        cost, tie = bids[backend][slot]
        heapq.heappush(held[backend], (-cost, -tie, slot))
        if len(held[backend]) > bounds[backend]:
            loser = heapq.heappop(held[backend])[2]
            refusals[loser] = refusals.get(loser, 0) + 1
            waiting.append(loser)
    owners = [0] * slots
    for backend in count:
        for _cost, _tie, slot in held[backend]:
            owners[slot] = backend
    _give_everyone_one(owners, bids, [len(slots_held) for slots_held in held])
    return tuple(backends[owner] for owner in owners)


def _reduced(weights: Sequence[int]) -> list[int]:
    """Weights without their common factor: 10 and 20 mean the same as 1 and 2."""
    factor = math.gcd(*weights) if len(weights) > 1 else weights[0]
    return [weight // factor for weight in weights]


def _give_everyone_one(owners: list[int], bids: Sequence[_Bids], held: list[int]) -> None:
    """A backend whose weight is tiny beside the others' gets its cheapest slot all the same."""
    for backend, number in enumerate(held):
        if number:
            continue
        slot = min(
            (slot for slot in range(len(owners)) if held[owners[slot]] > 1),
            key=lambda slot: bids[backend][slot],
        )
        held[owners[slot]] -= 1
        owners[slot] = backend
        held[backend] = 1


def handout(weights: Mapping[int, int], available: Iterable[int]) -> dict[int, int]:
    """Who gets the slots of the backends that are not available: slot to backend.

    Only slots whose owner is not available are in it, so nobody else's flows move, and all go home
    when their owner is back. Each goes to the available backend that ranks it highest. Empty when no
    backend is available.
    """
    table = hash_table(weights)
    takers = sorted(frozenset(available) & frozenset(weights))
    homeless = [slot for slot, owner in enumerate(table) if owner not in takers]
    if not takers or not homeless:
        return {}
    reduced = dict(zip(sorted(weights), _reduced([weights[backend] for backend in sorted(weights)])))
    bids = {backend: _Bids(backend, reduced[backend], len(table)) for backend in takers}
    return {slot: min(takers, key=lambda backend: bids[backend][slot]) for slot in homeless}


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
    due = sorted(
        (Fraction(2 * len(pool) * turn + 2 * index + 1, counts[backend]), backend)
        for index, (backend, _weight) in enumerate(pool)
        for turn in range(counts[backend])
    )
    return [backend for _due, backend in due]
