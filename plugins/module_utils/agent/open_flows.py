# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many flows each backend has open, by what the rules count and by a recount now and then. Pure.

Rules count flows that begin and connections that end. What they cannot count is a flow that nobody ended and that is
forgotten when it has been silent for long. So flows themselves are counted from time to time, all of them where that is
cheap, else a sample. Between two such counts the cost is one number for each backend, however many flows there are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

Numbers = Mapping[int, int]

_SURE = 3.0  # by how many standard deviations a sample has to differ to be believed


class Counted(NamedTuple):
    """The counters of the rules at a moment."""

    opened: Numbers
    closed: Numbers


class OpenFlows:
    """Of one VIP, by the backends' numbers."""

    def __init__(self) -> None:
        self._base: dict[int, float] = {}
        self._since = Counted({}, {})
        self._last = Counted({}, {})
        self.began: dict[int, int] = {}  # since the update before

    def update(self, counted: Counted) -> bool:
        """Take note of the counters; False if they began anew, so that a recount is due."""
        ran_on = not any(
            counters.get(mark, 0) < before
            for counters, last in zip(counted, self._last)
            for mark, before in last.items()
        )
        if not ran_on:
            # What came in between is in the counters, and what they lost is not: the next recount says it.
            self._base = {mark: float(number) for mark, number in self.open.items()}
            self._since = self._last = Counted({}, {})
        self.began = {mark: number - self._last.opened.get(mark, 0) for mark, number in counted.opened.items()}
        self._last = counted
        return ran_on

    @property
    def open(self) -> dict[int, int]:
        """How many flows each has open."""
        return {mark: max(0, round(number)) for mark, number in self._now().items()}

    def _now(self) -> dict[int, float]:
        opened, closed = self._last
        return {
            mark: self._base.get(mark, 0.0)
            + (opened.get(mark, 0) - self._since.opened.get(mark, 0))
            - (closed.get(mark, 0) - self._since.closed.get(mark, 0))
            for mark in {*opened, *self._base}
        }

    def recounted(self, numbers: Numbers, whole: bool, before: Counted, after: Counted) -> None:
        """Flows were counted between two readings of the counters; the later one is the last that was noted.

        Of a part of them only the proportions count, and these only where they differ by more than chance.
        """
        middle = Counted(
            {mark: (before.opened.get(mark, 0) + number) // 2 for mark, number in after.opened.items()},
            {mark: (before.closed.get(mark, 0) + number) // 2 for mark, number in after.closed.items()},
        )
        if whole:
            self._base = {mark: float(number) for mark, number in numbers.items()}
            self._since = middle
            return
        now = self._now()
        total, seen = sum(max(0.0, number) for number in now.values()), sum(numbers.values())
        if not seen:
            return
        # There are as many as were seen, at the least.
        total = max(total, float(seen))
        corrected = {}
        for mark in {*now, *numbers}:
            share, had = numbers.get(mark, 0) / seen, max(0.0, now.get(mark, 0.0)) / total
            doubt = math.sqrt(max(share * (1 - share), 1 / seen) / seen)
            corrected[mark] = total * (share if abs(share - had) > _SURE * doubt else had)
        self._base, self._since = corrected, self._last
