# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who has an address on a segment, whatever its family: IPv4 is asked by ARP, IPv6 by neighbour discovery."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from typing import Optional

from . import arp, ndp
from .errors import ConfigError
from .iproute import Iproute


def resolve(
    interface: str,
    addresses: Iterable[str],
    timeout: float = 1.0,
    attempts: int = 3,
    settle: float = 0.0,
    iproute: Optional[Iproute] = None,
) -> dict[str, frozenset[str]]:
    """Every MAC that answers for each of the ``addresses`` on the segment of ``interface``; see arp.resolve().

    The families are asked one after the other. In the answers addresses are written in their usual short form.
    """
    iproute = iproute or Iproute()
    by_version = _split(addresses)
    answers: dict[str, frozenset[str]] = {}
    for version, way in ((4, arp.resolve), (6, ndp.resolve)):
        if by_version[version]:
            answers.update(way(interface, by_version[version], timeout, attempts, settle, iproute))
    return answers


def announce(interface: str, addresses: Iterable[str], iproute: Optional[Iproute] = None) -> None:
    """Tell the segment of ``interface`` that the ``addresses`` are at its MAC."""
    by_version = _split(addresses)
    for version, way in ((4, arp.announce), (6, ndp.announce)):
        if by_version[version]:
            way(interface, by_version[version], iproute)


def question_of(version: int) -> str:
    """How hosts ask for addresses of this family, in the words of the field."""
    return "ARP" if version == 4 else "neighbour solicitations"


def _split(addresses: Iterable[str]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {4: [], 6: []}
    for index, text in enumerate(addresses):
        try:
            address = ip_address(text)
        except ValueError:
            raise ConfigError(f"addresses[{index}]", f"'{text}' is not an IP address") from None
        found[address.version].append(str(address))
    return found
