# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting on a host until something is as it should be: one call that looks again and again, and says what is left."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Callable, Generic, Optional, TypeVar

from ..common.errors import ConfigError

Seen = TypeVar("Seen")

LONGEST = 86400.0  # seconds
_AT_LEAST = 0.25  # seconds between two looks
_SHARE = 4  # a look that takes long is followed by so many times as long


@dataclass(frozen=True)
class Clock:
    """Time, and how it passes."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True)
class Waited(Generic[Seen]):
    """What was seen last, whether it is as it should be, and how long that took."""

    seen: Seen
    done: bool
    seconds: float


def wait(
    look: Callable[[], Seen], well: Callable[[Seen], bool], seconds: float, clock: Optional[Clock] = None
) -> Waited[Seen]:
    """Look until it is well, for so many seconds; at least once."""
    clock = clock or Clock()
    began = clock.now()
    while True:
        before = clock.now()
        seen = look()
        now = clock.now()
        if well(seen):
            return Waited(seen, True, now - began)
        left = began + seconds - now
        if left <= 0:
            return Waited(seen, False, now - began)
        clock.sleep(min(left, max(_AT_LEAST, _SHARE * (now - before))))


def parse_seconds(value: float, path: str, lowest: float = 0.0) -> float:
    """A time that somebody may wait."""
    if not lowest <= value <= LONGEST:
        raise ConfigError(path, f"{value:g} is out of range; use {lowest:g} to {LONGEST:g} seconds")
    return value
