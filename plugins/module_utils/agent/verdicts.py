# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What answers to checks mean: whether a backend serves, and when a pool is past believing. Pure, time is given.

Three things are weighed against each other. A backend that is down must be out of the pool fast: ``fall`` failures in
a row decide, whatever came before. One that comes back must not come back too early: ``rise`` successes in a row. And
one that comes and goes all the time does more harm than one that is gone, as each time it takes connections with it:
the more often it has fallen lately, the longer it has to answer without a failure before it is believed again.

*Damping.* Its first fall costs nothing. From the second on, the row of successes has to last for 10 seconds, and with
each further fall twice as long as before, up to 320. For every ten minutes without a fall one fall is forgiven. So no
answers whatever, at whatever times, make a backend change more than 14 times in any 10 minutes, and from then on it
falls at most once in 320 seconds. The row is measured in seconds, and not as a multiple of ``rise``, so that this holds
for a check every 100 milliseconds as it does for one every minute.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Generic, Optional, TypeVar

FIRST_HOLD = 10.0  # seconds that a row of successes has to last after the second fall
LONGEST_HOLD = 320.0
FORGIVEN_AFTER = 600.0  # seconds without a fall, for each that is forgiven
_FREE_FALLS = 1
_MOST_FALLS = 7  # those after which the hold grows no more: FIRST_HOLD * 2 ** 5

Name = TypeVar("Name")


@dataclass(frozen=True)
class Transition:
    """A backend has come or gone. ``consecutive`` is how many answers in a row said so, ``cause`` the last one's."""

    at: float
    healthy: bool
    cause: str
    consecutive: int


class Verdict:
    """Whether one backend is healthy, by the answers to one check.

    A backend of which nothing is known counts as healthy, so that a new one serves at once and an agent that
    starts takes nobody out of a pool; it has ``fall`` failures until it is not, and the first success settles
    that it is. ``start`` is what an earlier run of the agent made known of it: then that holds until answers
    change it as usual.
    """

    def __init__(self, rise: int, fall: int, start: Optional[bool] = None) -> None:
        self.rise = rise
        self.fall = fall
        self.healthy = start is not False
        self.known = start is not None
        self.consecutive = 0  # answers in a row that were alike
        self.cause = ""  # why the last check failed
        self._succeeds = self.healthy
        self._row_since = 0.0
        self._falls = 0
        self._fell_at = 0.0

    def record(self, at: float, ok: bool, cause: str = "") -> Optional[Transition]:
        """Take note of an answer; if by that the backend has come or gone, say so."""
        if ok != self._succeeds or not self.consecutive:
            self._succeeds, self.consecutive, self._row_since = ok, 0, at
        self.consecutive += 1
        self.cause = "" if ok else cause
        if ok == self.healthy:
            self.known = self.known or ok
            return None
        if not ok and self.consecutive >= self.fall:
            self._falls = min(_MOST_FALLS, self._remembered(at) + 1)
            self._fell_at = at
        elif not ok or self.consecutive < self.rise or at - self._row_since < self.hold(at):
            return None
        self.healthy, self.known = ok, True
        return Transition(at, ok, cause, self.consecutive)

    @property
    def failing(self) -> bool:
        """The last check failed, whatever is made of that."""
        return self.consecutive > 0 and not self._succeeds

    def hold(self, at: float) -> float:
        """How many seconds a row of successes has to last now for the backend to come back."""
        falls = self._remembered(at) - _FREE_FALLS
        return min(LONGEST_HOLD, FIRST_HOLD * 2.0 ** (falls - 1)) if falls > 0 else 0.0

    def _remembered(self, at: float) -> int:
        """How many falls are not forgiven yet."""
        return max(0, self._falls - int(max(0.0, at - self._fell_at) / FORGIVEN_AFTER))


@dataclass(frozen=True)
class FloorChange:
    """From now on the health of a pool is ignored, or heeded again; ``share`` of it is healthy."""

    at: float
    ignored: bool
    share: float
    min_healthy: float

    def __str__(self) -> str:
        found = f"{self.share:.0%} of the pool are healthy, the floor is {self.min_healthy:.0%}"
        return f"{found}: health is {'ignored, all backends serve' if self.ignored else 'heeded again'}"


def floor(min_healthy: float, weights: Mapping[Name, int], healthy: Collection[Name]) -> bool:
    """Whether so little of a pool is healthy that its health is ignored.

    ``weights`` are those of the backends that are administratively up; the others neither count nor come back.
    A check that lies (a firewall, a page that was renamed) must not take away a whole pool, and the few that are
    left would not live long under the load of all.
    """
    return _share(weights, healthy) < min_healthy


def _share(weights: Mapping[Name, int], healthy: Collection[Name]) -> float:
    """The part of a pool that is healthy, by weight; of nobody all are."""
    total = sum(weights.values())
    return sum(weight for name, weight in weights.items() if name in healthy) / total if total else 1.0


class Floor(Generic[Name]):
    """The floor of one pool, and whether it was said already that health is ignored."""

    def __init__(self, min_healthy: float) -> None:
        self.min_healthy = min_healthy
        self.ignoring = False

    def judge(
        self, at: float, weights: Mapping[Name, int], healthy: Collection[Name]
    ) -> tuple[frozenset[Name], Optional[FloorChange]]:
        """Who counts as healthy, and what is to be told if that began or ended to be everybody."""
        ignore = floor(self.min_healthy, weights, healthy)
        change = None
        if ignore != self.ignoring:
            self.ignoring = ignore
            change = FloorChange(at, ignore, _share(weights, healthy), self.min_healthy)
        return frozenset(name for name in weights if ignore or name in healthy), change
