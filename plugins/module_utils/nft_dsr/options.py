# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values that a user gave, checked for what kind they are of. Pure; every error is a ConfigError at their place."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..common.errors import ConfigError


def join(path: str, key: str) -> str:
    """The place of an option of what stands at ``path``, '' for a module's own options."""
    return f"{path}.{key}" if path else key


def parse_mapping(value: Any, path: str, known: Sequence[str], example: str = "") -> Mapping[str, Any]:
    """A dictionary with no other keys than those that are known; ``example`` is one that is right."""
    if not isinstance(value, Mapping):
        hint = f"; write {example}" if example else ""
        raise ConfigError(path, f"must be a dictionary of options, not {value!r}{hint}")
    for key in value:
        if key not in known:
            raise ConfigError(join(path, str(key)), f"unknown option; there are: {', '.join(known)}")
    return value


def parse_choice(value: Any, path: str, choices: Sequence[str]) -> str:
    """One of some words."""
    if value is None:
        raise ConfigError(path, f"is missing; choose one of: {', '.join(choices)}")
    if not isinstance(value, str) or value not in choices:
        raise ConfigError(path, f"{value!r} is not known; choose one of: {', '.join(choices)}")
    return value


def parse_boolean(value: Any, path: str) -> bool:
    """True or false, also as templates write it."""
    if isinstance(value, bool):
        return value
    text = str(value).lower()
    if text in ("true", "yes", "on", "1"):
        return True
    if text in ("false", "no", "off", "0"):
        return False
    raise ConfigError(path, f"{value!r} is neither true nor false")


def parse_integer(value: Any, path: str, lowest: int, highest: int) -> int:
    """A whole number, also as text, both ends included."""
    text = str(value).strip() if isinstance(value, (int, str)) and not isinstance(value, bool) else ""
    if not re.match(r"-?\d{1,10}\Z", text):
        raise ConfigError(path, f"{value!r} is not a whole number; use {lowest} to {highest}")
    number = int(text)
    if not lowest <= number <= highest:
        raise ConfigError(path, f"{number} is out of range; use {lowest} to {highest}")
    return number
