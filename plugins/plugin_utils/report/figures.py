# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers, times and texts as the page shows them. Pure."""

from __future__ import annotations

from typing import Any, Optional

from ansible_collections.dsr.layer2.plugins.module_utils.agent.status_view import cut, number

__all__ = ["clean", "count", "cut", "moment", "percent", "size"]

_LONGEST = 600  # characters of what a stranger may have written


def clean(text: Any) -> str:
    """A text of one line without control characters, of bounded length; it is not escaped yet."""
    shown = "".join(letter if letter.isprintable() else " " for letter in str(text)[: _LONGEST + 1])
    return cut(shown, _LONGEST)


def count(value: int) -> str:
    """A number that is read at a glance."""
    return number(value)


def size(value: float) -> str:
    """An amount of bytes: 812 B, 3.4 kB, 12.0 MB."""
    for prefix in ("", "k", "M", "G", "T"):
        if value < 999.95 or prefix == "T":
            break
        value /= 1000
    return f"{value:.1f} {prefix}B" if prefix else f"{value:.0f} B"


def percent(share: Optional[float]) -> str:
    """A share; a dash where there is nothing to share."""
    return "–" if share is None else f"{share * 100:.1f} %"


def moment(text: str) -> str:
    """A time in UTC as people write it: 2026-11-23T16:00:00Z is 2026-11-23 16:00:00 UTC."""
    return clean(text).replace("T", " ").replace("Z", " UTC")
