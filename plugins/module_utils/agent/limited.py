# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A limit of time for all the programs together that one piece of work takes.

A module may wait long for nft, as a person sees it wait. The agent must not: what it finds out of backends meanwhile is
not acted upon.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Optional

from ..common.command import Completed, run
from ..common.errors import CommandError


class Limited:
    """Runs programs (a Runner). From each ``begin()`` on they have ``seconds``, all of them together."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until = 0.0

    def begin(self) -> None:
        """Here a piece of work begins."""
        self._until = time.monotonic() + self._seconds

    def __call__(self, argv: Sequence[str], stdin: Optional[str] = None) -> Completed:
        left = self._until - time.monotonic()
        try:
            if left > 0:
                return run(argv, stdin, left)
        except CommandError:
            if time.monotonic() < self._until:
                raise
        # The same words each time, so that it is said once however often it is tried.
        raise CommandError(f"'{' '.join(argv)}' did not end within the {self._seconds:g} s that a repair may take")
