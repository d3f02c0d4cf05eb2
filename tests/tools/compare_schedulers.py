# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare this collection's hash slots with other ways to map a hash to a backend, and write docs/schedulers.md.

python3 tests/tools/compare_schedulers.py            write the document (about two minutes)
tests/tools/compare_schedulers.py --print    show it instead

The others are written down here from their papers, as plainly as possible. Everything is deterministic but the times.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "schedulers.md"
sys.path.insert(0, str(ROOT / ".cache" / "collections"))

from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr import schedule  # noqa: E402

Build = Callable[[Sequence[int]], Sequence[int]]  # backends to the owner of each slot


def draws(what: str, backend: int, number: int) -> tuple[int, ...]:
    """Pseudo-random numbers of 32 bits that belong to a backend."""
    return struct.unpack(f">{number}I", hashlib.shake_128(f"{what} {backend}".encode()).digest(4 * number))


def ours(backends: Sequence[int]) -> Sequence[int]:
    return schedule.hash_table(dict.fromkeys(backends, 1))


def ours_with(slots: int) -> Build:
    """A small pool's table, with another number of slots."""

    def build(backends: Sequence[int]) -> Sequence[int]:
        weights = [1] * len(backends)
        bounds = schedule._bounds(weights, slots, schedule._SMALL.headroom)
        owners = schedule._race(list(zip(backends, weights)), slots, None, bounds)
        return [backends[owner] for owner in owners]

    return build


def maglev(slots: int) -> Build:
    """Eisenbud and others, "Maglev: A fast and reliable software network load balancer", NSDI 2016, section 3.4."""

    def build(backends: Sequence[int]) -> Sequence[int]:
        seeds = [draws("maglev", backend, 2) for backend in backends]
        place = [seed[0] % slots for seed in seeds]
        skip = [seed[1] % (slots - 1) + 1 for seed in seeds]
        owners = [-1] * slots
        left = slots
        while True:
            for number, backend in enumerate(backends):
                slot = place[number]
                while owners[slot] >= 0:
                    slot = (slot + skip[number]) % slots
                owners[slot] = backend
                place[number] = (slot + skip[number]) % slots
                left -= 1
                if not left:
                    return owners

    return build


def rendezvous(backends: Sequence[int]) -> Sequence[int]:
    """Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998, with as many slots as ours."""
    slots = schedule.hash_slots(len(backends))
    best = [-1] * slots
    owners = [0] * slots
    for backend in backends:
        for slot, score in enumerate(draws("rendezvous", backend, slots)):
            if score > best[slot]:
                best[slot] = score
                owners[slot] = backend
    return owners


_VALUES = 65536  # how many hash values stand for all of them where there are no slots


def ranges(backends: Sequence[int]) -> Sequence[int]:
    """Everybody has one range of the hash, in the order of the list: what nftlb's scheduler "hash" makes."""
    return [backends[value * len(backends) // _VALUES] for value in range(_VALUES)]


def modulo(backends: Sequence[int]) -> Sequence[int]:
    """The hash modulo the number of backends."""
    return [backends[value % len(backends)] for value in range(_VALUES)]


class Figures(NamedTuple):
    """How a way to map did, as it is printed."""

    busiest: str
    moved: str
    worst: str


def pools(size: int, number: int, since: int = 0) -> Iterator[list[int]]:
    """Backends at neighbouring IPv4 addresses, as they mostly are."""
    for pool in range(since, since + number):
        first = 0x0A000000 + 0x10000 * pool + 16
        yield list(range(first, first + size))


def figures(build: Build, size: int, number: int, gone: int) -> Figures:
    """How it does for some pools of a size, and when each of some of its backends is taken out of the configuration."""
    busiest, moved = [], []
    for backends in pools(size, number):
        table = build(backends)
        busiest.append(max(Counter(table).values()) * size / len(table))
        for backend in backends[:: max(1, size // gone)]:
            moved.append(share_moved(table, build([other for other in backends if other != backend]), backend))
    return Figures(
        f"{statistics.mean(busiest):.3f}", f"{100 * statistics.mean(moved):.3f} %", f"{100 * max(moved):.3f} %"
    )


def share_moved(before: Sequence[int], after: Sequence[int], gone: int) -> float:
    """Which part of the others' slots has another owner. A slot of a smaller table is a stretch of the larger one's."""
    slots = max(len(before), len(after))
    stretch = slots // len(before), slots // len(after)
    others = moved = 0
    for slot in range(slots):
        old = before[slot // stretch[0]]
        if old != gone:
            others += 1
            moved += old != after[slot // stretch[1]]
    return moved / others


def milliseconds(build: Build, size: int, number: int) -> float:
    """The median time to build a table."""
    times: list[float] = []
    for backends in pools(size, number, since=100):  # others than before: tables are kept
        since = time.process_time()
        build(backends)
        times.append(time.process_time() - since)
    return 1000 * statistics.median(times)


WAYS: dict[str, tuple[str, Build]] = {
    "ours": ("**this collection**", ours),
    "rendezvous": ("rendezvous, same slots", rendezvous),
    "maglev4093": ("Maglev, 4,093 slots", maglev(4093)),
    "maglev16381": ("Maglev, 16,381 slots", maglev(16381)),
    "maglev65521": ("Maglev, 65,521 slots", maglev(65521)),
    "ranges": ("contiguous ranges", ranges),
    "modulo": ("hash modulo N", modulo),
}
# Size of pools, how many of them, how many of the backends of each are taken away
SIZES = {4: (40, 4), 8: (40, 8), 32: (2, 8), 128: (1, 6)}
OUR_SIZES = {
    2: (40, 2), 3: (40, 3), 4: (40, 4), 6: (40, 6), 8: (40, 8), 9: (40, 9), 12: (20, 12), 16: (20, 16),
    17: (2, 4), 18: (2, 4), 24: (2, 4), 32: (2, 8), 33: (2, 8), 64: (1, 6), 128: (1, 6),
    256: (1, 4), 1024: (1, 2),
}  # fmt: skip
SLOTS_OF_8 = (128, 256, 384, 512, 1024, 4096)


def comparison(way: str, size: int) -> Figures:
    number, gone = SIZES[size]
    return figures(WAYS[way][1], size, 1 if way in ("ranges", "modulo") else number, gone)


def line(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    return [line(*head), line(*["---"] * len(head)), *(line(*row) for row in rows)]


def comparison_row(way: str, size: int) -> str:
    return line(size, WAYS[way][0], *comparison(way, size))


def our_row(size: int) -> str:
    return line(size, f"{schedule.hash_slots(size):,}", *figures(ours, size, *OUR_SIZES[size]))


def slots_row(slots: int) -> str:
    return line(f"{slots:,}", *figures(ours_with(slots), 8, 40, 8))


def document() -> str:
    sizes = [size for size in SIZES for _way in WAYS]
    ways = [way for _size in SIZES for way in WAYS]
    head = ["N", "way", "busiest / share", "moved, mean", "moved, worst"]
    lines = [
        _INTRODUCTION,
        line(*head),
        line(*["---"] * len(head)),
        *map(comparison_row, ways, sizes),
        _TIMES,
        *table(
            ["N", *(title for title, _build in WAYS.values())],
            ([size, *(f"{milliseconds(build, size, 3):.1f}" for _title, build in WAYS.values())] for size in SIZES),
        ),
        _BY_SIZE,
        line("N", "slots", *head[2:]),
        line(*["---"] * 5),
        *map(our_row, OUR_SIZES),
        _CROSSING,
        line("slots", *head[2:]),
        line(*["---"] * 4),
        *map(slots_row, SLOTS_OF_8),
    ]
    return "\n".join(lines) + "\n"


_INTRODUCTION = """\
# Hash slots, and how they compare

<!-- Written by tests/tools/compare_schedulers.py: change it there. -->

`source_hash` and `connection_hash` turn a packet into a slot, and a table says which backend has the slot. What makes
a good table: backends have their shares; when one comes or goes, the others' slots stay where they are; every load
balancer makes the same table from the same VIP, in whatever order its backends are listed; and it is made and loaded
fast.

## How a table is made

It is the outcome of a race. Every backend bids for slots that a pseudo-random sequence of its own names (SHAKE128 of
its number), at even intervals, twice as often for twice the weight. The first bid gets the slot. A backend that has
its share and some headroom bids no more.

- Without the bound this is weighted rendezvous hashing (Thaler and Ravishankar 1998; Schindelhauer and Schomaker
  2005), read as a race of exponential clocks: a backend that goes gives its slots to whoever was next, and nothing
  else moves.
- Bids come at even and not at random intervals. That halves the variance of a backend's share, which is why the bound
  hardly has to act.
- The bound is that of consistent hashing with bounded loads (Mirrokni, Thorup and Zadimoghaddam 2018). Slot and
  backend rank a bid alike, by its time, so the outcome is the one stable matching (Gale and Shapley 1962) of both: it
  does not depend on any order in which things are looked at.
- That preference lists fill a table is the idea of Maglev (Eisenbud and others 2016). There a backend that meets a
  taken slot goes on at once to its next, so everybody has the same number of slots, and any change shifts who comes
  when.

A table is built over the backends that are configured. Those that are down or drained keep their slots in it; only the
packets for these go, slot by slot, to whoever bid next among those who are there. So nothing else moves, and when a
backend is back, it has exactly its own.

## Beside other ways

N backends of equal weight; one of them is taken out of the configuration. *Busiest* is the largest load for its share,
*moved* how many of the others' slots have another owner afterwards.
"""
_TIMES = """
Times to build one table, in milliseconds of this Python on the machine that wrote this page:
"""
_BY_SIZE = """
## By size of the pool
"""
_CROSSING = """
A small pool has a small table, because tables take time to load: 1,000 VIPs with 8 backends each have 384,000 slots
together. Where a pool outgrows the small table, from 16 to 17 backends and back, nearly all its hash flows are dealt
anew, once: a table cannot be coarse for every 16 of its backends and scattered for 32. From 8 to 9 and from 32 to 33
nothing of the kind happens. A backend that only leaves for a while is better set to `state: down`, or drained, than
taken out of the list: that moves nobody else's flows at all, whatever the size.

## What the size of the table buys

A pool of 8 with other numbers of slots. What they cost: 1,000 VIPs with 8 backends each, all pools different, loaded in
1.5 s of nft with 256 slots, in 2.0 s with 384 and in 2.6 s with 512 (medians of three; nft 1.0.6 on two busy cores).
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--print", action="store_true", help="show the document instead of writing it")
    if parser.parse_args().print:
        print(document(), end="")
    else:
        DOCUMENT.write_text(document(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
