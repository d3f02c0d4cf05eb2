# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When which check is carried out: hundreds of them on one event loop, each once for all the VIPs that share it.

*What is promised.* From the moment at which a backend fails until the verdict, ``interval * fall`` seconds pass at
most, whether it refuses at once or falls silent. The last check that it passed may have begun just before, so the first
that fails begins up to an interval later, and takes its whole timeout where there is only silence. That timeout is
made up for: while failures are counted, checks follow each other faster than by the interval, or at once (Timing).

*Why jitter only shortens.* An interval that jitter made longer would break that promise. So the interval is the
longest time from the beginning of one check to the next, and jitter takes up to its share off, each time another: that
is enough for checks that began together to part.

*What is late* is counted, and never made up for: a check whose predecessor still runs, or that waits as too many run
already, or that the loop came to late, is carried out once, and the next is due an interval after it began.

All times are those of the event loop, which is monotonic: a clock that is set has no effect.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from random import Random
from typing import Callable, NamedTuple, Optional

from ..nft_dsr.health_check import HealthCheck
from .probe_base import Outcome, Target
from .tally import Tally
from .verdicts import Transition, Verdict

Probe = Callable[[HealthCheck, Target], Awaitable[Outcome]]

LATE = 0.1  # seconds after which a check counts as late
OVERTIME = 1.0  # seconds that a probe may take beyond its timeout until it is given up
_GOLDEN = (5**0.5 - 1) / 2


class Timing(NamedTuple):
    """How a check is timed so that ``interval * fall`` is kept.

    With a period p, a shorter one q while failures are counted, and a timeout t, a silent backend is down after
    p + (fall - 1) q + t. So q is the interval less t / (fall - 1). As checks of one backend don't overlap, q is t at
    least, and where that is not enough p is made shorter as well. A timeout over fall / (fall + 1) of the interval
    leaves no p that were as long as t, and is cut to that.
    """

    period: float
    recheck: float
    timeout: float

    @classmethod
    def of(cls, check: HealthCheck) -> Timing:
        interval, fall = check.interval, check.fall
        timeout = min(check.timeout, interval * fall / (fall + 1))
        recheck = interval - timeout / (fall - 1) if fall > 1 else 0.0
        if recheck >= timeout:
            return cls(interval, recheck, timeout)
        return cls(min(interval, fall * (interval - timeout)), timeout, timeout)

    @classmethod
    def for_all(cls, checks: Iterable[HealthCheck]) -> Timing:
        """That of a check whose verdicts need different numbers of failures: the most pressing of each."""
        return cls(*map(min, zip(*map(cls.of, checks))))


@dataclass
class Statistics:
    """What became of a check so far. ``unable`` is how often this host could not ask, which says nothing."""

    runs: int = 0
    failures: int = 0
    unable: int = 0
    late: int = 0
    last_seconds: float = 0.0
    last_cause: str = ""


class Report(NamedTuple):
    """What is known of one check of one backend; ``check`` is without what is only its pool's matter."""

    check: HealthCheck
    target: Target
    healthy: bool
    known: bool
    cause: str
    statistics: Statistics


@lru_cache(maxsize=8192)
def in_common(check: HealthCheck) -> HealthCheck:
    """A check without what is only its pool's matter: VIPs whose checks are equal so far share a verdict."""
    return replace(check, min_healthy=0.0)


@lru_cache(maxsize=8192)
def _identity(check: HealthCheck) -> HealthCheck:
    return check.identity


def _question(check: HealthCheck) -> HealthCheck:
    """What is asked, whenever it is."""
    return replace(check, interval=1.0, timeout=1.0, rise=1, fall=1, jitter=0.0, min_healthy=0.0)


@dataclass(eq=False)
class _Run:
    """One check of one backend, with the verdicts of all who want to know."""

    target: Target
    check: HealthCheck  # an identity
    timing: Timing
    phase: float  # the place of its beginning in its period, 0 to 1
    verdicts: dict[HealthCheck, Verdict] = field(default_factory=dict)
    statistics: Statistics = field(default_factory=Statistics)
    asked: Optional[HealthCheck] = None  # the same with the timeout that it gets; None: to be made
    began: Optional[float] = None
    latest: float = 0.0  # when the next has to begin
    timer: Optional[asyncio.TimerHandle] = None
    task: Optional[asyncio.Task[None]] = None
    waits: bool = False
    given_up: bool = False
    gone: bool = False

    @property
    def counts_failures(self) -> bool:
        return any(verdict.healthy and verdict.failing for verdict in self.verdicts.values())


class Checking:
    """Carries out checks from now on until it is closed; to be made and used in a running event loop.

    ``told`` is called with each transition, the check as in_common() makes it, and its target.
    """

    def __init__(
        self,
        probe: Probe,
        told: Callable[[HealthCheck, Target, Transition], None],
        random: Random,
        at_once: int = 256,
        tally: Optional[Tally] = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._probe = probe
        self._told = told
        self._random = random
        self._at_once = at_once
        self._tally = tally or Tally()
        self._runs: dict[tuple[HealthCheck, Target], _Run] = {}
        self._waiting: deque[_Run] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._phase = random.random()

    # -- what is wanted

    def set_checks(
        self,
        wanted: Iterable[tuple[HealthCheck, Target]],
        published: Callable[[HealthCheck, Target], Optional[bool]] = lambda _check, _target: None,
    ) -> None:
        """Carry out these checks and no others.

        The same question to the same target keeps its verdict when its times or numbers change; another question
        begins anew. ``published`` says what an earlier run of the agent made known, of those that are new.
        """
        grouped: dict[tuple[HealthCheck, Target], dict[HealthCheck, None]] = {}
        for check, target in wanted:
            grouped.setdefault((_identity(check), target), {})[in_common(check)] = None
        lost: dict[tuple[HealthCheck, Target], list[_Run]] = {}
        for key, run in list(self._runs.items()):
            if key not in grouped:
                lost.setdefault((_question(run.check), run.target), []).append(self._runs.pop(key))
        for (identity, target), checks in grouped.items():
            found = self._runs.get((identity, target))
            if found is not None and found.verdicts.keys() == checks.keys():
                continue
            if found is None and lost:
                heirs = lost.get((_question(identity), target))
                found = heirs.pop() if heirs else None
            timing = Timing.for_all(checks)
            run = found or _Run(target, identity, timing, self._next_phase())
            self._runs[identity, target] = run
            self._set_verdicts(run, checks, published)
            changed = found is None or timing != run.timing
            run.check, run.timing, run.asked = identity, timing, None
            if changed:
                self._reschedule(run)
        for runs in lost.values():
            for run in runs:
                self._end(run)

    def _next_phase(self) -> float:
        """Beginnings that lie evenly in the interval, however many there are going to be."""
        self._phase = (self._phase + _GOLDEN) % 1
        return self._phase

    @staticmethod
    def _set_verdicts(
        run: _Run, checks: Iterable[HealthCheck], published: Callable[[HealthCheck, Target], Optional[bool]]
    ) -> None:
        old = dict(run.verdicts)
        run.verdicts = {}
        unclaimed = {check: verdict for check, verdict in old.items() if check not in checks}
        for check in checks:
            verdict = old.get(check)
            if verdict is None and unclaimed:
                verdict = unclaimed.pop(next(iter(unclaimed)))
                verdict.rise, verdict.fall = check.rise, check.fall
            run.verdicts[check] = verdict or Verdict(check.rise, check.fall, published(check, run.target))

    def _end(self, run: _Run) -> None:
        run.gone = True
        if run.timer is not None:
            run.timer.cancel()
        if run.task is not None:
            run.task.cancel()

    async def close(self) -> None:
        """End everything, and return when it has ended."""
        for run in self._runs.values():
            self._end(run)
        self._runs.clear()
        self._waiting.clear()
        while self._tasks:
            await asyncio.wait(self._tasks)

    # -- when

    def _reschedule(self, run: _Run) -> None:
        """It is new, or its times have changed."""
        if run.task is not None or run.waits:
            return
        now = self._loop.time()
        if run.began is None or run.began + run.timing.period < now:
            latest = now + run.phase * run.timing.period
        else:
            latest = min(run.latest, run.began + run.timing.period)
        self._wait_until(run, latest, latest)

    def _wait_until(self, run: _Run, due: float, latest: float) -> None:
        if run.timer is not None:
            run.timer.cancel()
        run.latest = latest
        run.timer = self._loop.call_at(due, self._start, run)

    def _start(self, run: _Run) -> None:
        run.timer = None
        if len(self._tasks) >= self._at_once:
            run.waits = True
            self._waiting.append(run)
            return
        run.waits = False
        run.began = self._loop.time()
        late = run.began > run.latest + LATE
        run.statistics.late += late
        self._tally.late += late
        run.task = self._loop.create_task(self._carry_out(run))
        self._tasks.add(run.task)
        run.task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        while self._waiting:
            run = self._waiting.popleft()
            if not run.gone:
                self._start(run)
                break

    def _next(self, run: _Run) -> None:
        """The next is due a period after this one began; when it is over already, at once, and late."""
        began = self._loop.time() if run.began is None else run.began
        period = run.timing.recheck if run.counts_failures else run.timing.period
        shortened = period * (1 - run.check.jitter * self._random.random())
        self._wait_until(run, began + shortened, began + period)

    # -- what comes of it

    async def _carry_out(self, run: _Run) -> None:
        if run.asked is None:
            run.asked = replace(run.check, timeout=run.timing.timeout)
        outcome = await self._ask(run, run.asked)
        if run.gone:
            return
        transitions = self._record(run, outcome)
        run.task = None
        self._next(run)
        for check, transition in transitions:
            try:
                self._told(check, run.target, transition)
            except Exception as error:  # of whoever is told; the others are to hear theirs
                self._loop.call_exception_handler({"message": f"{transition} was not taken", "exception": error})

    async def _ask(self, run: _Run, check: HealthCheck) -> Outcome:
        """The probe has a limit of its own; this is one for its defects. wait_for() would take a task each time."""
        run.given_up = False
        guard = self._loop.call_later(check.timeout + OVERTIME, self._give_up, run)
        try:
            return await self._probe(check, run.target)
        except asyncio.CancelledError:
            if run.gone or not run.given_up:
                raise
            return Outcome(False, f"the check did not end within {check.timeout + OVERTIME:g} s", check.timeout)
        except Exception as error:  # a defect of the probe, which must not end this check for ever
            return Outcome(False, f"the check itself failed: {error!r}", 0.0, own=True)
        finally:
            guard.cancel()

    @staticmethod
    def _give_up(run: _Run) -> None:
        if run.task is not None:
            run.given_up = True
            run.task.cancel()

    def _record(self, run: _Run, outcome: Outcome) -> list[tuple[HealthCheck, Transition]]:
        statistics = run.statistics
        statistics.runs += 1
        statistics.last_seconds = outcome.seconds
        statistics.last_cause = outcome.cause
        self._tally.checked(run.check.type, outcome)
        if outcome.own:
            statistics.unable += 1
            return []
        statistics.failures += not outcome.ok
        now = self._loop.time()
        said = [(check, verdict.record(now, outcome.ok, outcome.cause)) for check, verdict in run.verdicts.items()]
        return [(check, transition) for check, transition in said if transition is not None]

    # -- what is known

    def verdict(self, check: HealthCheck, target: Target) -> Optional[Verdict]:
        """The verdict on a target by a check that was set."""
        run = self._runs.get((_identity(check), target))
        return run.verdicts.get(in_common(check)) if run is not None else None

    def unhealthy(self) -> list[tuple[HealthCheck, Target]]:
        """Whose verdict is that they are not, by which check (as in_common() makes it)."""
        return [
            (check, run.target)
            for run in self._runs.values()
            for check, verdict in run.verdicts.items()
            if not verdict.healthy
        ]

    def reports(self) -> list[Report]:
        """What is known of every check, for people and for metrics."""
        return [
            Report(check, run.target, verdict.healthy, verdict.known, verdict.cause, replace(run.statistics))
            for run in self._runs.values()
            for check, verdict in run.verdicts.items()
        ]
