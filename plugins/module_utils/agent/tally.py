# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the agent counts as long as it runs. Pure, but for the clock.

Unlike the statistics of a check, these numbers never become less when a configuration has fewer checks than the one
before: whoever draws a rate from them takes that for a new start.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Callable

from ..nft_dsr.model import IPAddress
from .probe_base import Outcome

# Seconds that a check took, at most; one bucket more has the rest.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
OK, FAILED, UNABLE = "ok", "failed", "unable"


@dataclass
class Durations:
    """How many checks took how long."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.seconds += seconds


@dataclass
class Tally:
    """Counts and moments, these in seconds since 1970; 0 is never."""

    clock: Callable[[], float] = time.time
    checks: Counter[tuple[str, str]] = field(default_factory=Counter)  # by type and result
    durations: dict[str, Durations] = field(default_factory=dict)  # by type
    late: int = 0
    transitions: Counter[tuple[str, IPAddress]] = field(default_factory=Counter)  # by VIP and backend
    valid: bool = False  # the configuration that there is could be read
    accepted_at: float = 0.0
    in_sync: bool = False
    reconciled: int = 0
    not_reconciled: int = 0
    repairs: int = 0
    mac_changes: int = 0
    reconciled_at: float = 0.0
    reconciled_in: float = 0.0

    def checked(self, kind: str, outcome: Outcome) -> None:
        """A check ended. One that this host could not carry out took no time that says anything."""
        self.checks[kind, UNABLE if outcome.own else OK if outcome.ok else FAILED] += 1
        if not outcome.own:
            self.durations.setdefault(kind, Durations()).add(outcome.seconds)

    def moved(self, vip: str, backend: IPAddress) -> None:
        """A backend has come or gone."""
        self.transitions[vip, backend] += 1

    def accepted(self, backends: Iterable[tuple[str, IPAddress]]) -> None:
        """A configuration was taken, which has these backends."""
        self.valid = True
        self.accepted_at = self.clock()
        kept = set(backends)
        self.transitions = Counter({key: number for key, number in self.transitions.items() if key in kept})

    def refused(self) -> None:
        """A configuration was not taken."""
        self.valid = False

    def brought(self, began: float, repaired: bool) -> None:
        """The kernel has what is wanted; ``repaired`` if somebody else had changed that."""
        self.in_sync = True
        self.reconciled += 1
        self.repairs += repaired
        self.reconciled_at = self.clock()
        self.reconciled_in = max(0.0, self.reconciled_at - began)

    def not_brought(self) -> None:
        self.in_sync = False
        self.not_reconciled += 1
