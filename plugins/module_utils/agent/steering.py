# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Steers the turns of VIPs with least connections: reads what the rules count, and writes whose turns are next.

The arithmetic is in least_connections.py and open_flows.py. Here is when the kernel is asked what, so that it costs
little: a VIP at which nothing happens is looked at less often, all looks together take a tenth of a processor at most,
and counting flows a fiftieth.

Modules and other programs change rules too. So turns are written only while no module is at work, and only if no
transaction came since the rules were last compared; the kernel itself refuses it otherwise.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Callable, NamedTuple, Optional

from ..common.errors import CommandError, HostError
from ..common.files import lock
from ..nft_dsr import steered
from ..nft_dsr.batch import Overtaken, Turns, generation, give_turns
from ..nft_dsr.elements import elements, sample_by_value
from ..nft_dsr.resolved import ResolvedVip
from ..nft_dsr.schedule import steered_slots
from ..nft_dsr.seen import SeenFile
from ..nft_dsr.state import LOCK_FILE
from ..nft_dsr.table import Names
from .least_connections import Settings, Steering
from .open_flows import Counted, OpenFlows

INTERVAL = 0.2  # seconds from look to look
_IDLE_INTERVAL = 1.0  # of a VIP at which nothing happens
_LOOKING = 0.1  # the part of a processor's time that looks may take
_COUNTING = 0.02  # and recounts
_RECOUNT = 10.0  # seconds between two recounts of a VIP, at least
_RECOUNTED = 100_000  # flows that are counted at most; of more it is a sample


class Pool(NamedTuple):
    """A VIP to be steered: what it goes through, and who may get new flows, by number and weight."""

    item: ResolvedVip
    turns: str
    weights: Mapping[int, int]


class _Recount(NamedTuple):
    """What OpenFlows.recounted() takes."""

    numbers: Mapping[int, int]
    whole: bool
    before: Counted
    after: Counted


class _Steered:
    """What is known of one VIP."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.flows = OpenFlows()
        self.steering = Steering(steered_slots(len(pool.item.vip.backends)), Settings(interval=INTERVAL))
        self.table: dict[int, int] = {}  # what the kernel has in its turns
        self.fresh = True  # that is not known
        self.due = 0.0
        self.spacing = INTERVAL
        self.recount_due = 0.0
        self.recount: Optional[_Recount] = None
        self.failed = False

    def taken(self, pool: Pool) -> None:
        """The rules were compared, and may have been changed."""
        if pool.weights != self.pool.weights:
            self.recount_due = 0.0  # flows of one that comes back count again
        self.pool = pool
        self.fresh = True
        self.due = 0.0


def pools_of(items: Sequence[ResolvedVip], names: Mapping[str, Names]) -> list[Pool]:
    """Those of the VIPs that are steered."""
    return [
        Pool(
            item,
            names[item.vip.name].turns,
            {item.mark(backend): backend.weight for backend in item.takers},
        )
        for item in items
        if item.vip.steered and item.vip.name in names and names[item.vip.name].turns
    ]


class Steerer:
    """Steers all VIPs of a load balancer. look() and recount() are for threads; at most one of each at a time."""

    def __init__(
        self,
        tell: Callable[[str], None],
        lock_file: str = LOCK_FILE,
        seen: Optional[SeenFile] = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._say = tell
        self._lock_file = lock_file
        self._seen = seen or SeenFile()
        self._clock = clock
        self._steered: dict[str, _Steered] = {}
        self._coming: Optional[Sequence[Pool]] = None
        self._complaint = ""

    @property
    def wanted(self) -> bool:
        """Whether there is anything to do."""
        return bool(self._steered or self._coming)

    def set_pools(self, pools: Sequence[Pool]) -> None:
        """Steer these from the next look on. To be called whenever the rules were compared."""
        self._coming = list(pools)

    def open_flows(self) -> dict[str, dict[int, int]]:
        """How many flows each backend has open, of each VIP, as far as is known now."""
        return {name: one.flows.open for name, one in list(self._steered.items())}

    # -- looks

    def look(self, number: int) -> tuple[int, float]:
        """Read counters and write turns, if the last transaction still has this number.

        The number that the last one has then, and after how many seconds to look again.
        """
        began, used = self._clock(), time.thread_time()
        try:
            with lock(self._lock_file, busy="a module is at work"):
                number = self._look(began, number)
                self._complaint = ""
        except Overtaken:
            pass  # the rules are about to be compared, and turns wait until then
        except CommandError as error:
            if str(error) != self._complaint:
                self._say(f"turns cannot be given out, trying again: {error}")
            self._complaint = str(error)
        except HostError:
            pass  # a module has the lock, after which the rules are compared as well
        used = time.thread_time() - used
        return number, max(INTERVAL - (self._clock() - began), used / _LOOKING - used, 0.01)

    def _look(self, now: float, number: int) -> int:
        self._take_pools()
        due = [one for one in self._steered.values() if one.due <= now + INTERVAL / 2]
        if not due:
            return number
        if generation() != number:
            return number
        changes: dict[str, Turns] = {}
        for one in due:
            turns = self._wanted(one, now)
            if turns:
                changes[one.pool.turns] = {turn: (turn in one.table, owner) for turn, owner in turns.items()}
                one.fresh = True  # until it is written
        if not changes:
            return number
        after = give_turns(changes, number)
        for one in due:
            for turn, (_there, owner) in changes.get(one.pool.turns, {}).items():
                if owner is None:
                    one.table.pop(turn, None)
                else:
                    one.table[turn] = owner
            one.fresh = one.failed
        self._seen.advance(number, after)
        return after

    def _wanted(self, one: _Steered, now: float) -> dict[int, Optional[int]]:
        """The turns of a VIP that have to change."""
        try:
            counted, turn = _counted(one.pool)
            if one.fresh:
                one.table = _numbers(one.pool.turns)
        except CommandError as error:
            # Somebody removed something, without which the rules will be compared at once.
            if not one.failed:
                self._say(f"{one.pool.item.vip.name}: its turns cannot be steered now: {error}")
            one.failed = one.fresh = True
            return {}
        one.failed = False
        changes: dict[int, Optional[int]] = {}
        if one.fresh:
            one.steering.take_table(one.table)
            changes.update(one.steering.set_members(one.pool.weights, now))
            one.fresh = False
        recount, one.recount = one.recount, None
        if not one.flows.update(counted):
            one.recount_due = 0.0
        elif recount is not None:
            one.flows.recounted(*recount)
        changes.update(one.steering.look(now, one.flows.open, one.flows.began, turn))
        one.spacing = INTERVAL if any(one.flows.began.values()) else min(one.spacing + INTERVAL, _IDLE_INTERVAL)
        one.due = now + one.spacing
        return {turn: owner for turn, owner in changes.items() if one.table.get(turn) != owner}

    def _take_pools(self) -> None:
        coming, self._coming = self._coming, None
        if coming is None:
            return
        known, self._steered = self._steered, {}
        for pool in coming:
            name = pool.item.vip.name
            one = known.get(name)
            slots = steered_slots(len(pool.item.vip.backends))
            if one is None or one.pool.turns != pool.turns or one.steering.slots != slots:
                one = _Steered(pool)
            one.taken(pool)
            self._steered[name] = one

    # -- recounts

    def recount(self) -> float:
        """Count the flows of the VIP that waits for it longest; after how many seconds to come again."""
        now, used = self._clock(), time.thread_time()
        waiting = min(list(self._steered.values()), key=lambda one: one.recount_due, default=None)
        if waiting is None or waiting.recount_due > now:
            return INTERVAL
        first = not waiting.recount_due
        waiting.recount_due = now + _RECOUNT
        try:
            before, _turn = _counted(waiting.pool)
            found, whole = sample_by_value(f"flows_{waiting.pool.item.vip.name}", _RECOUNTED)
            after, _turn = _counted(waiting.pool)
        except CommandError:
            return INTERVAL  # it is gone, or will be there again
        numbers = {_number(value): count for value, count in found.items()}
        waiting.recount = _Recount(numbers, whole, before, after)
        # What nothing is known of yet does not have to wait for the others.
        return (time.thread_time() - used) / (_LOOKING if first else _COUNTING)


def _counted(pool: Pool) -> tuple[Counted, int]:
    """What the rules counted of a VIP, and how many turns were taken."""
    vip = pool.item.vip
    opened = _counters(steered.opened(vip))
    taken = opened.pop(steered.TURNS_TAKEN, 0)
    return Counted(opened, _counters(steered.closed(vip)) if steered.closed(vip) else {}), taken


def _counters(name: str) -> dict[int, int]:
    found = {_number(element.key): element.counter.packets for element in elements(name)}
    if not found:
        raise CommandError(f"the set {name} is not there")
    return found


def _numbers(name: str) -> dict[int, int]:
    return {_number(element.key): _number(element.value) for element in elements(name)}


def _number(value: bytes) -> int:
    """A mark or a turn, which are numbers of this host's, in its order of bytes."""
    return int.from_bytes(value, sys.byteorder)
