# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a check found: the one form in which all checks of the preflight speak. Does no I/O."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

OK, WARNING, FAILED, UNTESTED = "ok", "warning", "FAILED", "not tested"

_SHOWN = 5  # names in a sentence


@dataclass(frozen=True)
class Finding:
    """One row: the check, its result, what was seen, and what to do about it."""

    check: str
    result: str
    what: str
    do: str = ""

    def row(self) -> dict[str, str]:
        return asdict(self)


def serious(in_service: bool) -> str:
    """What is certain to break, if anybody is sent there; who is out of service may well be under repair."""
    return FAILED if in_service else WARNING


def listed(names: Iterable[object]) -> str:
    """Names in a sentence: of many the first ones, and how many more there are."""
    known = list(dict.fromkeys(map(str, names)))
    more = len(known) - _SHOWN
    return ", ".join(known[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
