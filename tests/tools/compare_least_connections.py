# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare steered turns with exact least connections, and write docs/least_connections.md.

python3 tests/tools/compare_least_connections.py            write the document (about a minute)
tests/tools/compare_least_connections.py --print    show it instead

A simulation of connections that come, last and end. Everything is deterministic but the times.
"""

from __future__ import annotations

import argparse
import heapq
import math
import statistics
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Callable, NamedTuple, Optional

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "least_connections.md"
sys.path.insert(0, str(ROOT / ".cache" / "collections"))

from ansible_collections.dsr.layer2.plugins.module_utils.agent import least_connections  # noqa: E402
from ansible_collections.dsr.layer2.plugins.module_utils.agent.least_connections import Settings, Steering  # noqa: E402
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr import schedule  # noqa: E402

TICK = 0.002  # seconds; ends of connections are rounded up to it
SAMPLE = 0.037  # seconds from measurement to measurement, which the looks are no multiple of
LEAD = 0.01  # seconds from a look until the kernel has what came of it
LIFE = 4.0  # seconds that a connection lasts on average


@dataclass(frozen=True)
class Scenario:
    """Who serves, and what comes."""

    size: int
    rate: float
    heavy: int = 1  # the weight of the first half of the backends
    slow: float = 1.0  # how many times longer connections last on the first backend
    mixed: bool = False  # 9 of 10 connections last a fifth of the mean, the others 8.2 times the mean
    joins: bool = False  # the first backend is only there from the end of the warm-up on
    bursts: bool = False  # a second of three times the rate, two of none
    life: float = LIFE
    interval: float = 0.2
    seconds: float = 0.0  # that are measured; 0: as many as the rate needs

    @property
    def weights(self) -> tuple[int, ...]:
        return tuple(self.heavy if place < self.size // 2 else 1 for place in range(self.size))

    @property
    def warm_up(self) -> float:
        return max(4 * self.life, 8.0) if self.rate < 5000 else 2 * self.life

    @property
    def measured(self) -> float:
        return self.seconds or {50: 120.0, 1000: 30.0}.get(int(self.rate), 8.0)

    @property
    def there(self) -> dict[int, int]:
        """Who serves at first: weight by place."""
        return {place: weight for place, weight in enumerate(self.weights) if place or not self.joins}


@lru_cache(maxsize=2)
def arrivals(scenario: Scenario) -> list[tuple[float, float]]:
    """When connections come, and how long each lasts: the same for all ways."""
    random = Random(f"{scenario.size} {scenario.rate}")
    end = scenario.warm_up + scenario.measured
    found: list[tuple[float, float]] = []
    at = 0.0
    while True:
        at += random.expovariate(scenario.rate)
        if at >= end:
            return found
        mean = scenario.life
        if scenario.mixed:
            mean *= 0.2 if random.random() < 0.9 else 8.2
        # In bursts, three seconds' connections come within the first of them.
        moment = at if not scenario.bursts else at // 3 * 3 + at % 3 / 3
        found.append((moment, random.expovariate(1 / mean)))


class Way:
    """A way to choose a backend for a new connection."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario

    def pick(self) -> int:
        raise NotImplementedError

    def ended(self, backend: int) -> None:
        """A connection has ended."""

    def look(self, now: float, opened: Sequence[int], began: Sequence[int]) -> int:
        """Several times a second; answers how many turns it changed."""
        return 0

    def join(self, now: float) -> None:
        """The first backend is there now."""


class Exact(Way):
    """Least connections as a scheduler does it that sees every packet: each goes where fewest are open."""

    def __init__(self, scenario: Scenario) -> None:
        super().__init__(scenario)
        self._open = [0] * scenario.size
        self._heap = [(1 / weight, place, 0) for place, weight in scenario.there.items()]
        heapq.heapify(self._heap)

    def pick(self) -> int:
        while True:
            _full, place, opened = self._heap[0]
            if self._open[place] == opened:
                self._change(place, 1)
                return place
            heapq.heappop(self._heap)

    def ended(self, backend: int) -> None:
        self._change(backend, -1)

    def join(self, now: float) -> None:
        self._change(0, 0)

    def _change(self, place: int, by: int) -> None:
        self._open[place] += by
        opened = self._open[place]
        heapq.heappush(self._heap, ((opened + 1) / self.scenario.weights[place], place, opened))


class AtLooks(Exact):
    """The same, but it hears of connections that ended only when it looks: nobody who looks can do better."""

    def __init__(self, scenario: Scenario) -> None:
        super().__init__(scenario)
        self._ended: list[int] = []

    def ended(self, backend: int) -> None:
        self._ended.append(backend)

    def look(self, now: float, opened: Sequence[int], began: Sequence[int]) -> int:
        for backend in self._ended:
            self._change(backend, -1)
        self._ended = []
        return 0


class RoundRobin(Way):
    """Weighted round robin, as it is without the agent."""

    def __init__(self, scenario: Scenario) -> None:
        super().__init__(scenario)
        self.table: list[int] = []
        self.turn = 0
        self.join(0.0)

    def pick(self) -> int:
        backend = self.table[self.turn % len(self.table)]
        self.turn += 1
        return backend

    def join(self, now: float) -> None:
        weights = self.scenario.there if not now else dict(enumerate(self.scenario.weights))
        self.table = schedule.turn_table(weights, schedule.turn_slots(self.scenario.size))


class Herd(RoundRobin):
    """All turns to the backend that is emptiest at the look."""

    def look(self, now: float, opened: Sequence[int], began: Sequence[int]) -> int:
        weights = self.scenario.weights
        emptiest = min(range(len(opened)), key=lambda place: (opened[place] + 1) / weights[place])
        changed = sum(backend != emptiest for backend in self.table)
        self.table = [emptiest] * len(self.table)
        return changed


class Steered(Way):
    """This collection's: turns that are rewritten at looks."""

    counted = True  # the kernel's turns are
    wrong_by = 0  # how far their count is off

    def __init__(self, scenario: Scenario) -> None:
        super().__init__(scenario)
        slots = self.slots()
        self.steering = self.make(slots, replace(self.settings(), interval=scenario.interval, lead=LEAD))
        self.table = [0] * slots
        self.turn = 0
        self._pending: Optional[tuple[float, least_connections.Changes]] = None
        self._write(self.steering.set_members(scenario.there, 0.0))

    def slots(self) -> int:
        return schedule.steered_slots(self.scenario.size)

    def settings(self) -> Settings:
        return Settings()

    def make(self, slots: int, settings: Settings) -> Steering:
        return Steering(slots, settings)

    def pick(self) -> int:
        backend = self.table[self.turn % len(self.table)]
        self.turn += 1
        return backend

    def look(self, now: float, opened: Sequence[int], began: Sequence[int]) -> int:
        turn = self.turn + self.wrong_by if self.counted else None
        changes = self.steering.look(now, dict(enumerate(opened)), dict(enumerate(began)), turn)
        self._pending = now + LEAD, changes
        return len(changes)

    def tick(self, now: float) -> None:
        if self._pending and now >= self._pending[0]:
            self._write(self._pending[1])
            self._pending = None

    def join(self, now: float) -> None:
        self._write(self.steering.set_members(dict(enumerate(self.scenario.weights)), now))

    def _write(self, changes: Mapping[int, Optional[int]]) -> None:
        for slot, backend in changes.items():
            assert backend is not None
            self.table[slot] = backend


class Shares(Steered):
    """The same where nobody knows how many turns the kernel has taken."""

    counted = False


class NoSlowStart(Steered):
    def settings(self) -> Settings:
        return Settings(slow_start=0)


class Blind(Steered):
    """It does not reckon with connections that are going to end."""

    class _Steering(Steering):
        def _losses(self) -> list[float]:
            return [0.0] * len(self._members)

    def make(self, slots: int, settings: Settings) -> Steering:
        return self._Steering(slots, settings)


class InOrder(Steered):
    """Turns ahead are written in the very order that was planned."""

    def settings(self) -> Settings:
        return Settings(stretch=1, stretches=1 << 20)


class OneStretch(Steered):
    """All turns until the next look are one stretch."""

    def settings(self) -> Settings:
        return Settings(stretch=4096)


class FarAhead(Steered):
    """Three looks' turns are planned."""

    def settings(self) -> Settings:
        return Settings(ahead=3.0)


class Hasty(Steered):
    """Turns that are taken while they are written are planned as well."""

    def make(self, slots: int, settings: Settings) -> Steering:
        return Steering(slots, replace(settings, lead=0.0))


class Astray(Steered):
    """The count of turns is wrong, and that is noticed."""

    wrong_by = 13


class Misled(Astray):
    """The count of turns is wrong, and believed."""

    def settings(self) -> Settings:
        return Settings(doubt=2.0)


class Fewer(Steered):
    def slots(self) -> int:
        return schedule.steered_slots(self.scenario.size) // 4


class More(Steered):
    def slots(self) -> int:
        return schedule.steered_slots(self.scenario.size) * 4


class Figures(NamedTuple):
    """How open connections for the weight were spread, in parts of their mean."""

    deviation: float  # the standard deviation over backends and time
    fullest: float  # how far the fullest backend is above the mean, on average over time
    worst: float  # and at the worst time
    changed: float  # turns that changed at a look
    level_after: float  # seconds until a backend that joined had 90 % of the mean
    rush: float  # the most connections that one that joined got in a second, in parts of its share of those that came

    @property
    def spread(self) -> str:
        return f"{percent(self.deviation)} / {percent(self.fullest)}"


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def simulate(scenario: Scenario, way: Way) -> Figures:
    """Let the connections of a scenario come, last and end."""
    weights = scenario.weights
    total = sum(weights)
    opened, began, joined_began = [0] * scenario.size, [0] * scenario.size, [0] * int(scenario.measured + 1)
    ending: list[list[int]] = [[] for _unused in range(int((scenario.warm_up + scenario.measured) / TICK) + 1)]
    coming = arrivals(scenario)
    steered = way if isinstance(way, Steered) else None
    look_at, sample_at = scenario.interval, scenario.warm_up + SAMPLE
    squares, tops, changed = [], [], []
    level_after = math.inf
    number = 0
    joined = not scenario.joins
    for tick, ends in enumerate(ending):
        now = tick * TICK
        for backend in ends:
            opened[backend] -= 1
            way.ended(backend)
        if not joined and now >= scenario.warm_up:
            joined = True
            way.join(now)
        if steered is not None:
            steered.tick(now)
        if now >= look_at:
            look_at += scenario.interval
            changes = way.look(now, opened, began)
            began = [0] * scenario.size
            if now >= scenario.warm_up:
                changed.append(changes)
        until = now + TICK
        while number < len(coming) and coming[number][0] < until:
            at, life = coming[number]
            number += 1
            backend = way.pick()
            opened[backend] += 1
            began[backend] += 1
            if backend == 0:
                life *= scenario.slow
                if at >= scenario.warm_up:
                    joined_began[int(at - scenario.warm_up)] += 1
            end = max(tick + 1, int((at + life) / TICK))
            if end < len(ending):
                ending[end].append(backend)
        if now >= sample_at:
            sample_at += SAMPLE
            mean = sum(opened) / total
            if mean:
                ratios = [number_open / weight / mean - 1 for number_open, weight in zip(opened, weights)]
                squares.append(sum(ratio * ratio for ratio in ratios) / len(ratios))
                tops.append(max(ratios))
                if ratios[0] >= -0.1:
                    level_after = min(level_after, now - scenario.warm_up)
    return Figures(
        math.sqrt(statistics.fmean(squares)),
        statistics.fmean(tops),
        max(tops),
        statistics.fmean(changed) if changed else 0.0,
        level_after,
        max(joined_began) * total / weights[0] / scenario.rate,
    )


GOAL = 0.05  # of the mean: how much worse than the exact algorithm the steering may be
RATES = (50, 1000, 10000)
SIZES = (8, 64)
KINDS: dict[str, Callable[[int, float], Scenario]] = {
    "equal backends": Scenario,
    "one slow, 10 times longer": lambda size, rate: Scenario(size, rate, slow=10.0),
    "weights 10:1, half each": lambda size, rate: Scenario(size, rate, heavy=10),
    "short and long mixed": lambda size, rate: Scenario(size, rate, mixed=True),
}
WAYS: dict[str, type[Way]] = {
    "exact": Exact,
    "**turns ahead**": Steered,
    "shares": Shares,
    "round robin": RoundRobin,
}
JOINING: dict[str, type[Way]] = {"exact": Exact, "steered, no slow start": NoSlowStart, "**steered**": Steered}
VARIANTS: dict[str, type[Way]] = {
    "exact": Exact,
    "exact, but sees ends only at looks": AtLooks,
    "**this collection**": Steered,
    "count of turns not known: shares": Shares,
    "count of turns wrong, noticed": Astray,
    "count of turns wrong, believed": Misled,
    "ends are not reckoned with": Blind,
    "in the order that was planned": InOrder,
    "one stretch for all": OneStretch,
    "three looks ahead": FarAhead,
    "turns that are about to be taken as well": Hasty,
    "a quarter of the turns": Fewer,
    "four times the turns": More,
    "all to the emptiest": Herd,
    "round robin": RoundRobin,
}
VARIED = {
    "50/s, 64, one slow": Scenario(64, 50, slow=10.0),
    "1,000/s, 8, one slow": Scenario(8, 1000, slow=10.0),
    "1,000/s, 64, weights 10:1": Scenario(64, 1000, heavy=10),
    "1,000/s in bursts, 8": Scenario(8, 1000, bursts=True),
}
LOOKS = (0.1, 0.2, 0.4)
LIVES = (1.0, 4.0, 15.0)


_simulated: dict[tuple[str, Scenario], Figures] = {}


def figures(way: type[Way], scenario: Scenario) -> Figures:
    key = way.__name__, scenario
    if key not in _simulated:
        _simulated[key] = simulate(scenario, way(scenario))
    return _simulated[key]


def line(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def head(*cells: str) -> list[str]:
    return [line(*cells), line(*["---"] * len(cells))]


def comparison_row(kind: str, rate: int, size: int) -> str:
    found = [figures(way, KINDS[kind](size, rate)) for way in WAYS.values()]
    return line(
        kind, f"{rate:,}", size, *(each.spread for each in found), *(f"{each.changed:.0f}" for each in found[1:3])
    )


def joining_row(rate: int, size: int) -> str:
    cells = []
    for way in JOINING.values():
        found = figures(way, Scenario(size, rate, joins=True, seconds=45.0))
        cells.append(f"{found.level_after:.1f} s, {found.rush:.1f} times")
    return line(f"{rate:,}", size, *cells)


def variant_row(name: str) -> str:
    cells = []
    for scenario in VARIED.values():
        found = figures(VARIANTS[name], scenario)
        cells.append(found.spread + (f", {found.changed:.0f}" if found.changed else ""))
    return line(name, *cells)


def looks_row(life: float, size: int) -> str:
    exact = figures(Exact, Scenario(size, 1000, life=life))
    steered = [figures(Steered, Scenario(size, 1000, life=life, interval=interval)) for interval in LOOKS]
    return line(f"{life:.0f} s", size, exact.spread, *(each.spread for each in steered))


def farthest() -> list[str]:
    """How far the steering is from the exact algorithm at worst, and what could be had where that is far."""
    found = {}
    for kind, make in KINDS.items():
        for rate in RATES:
            for size in SIZES:
                exact, steered = figures(Exact, make(size, rate)), figures(Steered, make(size, rate))
                found[kind, rate, size] = (steered.deviation - exact.deviation, steered.fullest - exact.fullest)
    over = {case: more[1] for case, more in found.items() if more[1] > GOAL}
    within = max(more[1] for case, more in found.items() if case not in over)
    deviation = max(more[0] for more in found.values())
    lines = [
        f"The standard deviation is nowhere more than {percent(deviation)} of the mean above the exact algorithm's,",
        f"and the fullest backend is at most {percent(within)} of the mean fuller, but in these cases, where a backend",
        "has few connections, or they are short. The last column is how much fuller it is with an exact algorithm that",
        "hears of ends only when the agent looks, so what looks alone cost:",
        "",
        *head("connections", "per second", "N", "fuller by", "exact, ends seen at looks"),
    ]
    for (kind, rate, size), more in over.items():
        scenario = KINDS[kind](size, rate)
        best = figures(AtLooks, scenario).fullest - figures(Exact, scenario).fullest
        lines.append(line(kind, f"{rate:,}", size, percent(more), percent(best)))
    return lines


def milliseconds(rate: float, active: float) -> tuple[float, float]:
    """What a look at 1,000 VIPs with 8 backends each takes, and how many turns change: medians of some looks."""
    random = Random(1)
    marks = range(0x0A000001, 0x0A000009)
    vips = [Steering(schedule.steered_slots(8)) for _unused in range(1000)]
    opened = [dict.fromkeys(marks, int(rate * LIFE / 8)) for _unused in vips]
    turns = [0] * len(vips)
    for steering in vips:
        steering.set_members(dict.fromkeys(marks, 1), 0.0)
    times, changed = [], []
    for number in range(1, 16):
        looks: list[tuple[Steering, dict[int, int], dict[int, int], int]] = []
        for vip, steering in enumerate(vips):
            began: dict[int, int] = {}
            if vip < active * len(vips):
                table, come = steering.table, int(rate * 0.2 * random.uniform(0.7, 1.3))
                for step in range(come):
                    mark = table[(turns[vip] + step) % len(table)]
                    assert mark is not None
                    began[mark] = began.get(mark, 0) + 1
                turns[vip] += come
                for mark in marks:
                    open_now = opened[vip][mark] + began.get(mark, 0)
                    opened[vip][mark] = max(0, open_now - int(open_now * 0.2 / LIFE + random.random()))
            looks.append((steering, dict(opened[vip]), began, turns[vip]))
        since = time.process_time()
        changes = sum(len(steering.look(0.2 * number, had, new, turn)) for steering, had, new, turn in looks)
        times.append(1000 * (time.process_time() - since))
        changed.append(changes)
    return statistics.median(times[4:]), statistics.median(changed[4:])


def cost_rows() -> Iterable[str]:
    for words, rate, active in (
        ("nothing happens", 50, 0.0),
        ("a tenth of them have 50 new connections a second", 50, 0.1),
        ("each has 50 new connections a second", 50, 1.0),
        ("each has 1,000 new connections a second", 1000, 1.0),
    ):
        took, changed = milliseconds(rate, active)
        yield line(words, f"{took:.1f}", f"{changed:,.0f}")


def document() -> str:
    lines = [
        _INTRODUCTION,
        *head("connections", "per second", "N", *WAYS, "turns changed, ahead", "shares"),
        *(comparison_row(kind, rate, size) for kind in KINDS for rate in RATES for size in SIZES),
        "",
        *farthest(),
        _JOINING,
        *head("per second", "N", *JOINING),
        *(joining_row(rate, size) for rate in RATES for size in SIZES),
        _VARIANTS,
        *head("way", *VARIED),
        *map(variant_row, VARIANTS),
        _VARIANTS_SAY,
        *head("a connection lasts", "N", "exact", *(f"looks every {1000 * interval:.0f} ms" for interval in LOOKS)),
        *(looks_row(life, size) for life in LIVES for size in SIZES),
        _COST,
        *head("1,000 VIPs with 8 backends", "ms", "turns changed"),
        *cost_rows(),
    ]
    return "\n".join(lines) + "\n" + _ON_THE_WIRE


_INTRODUCTION = """\
# Least connections by turns

<!-- Written by tests/tools/compare_least_connections.py: change it there. -->

The kernel's part of `least_connections` is that of round robin: a counter walks a table of turns. The agent looks five
times a second how many connections each backend has open and rewrites turns, so that new connections go where the
fewest are for the weight. This page compares that with the exact algorithm, which sees every packet.

## How turns are chosen

- **Turns ahead.** The agent knows how many turns the kernel has taken, so it knows which are next. These it fills
  with the sequence that least connections would choose, one by one, if connections came and ended as they did
  lately: each turn to the backend that is emptiest by then, with those that are expected to end taken off. Half as many
  again as are expected are planned. As every beginning of the sequence is right, it does not matter much how many come.
- **Stretches.** Within a quarter of the turns that are expected (8 at least) the order does not matter much either. So
  a backend keeps the turns of the stretch that it has anyway, and only the rest is written.
- **Shares.** If the counter goes round between two looks, or its count is not known, the whole table is given out by
  shares: water filling says how many of the connections that are expected each backend should get so that all are level
  at the next look. Turns change hands only as far as shares changed: who has too many gives some up at even distances,
  and they are dealt out evenly.
- **Nobody is forgotten.** A backend that is far above the others gets nothing until they have caught up, as with the
  exact algorithm; but one in 64 of the turns that its weight alone would give it, it does get, so that its state
  shows.
- **Slow start.** The weight of a backend that joins, or comes back, grows evenly from 5 % to all of it in 30 seconds.
- **A wrong count is noticed**: if connections went elsewhere than the turns say (one in five, over some looks), the
  count is not believed for a minute, and shares are used.

## Beside the exact algorithm

N backends; connections last 4 seconds on average (exponentially distributed; *mixed*: nine of ten 0.8 seconds, the
tenth 33). What is measured is open connections for the weight, in parts of their mean over all backends: their
standard deviation, and how far the fullest backend is above the mean, both over time. What the agent writes takes
effect 10 milliseconds after its look. *Turns changed* is how many elements of the table a look writes.
"""
_JOINING = """
## A backend joins

How long it takes until it has 90 % of the mean, and how many connections it gets in its busiest second, for what its
share of that second would be. Without a slow start, it gets everything until it is level: that is the exact algorithm,
and a rush that a cold backend may not survive.
"""
_VARIANTS = """
## What helps and what does not

Standard deviation, fullest above the mean, and turns changed at a look, where any are.
"""
_VARIANTS_SAY = """
- What is missing to the exact algorithm is what looks cost, not what turns cost: an exact algorithm that hears of ends
  only at looks, in the second row, is no better. With a slow backend it is worse, as it reckons with no ends.
- To know the count of turns is worth most where connections are few: a tenth of the elements to write or less, and less
  spread.
- A count that is wrong and believed is worse than shares there; so it is checked against where connections went.
- Reckoning with ends matters with a slow backend: without it that one is always the fullest, as the others lose more
  between two looks.
- The planned order, turn by turn, is hardly better than stretches, and writes up to two and a half times as many
  elements. One stretch for all writes the fewest, and is worse.
- To plan farther ahead changes nothing but the number of elements.
- Turns that may be taken before they are written are left as they are. To write them as well loses the best of the plan
  half the time.
- More turns make shares finer, which unequal weights in large pools need; so pools of more than 16 have 1,024. In a
  small pool they help nothing.
- Herds are in the row before the last: but for slow backends, worse than round robin, which does not look at all.

Tried before, and given up:

- To lay the whole table out anew at each look. It is hardly better than to change what has to change, and writes
  nearly all elements each time (220 of 256).
- To repeat a planned sequence over the table, when the count of turns is not known: worse than shares, as one part too
  many or too few comes by all the time.
- One turn at least in every table for everybody: with 64 backends that is a quarter of 256 turns, and with weights of
  10:1 the fullest was 80 % above the mean.
- Other memories than a second for the rate (0.2 to 5), and than ten for how many connections end (5 to 15), make no
  difference.

## How often to look, and how long connections last

1,000 connections a second. What a look misses is what ended since the last one: the shorter connections are, the more
that is in parts of what is open.
"""
_COST = """
## What a look costs

In milliseconds of this Python on the machine that wrote this page, without reading and writing the kernel's tables:
"""

# Measured by others than this program: the data-plane tests, and make bench-steering.
_ON_THE_WIRE = """
## On the wire

Real connections through the kernel's rules and the agent, with three backends, 150 new ones a second that last 1.5
seconds on average, so about 75 at each backend (`tests/dataplane/test_least_connections.py`; exact is the algorithm on
the same arrivals). Standard deviation and fullest above the mean, as above:

| connections | agent | exact |
| --- | --- | --- |
| equal backends | 3.2 % / 3.7 % | 0.6 % / 0.7 % |
| one slow, 6 times longer | 2.2 % / 2.4 % | 1.1 % / 1.4 % |
| one slow, 6 times longer, IPv6 | 2.7 % / 3.1 % | 0.8 % / 1.0 % |
| weights 10:1 | 4.9 % / 5.5 % | 1.5 % / 1.8 % |

What the agent took of one processor, looks, writes and recounts together (`make bench-steering`, 40 seconds each).
Without recounts the number of flows would make no difference; with them it is bounded, as they may take a fiftieth:

| flows in the table | new in a second | processor | of that the kernel's |
| --- | --- | --- | --- |
| 0 | 0 | 0.9 % | 0.3 % |
| 0 | 200 | 1.4 % | 0.3 % |
| 1,000 | 0 | 0.9 % | 0.2 % |
| 1,000 | 200 | 1.3 % | 0.3 % |
| 100,000 | 0 | 2.9 % | 2.3 % |
| 100,000 | 200 | 3.9 % | 3.3 % |
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
