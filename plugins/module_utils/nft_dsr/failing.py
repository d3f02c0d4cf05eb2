# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a backend fails its check, and since when: a part of what the agent publishes, for people alone.

No rule depends on it. So whatever of it cannot be understood is left out, as in a file of an older agent, and the rest
holds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..common.errors import ConfigError
from . import model

_LONGEST = 400  # characters of a cause that are read
_STAMP = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")


@dataclass(frozen=True)
class Failing:
    """``cause`` is what the check said that decided; ``since`` the time of day (UTC) at which it did."""

    cause: str
    since: str


def failing_document(failing: Mapping[str, Mapping[model.IPAddress, Failing]]) -> dict[str, Any]:
    """As JSON has it."""
    return {
        vip: {str(address): asdict(found[address]) for address in sorted(found, key=str)}
        for vip, found in sorted(failing.items())
        if found
    }


def parse_failing(document: Any) -> dict[str, dict[model.IPAddress, Failing]]:
    """What can be understood of it."""
    found: dict[str, dict[model.IPAddress, Failing]] = {}
    for vip, rows in document.items() if isinstance(document, Mapping) else ():
        for address, row in rows.items() if isinstance(rows, Mapping) else ():
            if not isinstance(row, Mapping):
                continue
            cause, since = row.get("cause"), row.get("since")
            if not isinstance(cause, str) or not isinstance(since, str) or not _STAMP.fullmatch(since):
                continue
            try:
                name, parsed = model.parse_name(vip, "failing"), model.parse_address(address, "failing")
            except ConfigError:
                continue
            found.setdefault(name, {})[parsed] = Failing(cause[:_LONGEST], since)
    return found


def parse_names(document: Any) -> frozenset[str]:
    """The names of VIPs in a list."""
    found = set()
    for name in document if isinstance(document, list) else ():
        try:
            found.add(model.parse_name(name, "ignored"))
        except ConfigError:
            continue
    return frozenset(found)
