# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures from rounds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple, Optional


class Spread(NamedTuple):
    """A median with the quartiles around it."""

    lower: float
    median: float
    upper: float


def spread(values: Sequence[float]) -> Spread:
    """Of the rounds of one measurement."""
    if len(values) < 2:
        return Spread(values[0], values[0], values[0])
    return Spread(*statistics.quantiles(values, n=4, method="inclusive"))


def added(values: Sequence[float], base: Sequence[float]) -> Spread:
    """What is more than the base, round by round."""
    return spread([one - other for one, other in zip(values, base)])


def speed(values: Sequence[float], base: Optional[Sequence[float]]) -> Optional[Spread]:
    """How fast beside the base, round by round; these are times, so more than 1 is faster."""
    return spread([other / one for one, other in zip(values, base)]) if base else None
