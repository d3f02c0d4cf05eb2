# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the agent makes of answers, of files and of others' transactions; its time goes on at once."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import time
from collections.abc import Awaitable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from random import Random
from typing import Any, Callable, Optional, cast

import pytest

from ansible_collections.dsr.layer2.plugins.module_utils.agent import agent as agent_module
from ansible_collections.dsr.layer2.plugins.module_utils.agent import notify
from ansible_collections.dsr.layer2.plugins.module_utils.agent.agent import Agent, main, targets_of
from ansible_collections.dsr.layer2.plugins.module_utils.agent.limited import Limited
from ansible_collections.dsr.layer2.plugins.module_utils.agent.probe_base import Outcome, Target
from ansible_collections.dsr.layer2.plugins.module_utils.agent.transactions import Transactions
from ansible_collections.dsr.layer2.plugins.module_utils.agent.whereabouts import Move, Sought
from ansible_collections.dsr.layer2.plugins.module_utils.common import command
from ansible_collections.dsr.layer2.plugins.module_utils.common.errors import CommandError, DsrError, HostError
from ansible_collections.dsr.layer2.plugins.module_utils.common.nics import Nic
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr import model
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.engine import LoadBalancer, Reconciled
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.failing import Failing
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.health_check import HealthCheck
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.live import Live, LiveFile
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.probing import probe_marks
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.resolved import ResolvedVip
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.table import Names
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.agent import test_checking
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.nft_dsr.hosts import (
    OWN,
    Host,
    backends,
    mac_of,
    vip,
)

B1, B2, B3 = (IPv4Address(f"10.77.0.{number}") for number in (21, 22, 23))
MOVED, OTHER = "02:00:00:00:00:99", "02:00:00:00:00:98"
CHECK = {"type": "tcp", "interval": 1, "rise": 2, "fall": 3}


class _Endless(Exception):
    """What a thread does will never end."""


class _Loop(test_checking._Loop):
    """What threads do is done at once, too."""

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        done = self.create_future()
        try:
            done.set_result(func(*args))
        except _Endless:
            pass
        except Exception as error:
            done.set_exception(error)
        return done


def resolved(options: dict[str, Any], without_mac: tuple[str, ...] = ()) -> ResolvedVip:
    parsed = model.parse_vip(options, "")
    addresses = [backend.address for backend in parsed.backends if str(backend.address) not in without_mac]
    return ResolvedVip(parsed, "eth0", "eth0", {address: mac_of(str(address)) for address in addresses})


def checked(name: str = "web", check: Optional[dict[str, Any]] = None, **options: Any) -> ResolvedVip:
    return resolved(vip(name, health_check={**CHECK, **(check or {})}, **options))


class Watch:
    """It sees what tests say."""

    def __init__(self) -> None:
        self.moved: Callable[[Move], None] = lambda _move: None
        self.sought: dict[Any, Sought] = {}
        self.suspected: list[Any] = []
        self.nics: list[dict[str, Nic]] = []
        self.closed = False

    def __call__(self, moved: Callable[[Move], None], tell: Callable[[str], None]) -> Watch:
        self.moved = moved
        return self

    def set_sought(self, sought: Iterable[Sought]) -> None:
        self.sought = {item.address: item for item in sought}

    def suspect(self, address: Any) -> None:
        self.suspected.append(address)

    async def keep_up(self, nics: Mapping[str, Nic]) -> None:
        if not self.nics or self.nics[-1] != nics:
            self.nics.append(dict(nics))

    def close(self) -> None:
        self.closed = True

    def moves(self, address: Any, mac: str) -> None:
        sought = self.sought[address]
        self.moved(Move(sought, sought.mac, mac, True))


class Heard:
    """Transactions, as tests say."""

    def __init__(self) -> None:
        self.come: Callable[[], None] = lambda: None
        self.made: dict[int, str] = {}
        self.closed = False

    def __call__(self, come: Callable[[], None]) -> Heard:
        self.come = come
        return self

    def programs(self, after: int, until: int) -> list[str]:
        return [program for number, program in self.made.items() if after < number <= until]

    def close(self) -> None:
        self.closed = True


class Site:
    """The load balancer that the agent works on, and the backends that it asks."""

    def __init__(self, folder: Path, *items: ResolvedVip) -> None:
        self.folder = folder
        self.items = list(items)
        self.live_file = LiveFile(str(folder / "state.json"), str(folder / "agent.lock"))
        self.load_balancer = cast(LoadBalancer, self)  # unless a test has a whole one
        self.unreadable = ""
        self.refused = ""
        self.unable = ""
        self.pause = 0.0  # seconds until an answer
        self.number: Optional[int] = 1
        self.names: dict[str, Names] = {}
        self.foreign: list[str] = []  # what somebody else's transaction changed
        self.endless = False
        self.lives: list[Live] = []
        self.tried: list[float] = []
        self.failing: set[Any] = set()
        self.cause = "connection refused"
        self.asked: set[tuple[HealthCheck, Target]] = set()
        self.said: list[str] = []
        self.nics = {name: Nic(number, mac) for number, (name, mac) in enumerate(OWN.items(), 2)}
        self.watch = Watch()
        self.transactions = Heard()
        self.agent: Optional[Agent] = None
        self.task: Optional[asyncio.Future[None]] = None

    # what a LoadBalancer has for agents

    def desired(self) -> list[ResolvedVip]:
        if self.unreadable:
            raise HostError(self.unreadable)
        return list(self.items)

    def generation(self) -> Optional[int]:
        return self.number

    def reconcile(self, live: Live, last: Sequence[ResolvedVip] = ()) -> Reconciled:
        self.tried.append(test_checking.now())
        if self.endless:
            raise _Endless
        if self.refused:
            raise HostError(self.refused)
        news = not self.lives or self.lives[-1] != live
        self.lives.append(live)
        reasons, self.foreign = self.foreign, []
        told = [f"number {len(self.lives)}"] if news else []
        return Reconciled([*told, *reasons], self.number, self.items, self.names)

    async def probe(self, check: HealthCheck, target: Target) -> Outcome:
        self.asked.add((check, target))
        if self.unable:
            return Outcome(False, self.unable, 0.0, own=True)
        failed = target.backend in self.failing
        await asyncio.sleep(self.pause)
        return Outcome(not failed, self.cause if failed else "", 0.0)

    # what tests do with it

    def configure(self, *items: ResolvedVip, file: str = "vips.json") -> None:
        """Another configuration, and the file from which that is seen."""
        self.items = list(items) or self.items
        path = self.folder / file
        path.write_text(path.read_text() + "." if path.exists() else ".")

    async def until(self, wanted: Callable[[], bool], seconds: float = 60.0) -> float:
        assert self.task is not None
        begun = test_checking.now()
        while not wanted():
            if self.task.done():
                self.task.result()
            assert test_checking.now() - begun < seconds, f"it did not come about; the agent said: {self.said}"
            await asyncio.sleep(0.01)
        return test_checking.now() - begun

    async def heard(self, text: str) -> None:
        await self.until(lambda: any(text in line for line in self.said))

    async def unhealthy(self, **expected: set[Any]) -> float:
        """Wait for the kernel to have it so."""
        return await self.until(lambda: bool(self.lives) and dict(self.lives[-1].unhealthy) == expected)

    def tell(self, story: Callable[[], Awaitable[None]]) -> None:
        """Run the agent as long as the story takes."""

        async def whole() -> None:
            self.agent = Agent(
                self.load_balancer,
                self.live_file,
                str(self.folder),
                self.probe,
                tell=self.said.append,
                watching=self.watch,
                looking=lambda names: {name: nic for name, nic in self.nics.items() if name in names},
                hearing=cast(Callable[[Callable[[], None]], Transactions], self.transactions),
            )
            self.task = asyncio.ensure_future(self.agent.run())
            try:
                await story()
            finally:
                self.task.cancel()
                with suppress(asyncio.CancelledError):
                    await self.task

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(test_checking, "_Loop", _Loop)
            test_checking.run(whole())
        assert not self.live_file.agent_runs()


# -- who is unhealthy


def test_a_backend_that_fails_is_taken_out_and_comes_back(tmp_path: Path) -> None:
    site = Site(tmp_path, checked())

    async def story() -> None:
        await site.unhealthy()
        assert site.live_file.agent_runs() and site.said[0] == "began; VIPs: 1, checked: 1, checks: 3"
        site.failing = {B1}
        assert await site.unhealthy(web={B1}) <= 3
        await site.heard("web: 10.77.0.21 is unhealthy: connection refused (3 answers in a row)")
        site.failing = set()
        await site.unhealthy()
        await site.heard("web: 10.77.0.21 is healthy (2 answers in a row)")
        assert len(site.lives) == 3 and "changed: number 3" in site.said

    site.tell(story)


def test_a_verdict_is_acted_upon_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not at the next look."""
    monkeypatch.setattr(agent_module, "_LOOK", 1000.0)
    site = Site(tmp_path, checked())

    async def story() -> None:
        await site.unhealthy()
        site.failing = {B1}
        assert await site.unhealthy(web={B1}) <= 3.02

    site.tell(story)


def test_a_quiet_host_is_left_alone(tmp_path: Path) -> None:
    site = Site(
        tmp_path,
        checked(),
        checked("other", ports=["81"], check={"via": "backend"}),
        resolved(vip("plain", ports=["82"])),
    )

    async def story() -> None:
        await asyncio.sleep(600)
        assert len(site.lives) == len(site.tried) == 1 and len(site.said) == 2

    site.tell(story)


def test_a_floor_keeps_a_pool_whose_check_fails_nearly_everywhere(tmp_path: Path) -> None:
    """Those that cannot serve anyway neither count nor come back."""
    pool = [*backends(21, 22, weight=2), *backends(23), *backends(24, state="drain"), *backends(25, backup=True)]
    site = Site(tmp_path, checked(check={"min_healthy": 0.5}, scheduler="weighted_round_robin", backends=pool))
    drained, spare = IPv4Address("10.77.0.24"), IPv4Address("10.77.0.25")

    async def story() -> None:
        site.failing = {B1, drained, spare}
        await site.unhealthy(web={B1, drained, spare})
        site.failing |= {B2}
        await site.unhealthy(web={drained, spare})
        await site.heard("web: 20% of the pool are healthy, the floor is 50%: health is ignored, all backends serve")
        site.failing -= {B1}
        await site.unhealthy(web={B2, drained, spare})
        await site.heard("health is heeded again")

    site.tell(story)


def test_why_and_since_when_is_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it was when the verdict fell: a cause that is another each time is no news, and a new agent knows it too."""
    site = Site(tmp_path, checked())
    begun = 1_800_000_000
    monkeypatch.setattr("time.time", lambda: begun)
    since = "2027-01-15T08:00:00Z"

    async def story() -> None:
        site.failing = {B1}
        await site.unhealthy(web={B1})
        assert site.lives[-1].failing == {"web": {B1: Failing("connection refused", since)}}
        site.live_file.publish(site.lives[-1])
        monkeypatch.setattr("time.time", lambda: begun + 86400)
        number = len(site.tried)
        for site.cause in ("no route", "no answer", "no idea"):
            await asyncio.sleep(5)
        assert len(site.tried) == number
        site.configure(checked(check={"interval": 2}))
        await asyncio.sleep(5)
        assert site.lives[-1].failing == {"web": {B1: Failing("connection refused", since)}}, "of a check that goes on"

    site.tell(story)

    async def later() -> None:
        await asyncio.sleep(5)
        assert [live.failing for live in site.lives[-1:]] == [{"web": {B1: Failing("connection refused", since)}}]
        site.failing = set()
        await site.unhealthy()
        assert site.lives[-1].failing == {}
        site.failing = {B1}
        await site.unhealthy(web={B1})
        assert site.lives[-1].failing == {"web": {B1: Failing("no idea", "2027-01-16T08:00:00Z")}}

    site.tell(later)


def test_a_floor_that_is_active_is_published(tmp_path: Path) -> None:
    """Also if by that nobody's service has changed."""
    site = Site(tmp_path, checked(check={"min_healthy": 0.5}))

    async def story() -> None:
        await site.unhealthy()
        site.failing = {B1, B2, B3}
        await site.until(lambda: site.lives[-1].ignored == {"web"})
        await asyncio.sleep(10)
        assert site.lives[-1].failing["web"].keys() == {B1, B2, B3} and not site.lives[-1].unhealthy
        site.failing = {B1}
        await site.unhealthy(web={B1})
        assert not site.lives[-1].ignored and site.lives[-1].failing["web"].keys() == {B1}
        site.configure(resolved(vip()))
        await site.until(lambda: site.lives[-1] == Live())

    site.tell(story)


def test_two_vips_share_a_check_and_each_hears_of_it(tmp_path: Path) -> None:
    """They are asked once; what is made of it is each one's own matter."""
    via = {"via": "backend", "port": 80}
    site = Site(
        tmp_path,
        checked("heeding", check=via),
        checked("ignoring", check={**via, "min_healthy": 0.9}, address="10.77.0.101"),
    )

    async def story() -> None:
        site.failing = {B1}
        await site.unhealthy(heeding={B1})
        await site.heard("heeding: 10.77.0.21 is unhealthy")
        await site.heard("ignoring: 10.77.0.21 is unhealthy")
        await site.heard("ignoring: 67% of the pool are healthy")
        assert len(site.asked) == 3, "each backend is asked once for both"

    site.tell(story)


def test_a_host_that_cannot_ask_takes_nobody_out_and_says_so_once(tmp_path: Path) -> None:
    site = Site(tmp_path, checked())

    async def story() -> None:
        site.failing = {B1}
        await site.unhealthy(web={B1})
        site.unable = "this host: too many open files"
        await asyncio.sleep(60)
        assert site.lives[-1].unhealthy == {"web": {B1}} and len(site.lives) == 2
        assert sum("cannot carry out its check (tcp)" in line and site.unable in line for line in site.said) == 1
        site.unable = ""
        site.failing = set()
        await site.unhealthy()

    site.tell(story)


def test_it_begins_where_the_last_one_ended(tmp_path: Path) -> None:
    """Who was unhealthy stays so until answers say otherwise, on VIPs that still check; MAC addresses stay."""
    site = Site(tmp_path, checked(), resolved(vip("plain", ports=["81"])))
    macs = {B2: "02:00:00:00:00:99"}
    site.live_file.publish(Live({"web": frozenset([B1]), "plain": frozenset([B1]), "gone": frozenset([B1])}, macs))
    site.failing = {B1}

    async def story() -> None:
        await site.unhealthy(web={B1})
        assert len(site.lives) == 1 and site.lives[0].macs == macs
        site.failing = set()
        await site.unhealthy()
        assert site.lives[-1].macs == macs

    site.tell(story)


def test_only_one_runs(tmp_path: Path) -> None:
    site = Site(tmp_path, checked())
    with site.live_file.held(), pytest.raises(HostError, match="another agent runs on this host"):
        asyncio.run(Agent(site.load_balancer, site.live_file, str(tmp_path), site.probe).run())
    assert site.tried == []


# -- what is wanted


def test_a_new_configuration_is_taken(tmp_path: Path) -> None:
    site = Site(tmp_path, checked())

    async def story() -> None:
        site.failing = {B1}
        await site.unhealthy(web={B1})
        number = len(site.lives)
        site.configure(checked("other", ports=["81"]), checked())
        await site.heard("new configuration; VIPs: 2, checked: 2, checks: 6")
        await site.until(lambda: len(site.lives) > number, 0.5)
        assert site.lives[number].unhealthy == {"web": {B1}}, "what is known stays known"
        await site.unhealthy(web={B1}, other={B1})
        site.configure(checked(check={"min_healthy": 1}))
        await site.unhealthy()
        site.configure(checked())
        await site.unhealthy(web={B1})
        site.configure(resolved(vip()))
        await site.unhealthy()
        site.configure(checked(backends=backends(21, 22)))
        await site.unhealthy(web={B1})

    site.tell(story)


def test_a_drain_is_heard_of(tmp_path: Path) -> None:
    site = Site(tmp_path, checked())

    async def story() -> None:
        await site.unhealthy()
        site.configure(checked(backends=[*backends(21, state="drain"), *backends(22, 23)]), file="overrides.json")
        await site.until(lambda: len(site.lives) == 2, 0.5)

    site.tell(story)


def test_a_configuration_that_cannot_be_read_leaves_the_one_before_in_force(tmp_path: Path) -> None:
    site = Site(tmp_path, checked())

    async def story() -> None:
        await site.unhealthy()
        site.unreadable = "vips.json: no JSON"
        site.configure()
        await site.heard("the configuration is not taken, the one before stays in force: vips.json: no JSON")
        site.failing = {B1}
        await site.unhealthy(web={B1})
        await asyncio.sleep(60)
        assert sum("not taken" in line for line in site.said) == 1
        site.unreadable = ""
        site.configure(checked(check={"min_healthy": 1}))
        await site.unhealthy()

    site.tell(story)


def test_a_start_without_a_configuration_that_can_be_read_forgets_nothing(tmp_path: Path) -> None:
    site = Site(tmp_path, checked())
    site.live_file.publish(Live({"web": frozenset([B1])}))
    site.unreadable = "vips.json: no JSON"
    site.failing = {B1}

    async def story() -> None:
        await site.heard("the configuration is not taken")
        await asyncio.sleep(10)
        site.unreadable = ""
        number = len(site.lives)
        site.configure(checked())
        await site.until(lambda: len(site.lives) > number, 0.5)
        assert all(live.unhealthy == {"web": {B1}} for live in site.lives)

    site.tell(story)


# -- the kernel


def test_somebody_elses_transaction_is_looked_into(tmp_path: Path) -> None:
    site = Site(tmp_path, checked())

    async def story() -> None:
        await site.unhealthy()
        for site.number in (2, 3):
            site.lives.clear()
            await site.until(lambda: bool(site.lives), 0.5)
        await asyncio.sleep(60)
        assert len(site.lives) == 1

    site.tell(story)


def test_a_repair_that_fails_is_tried_again_each_second(tmp_path: Path) -> None:
    site = Site(tmp_path, checked())
    site.refused = "the interface 'eth0' is gone"

    async def story() -> None:
        await asyncio.sleep(10.5)
        gaps = [later - sooner for sooner, later in zip(site.tried, site.tried[1:])]
        assert 8 <= len(gaps) <= 10 and min(gaps) >= 1.0, gaps
        assert [line for line in site.said if "trying again" in line] == [
            "the rules cannot be brought to what they should be, trying again: the interface 'eth0' is gone"
        ]
        site.refused = "no permission"
        await site.heard("trying again: no permission")
        site.refused = ""
        await site.heard("the rules are what they should be again")
        tried = len(site.tried)
        await asyncio.sleep(60)
        assert len(site.tried) == tried, "that is the end of it"

    site.tell(story)


def test_where_transactions_are_not_counted_it_looks_each_second(tmp_path: Path) -> None:
    site = Site(tmp_path, checked())
    site.number = None

    async def story() -> None:
        await asyncio.sleep(10.5)
        gaps = [later - sooner for sooner, later in zip(site.tried, site.tried[1:])]
        assert 8 <= len(gaps) <= 10 and min(gaps) >= 1.0, gaps
        site.failing = {B1}
        assert await site.unhealthy(web={B1}) <= 3.02, "news do not wait for it"

    site.tell(story)


def test_news_do_not_wait_for_the_next_try_and_are_not_lost(tmp_path: Path) -> None:
    site = Site(tmp_path, checked())

    async def story() -> None:
        await site.unhealthy()
        site.refused = "no"
        site.failing = {B1}
        await site.heard("trying again: no")
        site.refused = ""
        assert await site.unhealthy(web={B1}) <= 1.3

    site.tell(story)


def test_it_ends_even_if_news_come_in_that_moment(tmp_path: Path) -> None:
    site = Site(tmp_path, checked())

    async def story() -> None:
        await site.unhealthy()
        await asyncio.sleep(1)
        assert site.agent is not None and site.task is not None
        site.agent._woken.set()
        site.task.cancel()
        done, _pending = await asyncio.wait([site.task], timeout=10.1)
        assert done and site.task.cancelled()

    site.tell(story)


# -- for metrics


def test_what_is_counted(tmp_path: Path) -> None:
    """A repair is what was changed back, and not what health or a configuration asked for."""
    site = Site(tmp_path, checked(check={"min_healthy": 0.5}))

    async def story() -> None:
        await site.unhealthy()
        assert site.agent is not None
        tally = site.agent.facts().tally
        assert (tally.valid, tally.in_sync, tally.reconciled, tally.repairs) == (True, True, 1, 0)
        site.failing = {B1}
        await site.unhealthy(web={B1})
        facts = site.agent.facts()
        assert facts.items[0].unhealthy == {B1} and facts.ignoring == {"web": False}
        healthy = {
            backend.address: report.healthy
            for report in facts.reports
            for _vip, backend in facts.users[report.check, report.target]
        }
        assert healthy == {B1: False, B2: True, B3: True}
        assert tally.transitions == {("web", B1): 1} and tally.checks["tcp", "failed"] == 3
        assert tally.checks["tcp", "ok"] >= 4 and (tally.reconciled, tally.repairs) == (2, 0)

        for number in (1, 2):
            site.number += 1
            site.foreign = ["map gone"]
            await site.until(lambda number=number: tally.repairs == number)  # type: ignore[misc]
        site.number += 1  # somebody else's that was no matter of ours
        await site.until(lambda: tally.reconciled == 5)
        assert tally.repairs == 2

        site.refused = "no"
        site.number += 1
        await site.until(lambda: not tally.in_sync)
        site.refused = ""
        site.foreign = ["map gone"]
        await site.until(lambda: tally.in_sync)
        assert tally.not_reconciled >= 1 and tally.repairs == 3

        site.failing |= {B2}
        await site.heard("health is ignored")
        assert site.agent.facts().ignoring == {"web": True}
        site.unreadable = "no JSON"
        site.configure()
        await site.until(lambda: not tally.valid)
        site.unreadable = ""
        site.configure(checked(backends=backends(22, 23)))
        await site.until(lambda: tally.valid)
        assert ("web", B1) not in tally.transitions, "it is not there any more"

    site.tell(story)


def test_before_anything_is_known_there_is_nothing_to_tell(tmp_path: Path) -> None:
    site = Site(tmp_path, checked())
    facts = Agent(site.load_balancer, site.live_file, str(tmp_path), site.probe).facts()
    assert (facts.items, facts.reports, facts.tally.in_sync) == ([], [], False)


# -- whom to ask


def test_a_check_through_the_vip_is_marked_for_it() -> None:
    one, other = checked(), checked("other", address="10.77.0.101", check={"port": 81})
    marks = probe_marks([one.vip.address, other.vip.address])
    for item, port in ((one, 80), (other, 81)):
        found = [target for (_check, target), users in targets_of([one, other]).items() if users[0][0] is item.vip]
        assert found == [
            Target(address, item.vip.address, address, port, mark=marks[item.vip.address]) for address in (B1, B2, B3)
        ]


def test_a_check_of_the_backend_itself_has_no_mark() -> None:
    for options in ({"via": "backend"}, {"type": "exec", "port": None, "command": ["/bin/true"]}):
        found = [target for _check, target in targets_of([checked(check=options)])]
        assert [target.backend for target in found] == [B1, B2, B3]
        assert {target.mark for target in found} == {0}


def test_who_gets_no_packets_is_not_asked() -> None:
    pool = [*backends(21, state="down"), *backends(22, state="drain"), *backends(23), *backends(24, backup=True)]
    options = vip(backends=pool, require_mac=False, health_check=CHECK)
    found = targets_of([resolved(options, without_mac=("10.77.0.23",)), resolved(vip("plain", ports=["81"]))])
    assert [str(target.backend) for _check, target in found] == ["10.77.0.22", "10.77.0.24"]


def test_a_link_local_backend_is_one_of_its_nic() -> None:
    pool = [{"address": "fe80::21"}]
    options = vip(address="fd00:77::100", backend_interface="eth1", backends=pool, health_check=CHECK)
    targets = [target for _check, target in targets_of([replace(resolved(options), backend_interface="eth1")])]
    target = targets[0]
    assert len(targets) == 1
    assert (target.backend, str(target.connect_to)) == (ip_address("fe80::21"), "fe80::21%eth1")


def test_who_asks_the_same_is_listed_once() -> None:
    via = {"via": "backend", "port": 80}
    items = [checked(check=via), checked("other", check=via, ports=["81"])]
    found = targets_of(items)
    assert [[owner.name for owner, _backend in users] for users in found.values()] == [["web", "other"]] * 3


def test_who_is_found_is_asked_too(tmp_path: Path) -> None:
    """And who was found by the last one."""
    three = ("10.77.0.22", "10.77.0.23")
    site = Site(tmp_path, resolved(vip(require_mac=False, health_check=CHECK), without_mac=three))
    site.live_file.publish(Live({}, {B2: MOVED}))

    async def story() -> None:
        await site.heard("began; VIPs: 1, checked: 1, checks: 2")
        site.watch.moves(B3, OTHER)
        site.failing = {B2, B3}
        await site.unhealthy(web={B2, B3})
        assert site.lives[-1].macs == {B2: MOVED, B3: OTHER}

    site.tell(story)


# -- where backends are


def test_a_move_is_acted_upon_at_once_and_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_module, "_LOOK", 1000.0)
    site = Site(tmp_path, checked(), resolved(vip("plain", ports=["81"])))

    async def story() -> None:
        await site.unhealthy()
        site.watch.moves(B1, MOVED)
        assert await site.until(lambda: len(site.lives) == 2) <= 0.02
        assert site.lives[-1].macs == {B1: MOVED}
        await site.heard(f"10.77.0.21: MAC address {mac_of('10.77.0.21')} is now {MOVED} (announced by itself)")
        site.watch.moves(B1, mac_of("10.77.0.21"))
        await site.until(lambda: len(site.lives) == 3)
        assert site.lives[-1].macs == {}, "it is where it was configured"

    site.tell(story)
    assert site.watch.closed


def test_a_move_while_the_kernel_refuses_is_not_lost(tmp_path: Path) -> None:
    site = Site(tmp_path, checked())

    async def story() -> None:
        await site.unhealthy()
        site.refused = "no"
        site.watch.moves(B1, MOVED)
        await site.heard("trying again: no")
        site.refused = ""
        await site.until(lambda: len(site.lives) == 2, 1.5)
        assert site.lives[-1].macs == {B1: MOVED}

    site.tell(story)


def test_a_configuration_that_has_come_to_know_it_ends_what_is_published(tmp_path: Path) -> None:
    def configured(mac: str) -> ResolvedVip:
        item = checked()
        return replace(item, macs={**item.macs, B1: mac})

    site = Site(tmp_path, checked())
    site.live_file.publish(Live({}, {B1: MOVED}))

    async def story() -> None:
        await site.unhealthy()
        assert site.lives[-1].macs == {B1: MOVED} and site.watch.sought[B1].mac == MOVED
        site.configure(configured(MOVED))
        await site.until(lambda: len(site.lives) == 2)
        assert site.lives[-1].macs == {} and site.watch.sought[B1].mac == MOVED
        site.watch.moves(B1, OTHER)
        await site.until(lambda: len(site.lives) == 3)
        site.configure(configured(mac_of("10.77.0.21")))
        await site.until(lambda: len(site.lives) == 4)
        assert site.lives[-1].macs == {} and site.watch.sought[B1].mac == mac_of("10.77.0.21"), "it is the later news"

    site.tell(story)


def test_the_first_check_that_fails_raises_a_suspicion(tmp_path: Path) -> None:
    site = Site(tmp_path, checked())

    async def story() -> None:
        await site.unhealthy()
        await asyncio.sleep(5)
        assert site.watch.suspected == []
        site.failing = {B1}
        await site.until(lambda: site.watch.suspected == [B1], 1.01)
        assert site.lives[-1].unhealthy == {}
        site.watch.suspected.clear()
        site.unable = "this host: too many open files"
        await asyncio.sleep(5)
        assert site.watch.suspected == []

    site.tell(story)


# -- NICs


def test_a_nic_that_goes_and_comes_back_is_acted_upon_within_a_look(tmp_path: Path) -> None:
    names = [f"v{number}" for number in range(1, 8)]
    others = [replace(checked(name, ports=[str(80 + n)]), backend_interface="eth1") for n, name in enumerate(names, 1)]
    site = Site(tmp_path, checked(), *others)

    async def story() -> None:
        await site.unhealthy()
        nic = site.nics.pop("eth1")
        await site.until(lambda: len(site.lives) == 2, 0.5)
        await site.heard("the interface eth1 is gone; not served until it is back: v1, v2, v3, v4, v5 and 2 more")
        assert set(site.watch.nics[-1]) == {"eth0"}
        await asyncio.sleep(60)
        assert len(site.lives) == 2 and sum("is gone" in line for line in site.said) == 1
        site.nics["eth1"] = nic
        await site.until(lambda: len(site.lives) == 3, 0.5)
        await site.heard("the interface eth1 is back; served again: v1, v2")
        site.nics["eth1"] = nic._replace(number=9)
        await site.until(lambda: len(site.lives) == 4, 0.5)
        site.nics["eth0"] = site.nics["eth0"]._replace(mac=MOVED)
        await site.until(lambda: len(site.lives) == 5, 0.5)
        assert sum("is gone" in line or "is back" in line for line in site.said) == 2

    site.tell(story)


def test_a_look_at_nics_that_fails_says_nothing(tmp_path: Path) -> None:
    class Exhausted(dict[str, Nic]):
        def items(self) -> Any:
            raise OSError("too many open files")

    site = Site(tmp_path, checked())

    async def story() -> None:
        await site.unhealthy()
        nics, site.nics = site.nics, Exhausted()
        await asyncio.sleep(5)
        site.nics = nics
        await asyncio.sleep(5)
        assert len(site.lives) == 1 and not any("gone" in line for line in site.said)

    site.tell(story)


def test_a_check_through_a_nic_that_is_gone_says_nothing(tmp_path: Path) -> None:
    """Neither of the backends that fail now, nor of those that failed before."""
    other = replace(checked("other", ports=["81"]), backend_interface="eth1")
    site = Site(tmp_path, checked(), other)

    async def story() -> None:
        site.failing = {B2}
        await site.unhealthy(web={B2}, other={B2})
        nic = site.nics.pop("eth1")
        await site.heard("eth1 is gone")
        site.failing = {B1}
        await site.unhealthy(web={B1}, other={B2})
        await asyncio.sleep(60)
        assert not any("cannot carry out" in line for line in site.said)
        site.refused = "no"
        site.nics["eth1"] = nic
        await site.heard("trying again: no")
        await asyncio.sleep(60)
        site.refused = ""
        await site.until(lambda: site.lives[-1].unhealthy == {"web": {B1}, "other": {B1}}, 10)

    site.tell(story)


def test_a_check_that_began_while_a_nic_was_gone_says_nothing(tmp_path: Path) -> None:
    site = Site(tmp_path, checked(check={"fall": 1}))

    async def story() -> None:
        await site.unhealthy()
        site.pause = 0.4
        nic = site.nics.pop("eth0")
        await site.heard("eth0 is gone")
        await asyncio.sleep(1)
        site.failing = {B1}
        site.asked.clear()
        await site.until(lambda: any(target.backend == B1 for _check, target in site.asked))
        site.failing = set()
        site.nics["eth0"] = nic
        await site.heard("eth0 is back")
        await asyncio.sleep(5)
        assert not any("unhealthy" in line for line in site.said)

    site.tell(story)


# -- on a load balancer made of data


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """One that serves a VIP that is checked."""
    monkeypatch.setattr("os.geteuid", lambda: 0)
    made = Host(tmp_path)
    made.load_balancer.set_vips([vip(health_check=CHECK)], True, False)
    return made


def serves(host: Host, address: str) -> bool:
    elements = host.nft.table.maps["poolbackends_web"].elements
    return any(key.endswith(f"0x{int(ip_address(address)):08x}") for key in elements)


def test_a_load_balancer_is_kept_right(host: Host) -> None:
    """From the check to the kernel, through all that lies between."""
    site = Site(host.folder)
    site.load_balancer, site.live_file = host.load_balancer, host.live_file

    async def story() -> None:
        await site.heard("began")
        site.failing = {B1}
        await site.until(lambda: not serves(host, "10.77.0.21"))
        assert serves(host, "10.77.0.22") and host.live_file.read().unhealthy == {"web": {B1}}
        assert not host.load_balancer.set_vips([vip(health_check=CHECK)], True, False).changed
        host.nft.flush()
        await site.until(lambda: "nft_dsr" in host.nft.tables, 0.5)
        assert serves(host, "10.77.0.22") and not serves(host, "10.77.0.21")
        site.failing = set()
        await site.until(lambda: serves(host, "10.77.0.21"))

    site.tell(story)


def test_a_move_reaches_the_kernel_and_a_run_after_it_changes_nothing(host: Host) -> None:
    site = Site(host.folder)
    site.load_balancer, site.live_file = host.load_balancer, host.live_file

    async def story() -> None:
        await site.heard("began")
        host.network.answers["10.77.0.21"] = frozenset({MOVED})
        site.watch.moves(B1, MOVED)
        await site.until(lambda: MOVED in host.nft.table.maps["stations_all"].elements)
        for forgetful in (False, True):
            host.forgetful = forgetful
            result = host.load_balancer.set_vips([vip(health_check=CHECK)], True, False)
            assert (result.changed, result.warnings) == (False, [])

    site.tell(story)


def test_health_is_acted_upon_while_the_files_cannot_be_read(host: Host) -> None:
    site = Site(host.folder)
    site.load_balancer, site.live_file = host.load_balancer, host.live_file

    async def story() -> None:
        await site.heard("began")
        (host.folder / "vips.json").write_text("no JSON")
        await site.heard("the one before stays in force")
        site.failing = {B1}
        await site.until(lambda: not serves(host, "10.77.0.21"), 10)

    site.tell(story)


# -- the time of day, which somebody may set


@pytest.mark.parametrize("jump", [86400.0, -86400.0])
def test_a_clock_that_is_set_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump: float) -> None:
    """Everything is decided by a clock that nobody can set; the other's is what people read."""
    monkeypatch.setattr(agent_module, "Random", lambda: Random(1))
    begun = 1_800_000_000.0
    day = [begun]
    monkeypatch.setattr("time.time", lambda: day[0])
    monkeypatch.setattr("time.time_ns", lambda: int(day[0] * 1e9))

    def course(folder: Path, jump: float) -> tuple[list[float], list[Live], list[str]]:
        folder.mkdir()
        site = Site(folder, checked(), checked("other", ports=["81"], check={"min_healthy": 0.9}))

        async def story() -> None:
            for failing in ({B1}, set(), {B1}, {B1, B2}, set()):
                site.failing = failing
                for _second in range(20):
                    day[0] += jump
                    await asyncio.sleep(1)

        site.tell(story)
        return site.tried, site.lives, site.said

    tried, lives, said = course(tmp_path / "still", 0.0)
    jumped = course(tmp_path / "jumping", jump)
    assert (jumped[0], jumped[2]) == (tried, said) and len(tried) > 5
    assert [(live.unhealthy, live.ignored) for live in jumped[1]] == [(live.unhealthy, live.ignored) for live in lives]
    days = {failing.since[:10] for live in jumped[1] for found in live.failing.values() for failing in found.values()}
    assert len(days) > 1 and all(re.fullmatch(r"20\d\d-\d\d-\d\d", day) for day in days)
    last = LiveFile(str(tmp_path / "state.json"), str(tmp_path / "lock"))
    for live in jumped[1]:
        last.publish(live)
        assert last.read_last() == live


@pytest.mark.parametrize("name", ["agent", "checking", "verdicts", "limited", "probe_base", "probe_exec", "probe_http"])
def test_what_decides_does_not_ask_for_the_time_of_day(name: str) -> None:
    source = Path(str(agent_module.__file__)).with_name(f"{name}.py").read_text("utf-8")
    assert not re.search(r"\btime\.(time|localtime|gmtime)|\bdatetime\b", source)


# -- systemd


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Who listens to what services say."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@dsr-layer2-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(name.replace("@", "\0", 1) if request.param == "abstract" else name)
        channel.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        yield channel


def received(channel: socket.socket) -> list[str]:
    found = []
    with suppress(BlockingIOError):
        while True:
            found.append(channel.recv(100).decode())
    return found


def test_systemd_is_told(systemd: socket.socket) -> None:
    notify.ready()
    notify.alive()
    notify.stopping()
    assert received(systemd) == ["READY=1", "WATCHDOG=1", "STOPPING=1"]


def test_a_systemd_that_does_not_listen_is_not_waited_for(systemd: socket.socket) -> None:
    """Its queue holds a few; checks are to go on."""
    for _beat in range(1000):
        notify.alive()
    assert 1 <= len(received(systemd)) < 1000


@pytest.mark.parametrize("name", ["", "/nonexistent/notify", f"/{'x' * 200}"])
def test_without_systemd_nobody_is_told(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    notify.ready()
    monkeypatch.delenv("NOTIFY_SOCKET")
    notify.ready()


def test_systemd_hears_that_it_lives_for_as_long_as_it_does(systemd: socket.socket, tmp_path: Path) -> None:
    site = Site(tmp_path, checked())

    async def story() -> None:
        await site.unhealthy()
        assert sorted(received(systemd)) == ["READY=1", "WATCHDOG=1"]
        site.refused = "no"  # a host in trouble is no agent in trouble
        site.number = 2
        for _beat in range(5):
            await asyncio.sleep(5)
            assert set(received(systemd)) == {"WATCHDOG=1"}

    site.tell(story)
    assert received(systemd) == [], "it lives no more"


def test_systemd_does_not_hear_of_an_agent_whose_work_does_not_end(systemd: socket.socket, tmp_path: Path) -> None:
    """Of a program that not even the kernel can end; a new agent may do better. Checks go on until it comes."""
    site = Site(tmp_path, checked())

    async def story() -> None:
        await site.unhealthy()
        received(systemd)
        site.endless = True
        site.number = 2
        for _beat in range(14):
            await asyncio.sleep(5)
            assert set(received(systemd)) == {"WATCHDOG=1"}, "a transaction may take long"
        await asyncio.sleep(10)
        received(systemd)
        site.failing = {B1}
        await site.heard("10.77.0.21 is unhealthy")
        await asyncio.sleep(60)
        assert received(systemd) == []

    site.tell(story)


# -- an nft that hangs


def test_an_nft_that_hangs_is_ended_and_checks_go_on(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is one for all of its programs; each time it is tried anew."""
    programs, noted = tmp_path / "programs", tmp_path / "noted"
    programs.mkdir()
    (programs / "nft").write_text(f"#!/bin/sh\necho $$ >>{noted}\ntrap '' TERM\nexec sleep 1000\n")
    (programs / "nft").chmod(0o755)
    monkeypatch.setattr(command, "_PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setattr(agent_module, "_WORK", 0.4)
    monkeypatch.setattr(agent_module, "_AGAIN", 0.1)
    monkeypatch.setattr(agent_module, "LoadBalancer", partial(LoadBalancer, lock_file=str(tmp_path / "lock")))
    asked: list[float] = []
    said: list[str] = []

    async def probe(_check: HealthCheck, _target: Target) -> Outcome:
        asked.append(asyncio.get_running_loop().time())
        return Outcome(True, "", 0.0)

    async def story() -> None:
        fast = vip(health_check={**CHECK, "interval": 0.1, "timeout": 0.05})
        host.load_balancer.set_vips([fast], True, False)
        agent = asyncio.ensure_future(Agent(None, host.live_file, str(host.folder), probe, said.append).run())
        try:
            until = time.monotonic() + 20
            while not noted.exists() or len(noted.read_text().split()) < 3:
                assert not agent.done() and time.monotonic() < until, said
                await asyncio.sleep(0.05)
        finally:
            agent.cancel()
            with suppress(asyncio.CancelledError):
                await agent

    asyncio.run(story())
    assert [line for line in said if "trying again" in line] == [
        "the rules cannot be brought to what they should be, trying again: "
        "'nft -c --debug=netlink -f -' did not end within the 0.4 s that a repair may take"
    ]
    gaps = [later - sooner for sooner, later in zip(asked, asked[1:])]
    assert len(asked) > 15 and max(gaps) < 0.35, "three backends, each once in 0.1 s"
    for pid in noted.read_text().split():
        assert not Path(f"/proc/{pid}").exists()


def test_the_time_of_all_programs_counts() -> None:
    begun = time.monotonic()
    limited = Limited(0.3)
    limited.begin()
    assert limited(["true"]).ok and limited(["cat"], "text").stdout == "text"
    for argv in (["sleep", "100"], ["true"]):
        with pytest.raises(
            CommandError, match=f"^'{' '.join(argv)}' did not end within the 0.3 s that a repair may take$"
        ):
            limited(argv)
    assert time.monotonic() - begun < 5
    limited.begin()
    assert limited(["true"]).ok


# -- the program


class _Served:
    """An agent that is told to end as soon as it runs."""

    number = signal.SIGTERM

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._say = tell

    async def run(self) -> None:
        try:
            os.kill(os.getpid(), self.number)
            await asyncio.wait_for(asyncio.Event().wait(), 30)
        finally:
            self._say("cleaned up")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_when_it_is_told_to(
    number: signal.Signals, systemd: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_module, "Agent", _Served)
    monkeypatch.setattr(_Served, "number", number)
    said: list[str] = []
    assert main(said.append) == 0
    assert said == ["cleaned up"] and received(systemd) == ["STOPPING=1"]


def test_what_keeps_it_from_running_is_said(systemd: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    class Refused(_Served):
        async def run(self) -> None:
            raise DsrError("another agent runs on this host")

    monkeypatch.setattr(agent_module, "Agent", Refused)
    said: list[str] = []
    assert main(said.append) == 1
    assert said == ["another agent runs on this host"] and received(systemd) == []


# -- who changed the rules


def test_a_transaction_is_looked_at_as_it_comes_and_said_to_be_whose_it_was(tmp_path: Path) -> None:
    site = Site(tmp_path, checked())

    async def story() -> None:
        await site.unhealthy()
        await asyncio.sleep(5.1)
        begun = test_checking.now()
        site.number, site.foreign = 2, ["the table is missing"]
        site.transactions.made = {1: "ours", 2: "firewalld"}
        site.transactions.come()
        await site.heard("somebody else changed the rules: firewalld")
        assert test_checking.now() - begun < 0.02
        # One after the other: four comparisons in a second and no more.
        for number in range(3, 43):
            site.number, site.transactions.made = number, {number: "docker"}
            site.transactions.come()
            await asyncio.sleep(0.05)
        assert 5 <= len(site.tried) - 2 <= 2 * 4 + 1
        assert not [line for line in site.said if "docker" in line], "it changed nothing of ours"

    site.tell(story)
    assert site.transactions.closed
