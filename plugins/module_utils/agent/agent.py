# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The service on a load balancer that keeps its rules right between runs of Ansible.

It looks at what is wanted (the files that the modules write), carries out the health checks that this asks
for, follows backends to other MAC addresses, publishes what it found out, and brings the kernel to it: by the
same plan as the modules, which are locked out meanwhile. Packets never pass through it; when it ends,
everything stays as it was.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv6Address
from random import Random
from typing import Callable, Optional

from ..common.errors import DsrError
from ..common.iproute import Iproute
from ..common.nics import Nic, look
from ..nft_dsr.batch import generation as transactions
from ..nft_dsr.engine import LoadBalancer
from ..nft_dsr.health_check import HealthCheck
from ..nft_dsr.kernel import Kernel
from ..nft_dsr.live import Live, LiveFile
from ..nft_dsr.model import Backend, IPAddress, Vip
from ..nft_dsr.probing import marks_of
from ..nft_dsr.resolved import ResolvedVip
from ..nft_dsr.seen import AGENT_SEEN_FILE, SEEN_FILE
from ..nft_dsr.state import STATE_DIRECTORY, StateFiles
from ..nft_dsr.table import Names
from . import exporter, notify
from .causes import Causes
from .checking import Checking, Probe, in_common
from .limited import Limited
from .metrics import Facts
from .neighbour_watch import NeighbourWatch, Watch
from .output import say
from .probe_base import Outcome, Target
from .probes import probe
from .sought import Configured, configured, sought_of, still_live, survey
from .steering import INTERVAL, Steerer, pools_of
from .tally import Tally
from .transactions import Transactions
from .verdicts import Floor, Transition
from .whereabouts import Move

_LOOK = 0.25  # seconds between two looks at the files and at the number of the kernel's last transaction
_BEAT = 5.0  # seconds between two signs of life for systemd
_AGAIN = 1.0  # seconds until a repair that failed is tried again, or one of which it is not known whether it lasts
_WORK = 60.0  # seconds that all programs may take that a repair runs
_STUCK = 75.0  # seconds without an end of it after which systemd is told no more that the agent lives
_NOTHING_TO_STEER = 1.0  # seconds until it is asked again whether there is
_UNREADABLE = (0, 0, 0)


class Agent:
    """One load balancer's agent. ``tell`` takes a line for people, who read it in the journal."""

    def __init__(
        self,
        load_balancer: Optional[LoadBalancer] = None,
        live_file: Optional[LiveFile] = None,
        directory: str = STATE_DIRECTORY,
        asking: Probe = probe,
        tell: Callable[[str], None] = say,
        steerer: Optional[Steerer] = None,
        watching: Callable[[Callable[[Move], None], Callable[[str], None]], Watch] = NeighbourWatch,
        looking: Callable[[Iterable[str]], Mapping[str, Nic]] = look,
        hearing: Callable[[Callable[[], None]], Transactions] = Transactions,
    ) -> None:
        self._live_file = live_file or LiveFile()
        self._limited = Limited(_WORK)
        self._load_balancer = load_balancer or LoadBalancer(
            kernel=Kernel(self._limited, transactions),
            iproute=Iproute(self._limited),
            seen_file=AGENT_SEEN_FILE,
            others_seen=(SEEN_FILE,),
            live=self._live_file,
            directory=directory,
        )
        self._paths = (StateFiles(directory).vips_path, StateFiles(directory).overrides_path)
        self._asking = asking
        self._say = tell
        self._steerer = steerer or Steerer(tell)
        self._looks = False  # at counters, and may be writing turns
        self._names: Mapping[str, Names] = {}  # what each VIP goes through
        self._watching = watching
        self._looking = looking
        self._hearing = hearing
        self._items: Sequence[ResolvedVip] = ()
        self._targets: dict[tuple[HealthCheck, Target], list[tuple[Vip, Backend]]] = {}
        self._wanting: dict[tuple[HealthCheck, Target], list[tuple[Vip, Backend]]] = {}
        self._unjudged = False
        self._floors: dict[str, Floor[IPAddress]] = {}
        self._causes = Causes()
        self._live = Live()
        self._stamps: Sequence[tuple[int, ...]] = ()
        self._generation: Optional[int] = None
        self._altered_by: Sequence[str] = ()
        self._compared = 0.0  # when, of the event loop's time
        self._complaint = ""
        self._unable: set[tuple[str, str]] = set()
        self._tally = Tally()
        self._news = True  # the next reconciliation has something to do
        self._configured: Optional[Configured] = None
        self._moved = False
        self._used: dict[str, list[str]] = {}  # NICs, and the VIPs that need them
        self._nics: Mapping[str, Nic] = {}
        self._gone: frozenset[str] = frozenset()
        self._blind: frozenset[str] = frozenset()  # NICs without which, or without whose rules, no check says anything
        self._through: dict[Target, str] = {}

    async def run(self) -> None:
        """Until the task is cancelled. HostError if another agent runs."""
        with self._live_file.held():
            self._live = self._live_file.read_last()
            self._woken = asyncio.Event()
            self._checking = Checking(self._ask, self._on_transition, Random(), tally=self._tally)
            self._watch = self._watching(self._on_move, self._say)
            self._transactions = self._hearing(self._on_transaction)
            notify.ready()
            self._advanced = asyncio.get_running_loop().time()
            works = [
                asyncio.ensure_future(work) for work in (self._keep(), self._beat(), self._steer(), self._recount())
            ]
            try:
                # None of them ends by itself; one that fails ends the agent, which systemd then starts anew.
                done, _others = await asyncio.wait(works, return_when=asyncio.FIRST_COMPLETED)
                for work in done:
                    work.result()
            finally:
                for work in works:
                    work.cancel()
                self._watch.close()
                self._transactions.close()
                await self._checking.close()

    async def _keep(self) -> None:
        due = 0.0
        loop = asyncio.get_running_loop()
        while True:
            self._advanced = loop.time()
            self._look_at_files()
            news = self._look_at_nics()
            await self._watch.keep_up(self._nics)
            if self._judge() or self._moved or news or (due <= loop.time() and self._is_altered()):
                await self._reconcile()
                due = loop.time() + _AGAIN if self._generation is None else 0.0
            # wait_for() before Python 3.12 may lose a cancellation that comes together with the event.
            timer = loop.call_later(_LOOK, self._woken.set)
            await self._woken.wait()
            timer.cancel()
            self._woken.clear()

    # -- what is wanted

    def _look_at_files(self) -> None:
        stamps = [_stamp(path) for path in self._paths]
        if stamps == self._stamps:
            return
        self._stamps = stamps
        try:
            items = self._load_balancer.desired()
        except DsrError as error:
            self._tally.refused()
            self._say(f"the configuration is not taken, the one before stays in force: {error}")
            return
        first = not self._items
        self._items = items
        known = survey(items)
        follow = configured(known)
        macs = still_live(self._live.macs, follow, self._configured)
        self._configured = follow
        self._live = replace(self._live, macs=macs)
        self._watch.set_sought(sought_of(known, follow, macs))
        self._used = {}
        for item in items:
            for interface in dict.fromkeys((item.interface, item.backend_interface)):
                self._used.setdefault(interface, []).append(item.vip.name)
        floors: dict[str, Floor[IPAddress]] = {}
        for item in items:
            if item.vip.health_check is not None:
                floor = self._floors.get(item.vip.name) or Floor(0.0)
                floor.min_healthy = item.vip.health_check.min_healthy
                floors[item.vip.name] = floor
        self._floors = floors
        self._set_checks()
        self._generation = None  # compare with the kernel once
        self._news = True
        self._tally.accepted((item.vip.name, backend.address) for item in items for backend in item.vip.backends)
        what = "began" if first else "new configuration"
        self._say(f"{what}; VIPs: {len(items)}, checked: {len(floors)}, checks: {len(self._targets)}")

    def _set_checks(self) -> None:
        """Ask what is wanted to know of those backends whose MAC address is known by now."""
        self._targets = targets_of([self._live.applied_to(item) for item in self._items])
        self._wanting = {}
        for (check, target), users in self._targets.items():
            self._wanting.setdefault((in_common(check), target), []).extend(users)
        ways = {item.vip.name: item.backend_interface for item in self._items}
        self._through = {target: ways[users[0][0].name] for (_check, target), users in self._targets.items()}
        self._checking.set_checks(self._targets, self._published)
        self._unjudged = True

    def _published(self, check: HealthCheck, target: Target) -> Optional[bool]:
        """What an earlier agent made known of a backend: only that it was unhealthy is worth anything."""
        for vip, backend in self._targets.get((check, target), ()):
            if backend.address in self._live.unhealthy.get(vip.name, frozenset()):
                return False
        return None

    # -- what is known

    async def _ask(self, check: HealthCheck, target: Target) -> Outcome:
        way = self._through.get(target)
        blind = way in self._blind
        outcome = await self._asking(check, target)
        if blind or way in self._blind:
            return replace(outcome, ok=False, own=True)
        if not outcome.ok and not outcome.own:
            self._watch.suspect(target.backend)
        if outcome.own and (check.type, outcome.cause) not in self._unable:
            self._unable.add((check.type, outcome.cause))
            self._say(
                f"{target.backend}: this host cannot carry out its check ({check.type}), and goes by what it knew: "
                f"{outcome.cause} (said once, of whatever backend)"
            )
        return outcome

    def _on_transition(self, check: HealthCheck, target: Target, transition: Transition) -> None:
        self._causes.note((in_common(check), target), transition)
        for vip, backend in self._wanting.get((in_common(check), target), ()):
            self._tally.moved(vip.name, backend.address)
            state = "healthy" if transition.healthy else f"unhealthy: {transition.cause}"
            self._say(f"{vip.name}: {backend.label} is {state} ({transition.consecutive} answers in a row)")
        self._unjudged = True
        self._woken.set()

    def _judge(self) -> bool:
        """Whether what is to be published has changed; the floors have their say."""
        if not self._unjudged:
            return False
        self._unjudged = False
        now = asyncio.get_running_loop().time()
        failing: dict[str, set[IPAddress]] = {}
        for key in self._checking.unhealthy():
            for vip, backend in self._wanting.get(key, ()):
                failing.setdefault(vip.name, set()).add(backend.address)
        unhealthy: dict[str, frozenset[IPAddress]] = {}
        for item in self._items:
            vip = item.vip
            if vip.health_check is None:
                continue
            found = failing.get(vip.name, set())
            weights = {
                backend.address: vip.table_weight(backend)
                for backend in vip.backends
                if not backend.down and not backend.draining and not backend.backup
            }
            counted, change = self._floors[vip.name].judge(now, weights, weights.keys() - found)
            if change is not None:
                self._say(f"{vip.name}: {change}")
            left = frozenset(found - counted)
            if left:
                unhealthy[vip.name] = left
        ignored = frozenset(name for name, pool in self._floors.items() if pool.ignoring)
        known = self._causes.of(self._checking.unhealthy(), self._wanting, self._live.failing)
        live = Live(unhealthy, self._live.macs, known, ignored)
        if live == self._live:
            return False
        self._live = live
        self._news = True
        return True

    # -- where backends are

    def _on_move(self, move: Move) -> None:
        self._say(str(move))
        address = move.sought.address
        macs = {known: mac for known, mac in self._live.macs.items() if known != address}
        if (self._configured or {}).get(address) != frozenset([move.after]):
            macs[address] = move.after
        self._live = replace(self._live, macs=macs)
        if move.before is None:
            self._set_checks()
        self._tally.mac_changes += 1
        self._moved = self._news = True
        self._woken.set()

    def _look_at_nics(self) -> bool:
        """Whether a NIC has gone, has come back, or is another one now."""
        try:
            nics = self._looking(self._used)
        except OSError:  # no descriptor is left to look with
            return False
        if nics == self._nics:
            return False
        self._nics = nics
        gone = frozenset(self._used.keys() - nics.keys())
        for name in sorted(gone - self._gone):
            self._say(f"the interface {name} is gone; not served until it is back: {_listed(self._used[name])}")
        for name in sorted((self._gone - gone) & self._used.keys()):
            self._say(f"the interface {name} is back; served again: {_listed(self._used[name])}")
        self._gone = gone
        self._blind |= gone
        self._news = True
        return True

    # -- the kernel

    def _on_transaction(self) -> None:
        """Somebody's, or our own. Who makes one after the other gets four comparisons in a second all the same."""
        if not self._looks and asyncio.get_running_loop().time() - self._compared >= _LOOK:
            self._woken.set()

    def _is_altered(self) -> bool:
        """Somebody's transaction may have touched our table."""
        if self._looks:
            return False  # the transaction may be our own; this is asked again soon
        self._altered_by = ()
        if self._generation is None:
            return True
        number = self._load_balancer.generation()
        if number == self._generation:
            return False
        if number is not None:
            self._altered_by = self._transactions.programs(self._generation, number)
        return True

    async def _reconcile(self) -> None:
        live = self._live
        began = self._tally.clock()
        self._limited.begin()
        self._moved = False
        gone = self._gone
        try:
            done = await asyncio.get_running_loop().run_in_executor(
                None, self._load_balancer.reconcile, live, self._items
            )
        except DsrError as error:
            if str(error) != self._complaint:
                self._say(f"the rules cannot be brought to what they should be, trying again: {error}")
            self._complaint = str(error)
            self._generation = None
            self._tally.not_brought()
            return
        if self._complaint:
            self._say("the rules are what they should be again")
        self._complaint = ""
        self._blind = gone
        self._compared = asyncio.get_running_loop().time()
        self._generation = done.generation
        self._names = done.names
        self._steerer.set_pools(pools_of(done.served, done.names))
        repaired = bool(done.reasons) and not self._news
        if repaired and self._altered_by:
            self._say(f"somebody else changed the rules: {', '.join(self._altered_by)}")
        self._tally.brought(began, repaired)
        self._news = False
        for reason in done.reasons:
            self._say(f"changed: {reason}")

    # -- turns

    async def _steer(self) -> None:
        """Look what connections are open, and give out turns, several times a second."""
        pause = INTERVAL
        while True:
            await asyncio.sleep(pause if self._steerer.wanted else _NOTHING_TO_STEER)
            pause = INTERVAL
            before = self._generation
            if before is None or not self._steerer.wanted:
                continue
            self._looks = True
            try:
                after, pause = await asyncio.get_running_loop().run_in_executor(None, self._steerer.look, before)
                if self._generation == before:
                    self._generation = after
            finally:
                self._looks = False

    async def _recount(self) -> None:
        """Count flows now and then, which may take long where there are many."""
        while True:
            if self._steerer.wanted:
                pause = await asyncio.get_running_loop().run_in_executor(None, self._steerer.recount)
                await asyncio.sleep(pause)
            else:
                await asyncio.sleep(_NOTHING_TO_STEER)

    # -- for metrics

    def facts(self) -> Facts:
        """What is known at this moment."""
        return Facts(
            items=[self._live.applied_to(item) for item in self._items],
            names=self._names,
            ignoring={name: floor.ignoring for name, floor in self._floors.items()},
            reports=self._checking.reports() if self._items else [],
            users=self._wanting,
            tally=self._tally,
        )

    async def _beat(self) -> None:
        """Tell systemd's watchdog that checks go on, and that what comes of them is acted upon.

        A transaction may take long. One without an end, of a program that not even the kernel can end, takes a new
        agent.
        """
        loop = asyncio.get_running_loop()
        while True:
            if loop.time() - self._advanced < _STUCK:
                notify.alive()
            await asyncio.sleep(_BEAT)


def _listed(vips: Sequence[str]) -> str:
    """A few names: there may be thousands."""
    return ", ".join(sorted(vips)[:5]) + (f" and {len(vips) - 5} more" if len(vips) > 5 else "")


def _stamp(path: str) -> tuple[int, ...]:
    try:
        found = os.stat(path)
    except OSError:
        return _UNREADABLE
    return found.st_ino, found.st_mtime_ns, found.st_size


def targets_of(items: Iterable[ResolvedVip]) -> dict[tuple[HealthCheck, Target], list[tuple[Vip, Backend]]]:
    """Every question that has to be asked, and who wants to know."""
    found: dict[tuple[HealthCheck, Target], list[tuple[Vip, Backend]]] = {}
    marks = marks_of(items)
    for item in items:
        check = item.vip.health_check
        if check is None:
            continue
        for backend in item.vip.backends:
            if backend.down or backend.address not in item.macs:
                continue
            target = Target(
                backend=backend.address,
                vip=check.vip or backend.address,
                connect_to=_reached_at(backend.address, item.backend_interface),
                port=check.port or 0,
                mark=marks.get(item.vip.name, 0),
            )
            found.setdefault((check, target), []).append((item.vip, backend))
    return found


def _reached_at(address: IPAddress, interface: str) -> IPAddress:
    """What a socket connects to: a link-local address is one of a NIC."""
    return IPv6Address(f"{address}%{interface}") if address.version == 6 and address.is_link_local else address


def main(tell: Callable[[str], None] = say, metrics: Optional[exporter.Place] = None) -> int:
    """Run the agent until it is told to end, with metrics if there is a place for them."""

    async def work() -> None:
        agent = asyncio.ensure_future(exporter.along(Agent(tell=tell), metrics, tell))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, agent.cancel)
        try:
            await agent
        except asyncio.CancelledError:
            notify.stopping()

    try:
        asyncio.run(work())
    except DsrError as error:
        tell(str(error))
        return 1
    return 0
