# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When checks are carried out, on a loop whose time goes on at once: thousands of seconds pass in no time."""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Coroutine, Iterator
from dataclasses import replace
from ipaddress import IPv4Address
from random import Random
from typing import Any, Callable, Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.dsr.layer2.plugins.module_utils.agent.checking import Checking, Timing, in_common
from ansible_collections.dsr.layer2.plugins.module_utils.agent.probe_base import Outcome, Target
from ansible_collections.dsr.layer2.plugins.module_utils.agent.verdicts import Transition
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.health_check import HealthCheck

VIP = IPv4Address("10.77.0.10")
CHECK = HealthCheck("tcp", port=80, interval=2.0, timeout=1.0, rise=2, fall=3, jitter=0.1)


def target(number: int) -> Target:
    backend = IPv4Address("10.77.0.20") + number
    return Target(backend, VIP, backend, 80)


# -- a loop without waiting


class _Selector(selectors.SelectSelector):
    """Instead of waiting, it puts the loop's clock on."""

    now = 1000.0

    def select(self, timeout: Optional[float] = None) -> Any:
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "nothing is going to happen any more"
            self.now += max(0.0, timeout)
        return ready


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.clock = _Selector()
        super().__init__(self.clock)

    def time(self) -> float:
        return self.clock.now


def run(main: Coroutine[Any, Any, None]) -> None:
    loop = _Loop()
    complaints: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _loop, context: complaints.append(context))
    try:
        loop.run_until_complete(main)
        loop.run_until_complete(asyncio.sleep(0))
        assert not asyncio.all_tasks(loop)
    finally:
        loop.close()
    assert not complaints, complaints


def now() -> float:
    return asyncio.get_running_loop().time()


class Servers:
    """The backends: how each answers, who was asked when, and what was said of them."""

    def __init__(self) -> None:
        self.delay: dict[Target, float] = {}
        self.silent: set[Target] = set()
        self.refusing: set[Target] = set()
        self.asked: list[tuple[float, HealthCheck, Target]] = []
        self.told: list[tuple[HealthCheck, Target, Transition]] = []
        self.running: dict[Target, int] = {}
        self.most = 0

    async def probe(self, check: HealthCheck, whom: Target) -> Outcome:
        began = now()
        self.asked.append((began, check, whom))
        self.running[whom] = self.running.get(whom, 0) + 1
        self.most = max(self.most, sum(self.running.values()))
        try:
            if whom in self.refusing:
                return Outcome(False, "connection refused", 0.0)
            delay = self.delay.get(whom, 0.001)
            silent = whom in self.silent or delay > check.timeout
            await asyncio.sleep(check.timeout if silent else delay)
            silent = silent or whom in self.silent
            return Outcome(not silent, "no answer" if silent else "", now() - began)
        finally:
            self.running[whom] -= 1

    def tell(self, check: HealthCheck, whom: Target, transition: Transition) -> None:
        self.told.append((check, whom, transition))

    def begins(self, whom: Target) -> list[float]:
        return [at for at, _check, asked in self.asked if asked == whom]

    def gaps(self, whom: Target) -> list[float]:
        begins = self.begins(whom)
        return [later - sooner for sooner, later in zip(begins, begins[1:])]


@pytest.fixture
def servers() -> Iterator[Servers]:
    made = Servers()
    yield made
    assert not any(made.running.values())


def checking_of(servers: Servers, seed: int = 1, **options: Any) -> Checking:
    return Checking(servers.probe, servers.tell, Random(seed), **options)


def play(servers: Servers, scene: Callable[[Checking], Coroutine[Any, Any, None]], **options: Any) -> None:
    """Play a scene, and end all checks."""

    async def main() -> None:
        checks = checking_of(servers, **options)
        try:
            await scene(checks)
        finally:
            await checks.close()
        ended = len(servers.asked)
        await asyncio.sleep(100)
        assert len(servers.asked) == ended

    run(main())


# -- once, and evenly


def test_a_check_that_many_share_is_carried_out_once(servers: Servers) -> None:
    async def scene(checks: Checking) -> None:
        shared = [replace(CHECK, min_healthy=share / 100) for share in range(50)]
        checks.set_checks([(check, target(1)) for check in shared])
        await asyncio.sleep(20)
        assert len(checks.reports()) == 1

    play(servers, scene)
    assert 10 <= len(servers.asked) <= 13


def test_each_has_the_numbers_of_answers_that_it_wants(servers: Servers) -> None:
    patient = replace(CHECK, fall=5, rise=1)

    async def scene(checks: Checking) -> None:
        checks.set_checks([(CHECK, target(1)), (patient, target(1))])
        servers.refusing.add(target(1))
        await asyncio.sleep(20)
        assert checks.reports()[0].statistics.runs == len(servers.asked)

    play(servers, scene)
    assert [(check, transition.consecutive) for check, _target, transition in servers.told] == [
        (CHECK, 3),
        (patient, 5),
    ]


def test_beginnings_are_spread_over_the_interval(servers: Servers) -> None:
    """And stay so: in no tenth of a second do more than a few of 500 begin, where 25 would be even."""

    async def scene(checks: Checking) -> None:
        checks.set_checks([(CHECK, target(number)) for number in range(500)])
        await asyncio.sleep(100)

    play(servers, scene, at_once=1000)
    first = servers.asked[0][0]
    tenths: dict[int, int] = {}
    for at, _check, _target in servers.asked:
        tenths[int((at - first) * 10)] = tenths.get(int((at - first) * 10), 0) + 1
    assert max(count for tenth, count in tenths.items() if tenth < 17) <= 28
    assert max(tenths.values()) <= 55
    assert len(servers.asked) >= 500 * 50


def test_jitter_only_shortens_and_parts_those_that_begin_together(servers: Servers) -> None:
    check = replace(CHECK, jitter=0.3)

    async def scene(checks: Checking) -> None:
        checks.set_checks([(check, target(1))])
        await asyncio.sleep(2000)

    play(servers, scene)
    gaps = servers.gaps(target(1))
    assert 1.4 <= min(gaps) < 1.45
    assert 1.95 < max(gaps) <= 2.000001
    assert sum(gaps) / len(gaps) == pytest.approx(1.7, abs=0.03)


def test_without_jitter_the_interval_is_what_was_asked_for(servers: Servers) -> None:
    async def scene(checks: Checking) -> None:
        checks.set_checks([(replace(CHECK, jitter=0.0), target(1))])
        servers.delay[target(1)] = 0.9
        await asyncio.sleep(100)

    play(servers, scene)
    assert servers.gaps(target(1)) == pytest.approx([2.0] * 49, abs=1e-6)


def test_the_same_seed_is_the_same_course() -> None:
    def course(seed: int) -> list[tuple[float, HealthCheck, Target]]:
        servers = Servers()

        async def scene(checks: Checking) -> None:
            checks.set_checks([(CHECK, target(number)) for number in range(20)])
            await asyncio.sleep(50)

        play(servers, scene, seed=seed)
        return servers.asked

    assert course(1) == course(1) != course(2)


# -- how soon a fault is known

whole = st.integers(1, 6)
intervals = st.sampled_from([0.1, 0.5, 1.0, 2.0, 10.0, 60.0])


@settings(max_examples=300, deadline=None)
@given(
    intervals,
    st.floats(0.05, 1.0),
    whole,
    st.floats(0, 0.5),
    st.floats(0, 1),
    st.floats(0, 1),
    st.booleans(),
    st.integers(0, 1000),
)
def test_a_fault_is_known_within_interval_times_fall(
    interval: float, patience: float, fall: int, jitter: float, moment: float, pace: float, silent: bool, seed: int
) -> None:
    """Whatever the jitter, whenever it comes, however slowly the backend answered before, whether it refuses or not."""
    servers = Servers()
    check = replace(CHECK, interval=interval, timeout=patience * interval, fall=fall, jitter=jitter)
    servers.delay[target(1)] = 0.9 * pace * Timing.of(check).timeout
    fault = 0.0

    async def scene(checks: Checking) -> None:
        nonlocal fault
        checks.set_checks([(check, target(1))])
        await asyncio.sleep(interval * (3 + moment))
        assert not servers.told
        fault = now()
        (servers.silent if silent else servers.refusing).add(target(1))
        await asyncio.sleep(interval * (fall + 2) + 1)

    play(servers, scene, seed=seed)
    (told,) = servers.told
    assert told[2].at - fault <= interval * fall + 0.001
    assert told[2].consecutive == fall
    assert max(servers.gaps(target(1))[:3]) <= interval + 1e-6


@given(intervals, st.floats(0.05, 1.0), whole)
def test_timing_keeps_the_promise_and_nothing_overlaps(interval: float, patience: float, fall: int) -> None:
    timeout = patience * interval
    timing = Timing.of(replace(CHECK, interval=interval, timeout=timeout, fall=fall))
    assert timing.period + (fall - 1) * timing.recheck + timing.timeout <= interval * fall * (1 + 1e-9)
    assert timing.timeout <= timing.recheck * (1 + 1e-9)
    assert timing.timeout <= timing.period * (1 + 1e-9) <= interval * (1 + 2e-9)
    assert timing.recheck <= interval
    if patience <= fall / (fall + 1):
        assert timing.timeout == timeout
    if patience <= (fall - 1) / fall:
        assert timing.period == interval


def test_the_defaults_are_checked_as_they_say() -> None:
    assert Timing.of(CHECK) == Timing(period=2.0, recheck=1.5, timeout=1.0)
    # As long as the interval, a timeout leaves no time for anything else.
    assert Timing.of(replace(CHECK, interval=1.0)) == Timing(period=0.75, recheck=0.75, timeout=0.75)
    assert Timing.of(replace(CHECK, fall=1)) == Timing(period=1.0, recheck=1.0, timeout=1.0)
    shared = Timing.for_all([CHECK, replace(CHECK, fall=1)])
    assert shared == Timing(period=1.0, recheck=1.0, timeout=1.0)


def test_a_backend_that_is_down_is_asked_no_more_often(servers: Servers) -> None:
    async def scene(checks: Checking) -> None:
        checks.set_checks([(replace(CHECK, jitter=0.0), target(1))])
        servers.silent.add(target(1))
        await asyncio.sleep(60)

    play(servers, scene)
    assert servers.gaps(target(1))[:2] == pytest.approx([1.5, 1.5], abs=0.01)
    assert servers.gaps(target(1))[2:] == pytest.approx([2.0] * 27, abs=0.01)


def test_one_that_comes_back_is_told_with_what_it_took(servers: Servers) -> None:
    async def scene(checks: Checking) -> None:
        checks.set_checks([(CHECK, target(1)), (CHECK, target(2))])
        servers.refusing.add(target(1))
        await asyncio.sleep(10)
        assert checks.unhealthy() == [(CHECK, target(1))]
        servers.refusing.clear()
        await asyncio.sleep(10)
        assert checks.unhealthy() == []

    play(servers, scene)
    assert [
        (check, whom, change.healthy, change.cause, change.consecutive) for check, whom, change in servers.told
    ] == [
        (CHECK, target(1), False, "connection refused", 3),
        (CHECK, target(1), True, "", 2),
    ]


# -- late, and too many


def test_no_check_overlaps_itself_and_what_is_late_is_counted() -> None:
    """A probe that heeds no timeout; it is given up after a second of overtime."""
    servers = Servers()

    async def stubborn(check: HealthCheck, whom: Target) -> Outcome:
        servers.asked.append((now(), check, whom))
        servers.running[whom] = servers.running.get(whom, 0) + 1
        servers.most = max(servers.most, servers.running[whom])
        try:
            await asyncio.sleep(1000)
        finally:
            servers.running[whom] -= 1
        raise AssertionError

    async def main() -> None:
        checks = Checking(stubborn, servers.tell, Random(1))
        checks.set_checks([(replace(CHECK, interval=1.0, timeout=0.5), target(1))])
        await asyncio.sleep(100)
        (report,) = checks.reports()
        await checks.close()
        assert servers.gaps(target(1)) == pytest.approx([1.5] * (len(servers.asked) - 1), abs=0.01)
        assert report.statistics.runs == report.statistics.failures == len(servers.asked) - 1
        assert report.statistics.late == len(servers.asked) - 1
        assert report.cause == "the check did not end within 1.5 s"

    run(main())
    assert servers.most == 1


def test_no_more_run_at_once_than_may(servers: Servers) -> None:
    """All wait their turn, nobody is forgotten, and what is late is counted."""

    async def scene(checks: Checking) -> None:
        servers.silent.update(target(number) for number in range(20))
        checks.set_checks([(replace(CHECK, fall=1, timeout=0.9), target(number)) for number in range(20)])
        await asyncio.sleep(100)
        reports = checks.reports()
        assert all(report.statistics.late > 20 for report in reports)
        runs = [report.statistics.runs for report in reports]
        assert max(runs) - min(runs) <= 1
        assert sum(runs) == pytest.approx(4 * 100 / 0.9, rel=0.05)

    play(servers, scene, at_once=4)
    assert servers.most == 4


def test_with_room_for_all_nobody_is_late(servers: Servers) -> None:
    async def scene(checks: Checking) -> None:
        servers.silent.update(target(number) for number in range(0, 200, 3))
        checks.set_checks([(replace(CHECK, jitter=0.5), target(number)) for number in range(200)])
        await asyncio.sleep(100)
        assert sum(report.statistics.late for report in checks.reports()) == 0

    play(servers, scene)


def test_those_that_wait_can_be_taken_away(servers: Servers) -> None:
    async def scene(checks: Checking) -> None:
        servers.silent.update(target(number) for number in range(9))
        checks.set_checks([(CHECK, target(number)) for number in range(9)])
        await asyncio.sleep(5)
        checks.set_checks([(CHECK, target(8))])
        since = now()
        await asyncio.sleep(10)
        assert {asked for at, _check, asked in servers.asked if at > since} == {target(8)}

    play(servers, scene, at_once=1)


def test_a_loop_that_was_held_up_makes_a_check_late_and_not_double(servers: Servers) -> None:
    async def scene(checks: Checking) -> None:
        checks.set_checks([(replace(CHECK, jitter=0.0), target(1))])
        await asyncio.sleep(10)
        before = len(servers.asked)
        loop = asyncio.get_running_loop()
        assert isinstance(loop, _Loop)
        loop.clock.now += 9  # as if something had taken the processor for so long
        await asyncio.sleep(3)
        assert len(servers.asked) - before == 2
        assert checks.reports()[0].statistics.late == 1

    play(servers, scene)


def test_the_wall_clock_means_nothing(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    jumps = iter(range(0, 10**9, 86400))
    monkeypatch.setattr(time, "time", lambda: float(next(jumps)))

    async def scene(checks: Checking) -> None:
        checks.set_checks([(replace(CHECK, jitter=0.0), target(1))])
        await asyncio.sleep(20)

    play(servers, scene)
    assert servers.gaps(target(1)) == pytest.approx([2.0] * 9, abs=1e-6)


# -- changes while it runs


def known(checks: Checking, check: HealthCheck, number: int = 1) -> tuple[bool, bool]:
    verdict = checks.verdict(check, target(number))
    assert verdict is not None
    return verdict.healthy, verdict.known


def test_checks_come_and_go(servers: Servers) -> None:
    async def scene(checks: Checking) -> None:
        checks.set_checks([(CHECK, target(1)), (CHECK, target(2))])
        await asyncio.sleep(10)
        checks.set_checks([(CHECK, target(2)), (CHECK, target(3))])
        changed = now()
        await asyncio.sleep(10)
        assert checks.verdict(CHECK, target(1)) is None
        assert max(servers.begins(target(1))) < changed < min(servers.begins(target(3))) < changed + 2
        assert max(servers.gaps(target(2))) <= 2.000001
        assert [report.target for report in checks.reports()] == [target(2), target(3)]

    play(servers, scene)


def test_a_check_that_is_taken_away_while_it_runs_says_nothing_more(servers: Servers) -> None:
    async def scene(checks: Checking) -> None:
        servers.silent.add(target(1))
        checks.set_checks([(replace(CHECK, fall=1), target(1))])
        while not servers.asked:
            await asyncio.sleep(0.01)
        checks.set_checks([])
        await asyncio.sleep(0.01)
        assert not any(servers.running.values())
        await asyncio.sleep(10)

    play(servers, scene)
    assert len(servers.asked) == 1 and not servers.told


@pytest.mark.parametrize(
    "changed",
    [
        replace(CHECK, interval=7.0),
        replace(CHECK, interval=0.5, timeout=0.2),
        replace(CHECK, timeout=0.5, jitter=0.4),
        replace(CHECK, rise=5),
        replace(CHECK, fall=2, interval=1.0, min_healthy=0.5),
    ],
)
def test_other_times_and_numbers_keep_the_verdict(servers: Servers, changed: HealthCheck) -> None:
    async def scene(checks: Checking) -> None:
        checks.set_checks([(CHECK, target(1)), (CHECK, target(2))])
        servers.refusing.add(target(1))
        await asyncio.sleep(20)
        runs = checks.reports()[0].statistics.runs
        checks.set_checks([(changed, target(1)), (changed, target(2))])
        since = now()
        assert known(checks, changed, 1) == (False, True)
        assert known(checks, changed, 2) == (True, True)
        assert checks.reports()[0].statistics.runs == runs
        await asyncio.sleep(50)
        gaps = servers.gaps(target(2))
        assert servers.asked[-1][1].timeout == Timing.of(changed).timeout
        begins = [at for at in servers.begins(target(2)) if at > since]
        assert begins[0] - since <= max(Timing.of(changed).period, 2.0)
        assert max(gaps[-5:]) <= changed.interval + 1e-6
        assert max(gaps[-5:]) > 0.5 * changed.interval
        servers.refusing.clear()
        await asyncio.sleep(60)
        assert [change.consecutive for _check, _target, change in servers.told] == [3, changed.rise]

    play(servers, scene)


@pytest.mark.parametrize(
    "changed", [replace(CHECK, port=81), replace(CHECK, type="http"), replace(CHECK, expect="220")]
)
def test_another_question_begins_anew(servers: Servers, changed: HealthCheck) -> None:
    async def scene(checks: Checking) -> None:
        checks.set_checks([(CHECK, target(1))])
        servers.refusing.add(target(1))
        await asyncio.sleep(20)
        assert known(checks, CHECK) == (False, True)
        checks.set_checks([(changed, target(1))])
        assert known(checks, changed) == (True, False)
        assert checks.reports()[0].statistics.runs == 0

    play(servers, scene)


def test_a_much_shorter_interval_does_not_make_all_begin_at_once(servers: Servers) -> None:
    slow = replace(CHECK, interval=600.0, jitter=0.0)

    async def scene(checks: Checking) -> None:
        checks.set_checks([(slow, target(number)) for number in range(100)])
        await asyncio.sleep(1200)
        before = len(servers.asked)
        checks.set_checks([(replace(slow, interval=10.0), target(number)) for number in range(100)])
        await asyncio.sleep(1)
        assert len(servers.asked) - before <= 20
        await asyncio.sleep(9)
        assert len({asked for _at, _check, asked in servers.asked[before:]}) == 100

    play(servers, scene)


def test_what_an_earlier_run_made_known_holds(servers: Servers) -> None:
    def published(check: HealthCheck, whom: Target) -> Optional[bool]:
        assert check == in_common(CHECK)
        return {target(1): False, target(2): True}.get(whom)

    async def scene(checks: Checking) -> None:
        checks.set_checks([(replace(CHECK, min_healthy=0.5), target(number)) for number in (1, 2, 3)], published)
        assert [known(checks, CHECK, number) for number in (1, 2, 3)] == [(False, True), (True, True), (True, False)]
        await asyncio.sleep(10)
        checks.set_checks([(CHECK, target(1))], published)
        assert known(checks, CHECK) == (True, True)

    play(servers, scene)
    assert [(whom, change.healthy) for _check, whom, change in servers.told] == [(target(1), True)]


# -- what goes wrong here


def test_what_this_host_could_not_ask_says_nothing_of_the_backend() -> None:
    outcomes = iter([Outcome(True, "", 0.1)] + [Outcome(False, "too many open files", 0.0, own=True)] * 1000)

    async def probe(_check: HealthCheck, _target: Target) -> Outcome:
        return next(outcomes)

    async def main() -> None:
        checks = Checking(probe, lambda *_all: pytest.fail("nothing changed"), Random(1))
        checks.set_checks([(CHECK, target(1))])
        await asyncio.sleep(100)
        (report,) = checks.reports()
        await checks.close()
        assert (report.healthy, report.known) == (True, True)
        assert report.statistics.unable == report.statistics.runs - 1 > 40
        assert report.statistics.failures == 0
        assert report.statistics.last_cause == "too many open files"

    run(main())


def test_a_probe_with_a_defect_is_asked_again() -> None:
    async def probe(_check: HealthCheck, _target: Target) -> Outcome:
        raise ValueError("oops")

    async def main() -> None:
        checks = Checking(probe, lambda *_all: pytest.fail("nothing changed"), Random(1))
        checks.set_checks([(CHECK, target(1))])
        await asyncio.sleep(20)
        (report,) = checks.reports()
        await checks.close()
        assert report.statistics.unable >= 9
        assert report.statistics.last_cause == "the check itself failed: ValueError('oops')"

    run(main())


def test_who_is_told_and_fails_does_not_end_the_checks(servers: Servers) -> None:
    complaints: list[dict[str, Any]] = []

    def tell(check: HealthCheck, whom: Target, transition: Transition) -> None:
        servers.tell(check, whom, transition)
        raise ValueError("oops")

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
        checks = Checking(servers.probe, tell, Random(1))
        servers.refusing.add(target(1))
        checks.set_checks([(CHECK, target(1)), (replace(CHECK, rise=9), target(1))])
        await asyncio.sleep(20)
        await checks.close()

    run(main())
    assert len(servers.told) == len(complaints) == 2
    assert len(servers.asked) > 8


def test_hundreds_cost_little() -> None:
    """500 checks every 2 seconds: what the scheduling takes of a processor."""
    servers = Servers()

    async def scene(checks: Checking) -> None:
        checks.set_checks([(CHECK, target(number)) for number in range(500)])
        await asyncio.sleep(60)

    since = time.process_time()
    play(servers, scene, at_once=1000)
    assert (time.process_time() - since) / 60 < 0.1
