# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""On a backend: until nobody is connected to its virtual IPs any more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Any, Optional

from ..common.errors import ConfigError, HostError
from .sockets import Connection, IPAddress, Remaining, connections, remaining
from .waiting import Clock, parse_seconds, wait

_LISTS = ("/proc/net/tcp", "/proc/net/tcp6")  # the second is not there without IPv6


def look(options: Mapping[str, Any], clock: Optional[Clock] = None) -> dict[str, Any]:
    """All that the module returns."""
    vips = _addresses(options["vips"], "vips")
    ignored = frozenset(_addresses(options["ignore"] or [], "ignore"))
    seconds = parse_seconds(options["wait"], "wait")
    waited = wait(lambda: remaining(_all(), vips, ignored), lambda seen: not _total(seen), seconds, clock)
    return {
        "connections": _total(waited.seen),
        "vips": [entry.document() for entry in waited.seen],
        "left": told(waited.seen),
        "waited": round(waited.seconds, 1),
    }


def told(seen: Sequence[Remaining]) -> list[str]:
    """What is left, in words."""
    return [_told(entry) for entry in seen if entry.connections]


def _told(entry: Remaining) -> str:
    who = ", ".join(f"{client} ({number})" for client, number in entry.clients)
    more = " and others" if sum(number for _client, number in entry.clients) < entry.connections else ""
    plural = "" if entry.connections == 1 else "s"
    return f"{entry.connections} connection{plural} to {entry.address}, from {who}{more}"


def _total(seen: Sequence[Remaining]) -> int:
    return sum(entry.connections for entry in seen)


def _all() -> list[Connection]:
    return [found for path in _LISTS for found in connections(_lines(path))]


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="ascii", errors="replace") as handle:
            return handle.read().splitlines()
    except FileNotFoundError:
        if path == _LISTS[0]:
            raise HostError(f"{path}: is not there; this kernel does not list its connections") from None
        return []
    except OSError as error:
        raise HostError(f"{path}: cannot be read: {error.strerror}") from error


def _addresses(texts: Sequence[Any], path: str) -> list[IPAddress]:
    found = []
    for index, text in enumerate(texts):
        try:
            found.append(ip_address(str(text).partition("%")[0]))
        except ValueError:
            raise ConfigError(f"{path}[{index}]", f"{text!r} is not an IP address") from None
    return found
