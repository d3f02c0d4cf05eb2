# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A look at NICs that costs next to nothing: whether they are there, and still the same."""

from __future__ import annotations

import fcntl
import socket
import struct
from collections.abc import Iterable
from typing import NamedTuple, Optional

from .packet import mac_to_text

_SIOCGIFHWADDR, _SIOCGIFINDEX = 0x8927, 0x8933
_ETHERNET = 1  # ARPHRD_ETHER
_REQUEST = struct.Struct("@16s24x")
_INDEX = struct.Struct("@16xi")
_HARDWARE = struct.Struct("@16xH6s")


class Nic(NamedTuple):
    """A NIC that is made anew has another number (its index), whatever its name and MAC."""

    number: int
    mac: str


def look(names: Iterable[str]) -> dict[str, Nic]:
    """Those of the NICs that are there, and are Ethernet."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        found = {name: _look(channel.fileno(), name) for name in names}
    return {name: nic for name, nic in found.items() if nic is not None}


def _look(descriptor: int, name: str) -> Optional[Nic]:
    request = _REQUEST.pack(name.encode())
    try:
        number: int = _INDEX.unpack_from(fcntl.ioctl(descriptor, _SIOCGIFINDEX, request))[0]
        kind, mac = _HARDWARE.unpack_from(fcntl.ioctl(descriptor, _SIOCGIFHWADDR, request))
    except OSError:
        return None
    return Nic(number, mac_to_text(mac)) if kind == _ETHERNET else None
