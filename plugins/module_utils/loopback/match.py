# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which interfaces a .network file is for: its [Match] section against a link. Pure."""

from __future__ import annotations

import fnmatch

from ..common.iproute import Link
from .persisted import sections_of

_MACS = ("MACAddress", "PermanentMACAddress")


def matches(text: str, link: Link) -> bool:
    """Whether a .network file is for ``link``, by name, MAC address and type.

    A file that asks for anything else (a driver, a path) is taken as being for another one.
    """
    conditions = _conditions(text)
    return bool(conditions) and all(_meets(link, name, values) for name, values in conditions.items())


def names_only(text: str, link: Link) -> bool:
    """Whether a .network file that matches ``link`` cannot match another one as well."""
    conditions = _conditions(text)
    if conditions.get("Name") == [link.name]:
        return True
    return any([value.lower() for value in conditions.get(name, [])] == [link.mac] for name in _MACS if link.mac)


def _conditions(text: str) -> dict[str, list[str]]:
    conditions: dict[str, list[str]] = {}
    for section, name, value in sections_of(text):
        if section == "Match":
            if value:
                conditions.setdefault(name, []).extend(value.split())
            else:
                conditions.pop(name, None)  # an empty value takes back the ones before it
    return conditions


def _meets(link: Link, name: str, values: list[str]) -> bool:
    if name == "Name":
        return _among(link.name, values)
    if name in _MACS:
        return link.mac in [value.lower().replace("-", ":") for value in values]
    if name == "Type":
        return _among("loopback" if link.loopback else "ether" if link.mac else "none", values)
    return False


def _among(word: str, patterns: list[str]) -> bool:
    """systemd's list of patterns; one that starts with ``!`` turns all of them round."""
    negated = patterns[0].startswith("!")
    found = any(fnmatch.fnmatchcase(word, pattern.lstrip("!")) for pattern in patterns)
    return found != negated
