# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Large receive offload (LRO): frames that were put together by it can't be passed on.

GRO is another thing: what it puts together is taken apart again.
"""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Callable, Optional

from ..common.iproute import Link
from .finding import FAILED, OK, UNTESTED, Finding

CHECK = "lro"

_SIOCETHTOOL = 0x8946
_GET_FLAGS, _GET_GRO = 0x25, 0x2B  # ETHTOOL_GFLAGS, ETHTOOL_GGRO
_LRO = 1 << 15
_VALUE = struct.Struct("@II")  # struct ethtool_value: command, answer
_REQUEST = struct.Struct("@16sP16x")  # struct ifreq with a pointer

# Asks a NIC for one value; None where it knows no such thing.
Asking = Callable[[str, int], Optional[int]]


def ask(nic: str, command: int) -> Optional[int]:
    """What the driver of a NIC answers to a question of ethtool(8)."""
    value = ctypes.create_string_buffer(_VALUE.pack(command, 0))
    request = _REQUEST.pack(nic.encode(), ctypes.addressof(value))
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            fcntl.ioctl(channel.fileno(), _SIOCETHTOOL, request)
    except OSError:
        return None
    answer: int = _VALUE.unpack(value.raw[: _VALUE.size])[1]
    return answer


def lro(nic: str, asking: Asking = ask) -> Optional[bool]:
    """Whether LRO is on; None where that can't be read."""
    flags = asking(nic, _GET_FLAGS)
    return None if flags is None else bool(flags & _LRO)


def gro(nic: str, asking: Asking = ask) -> Optional[bool]:
    """The same of GRO."""
    value = asking(nic, _GET_GRO)
    return None if value is None else bool(value)


def with_ports(nics: Iterable[str], links: Mapping[str, Link]) -> list[str]:
    """The NICs, and the ports of those that are a bond or a bridge: that is where frames come in."""
    wanted = set(nics)
    return sorted(wanted | {name for name, link in links.items() if link.master in wanted})


def judge(states: Mapping[str, Optional[bool]]) -> Iterator[Finding]:
    """By NIC, whether LRO is on."""
    for nic, state in sorted(states.items()):
        if state:
            yield Finding(
                CHECK,
                FAILED,
                f"LRO is on for {nic}: what it puts together cannot be passed on, and is lost",
                f"ethtool -K {nic} lro off, and at boot where the NIC is configured",
            )
        elif state is None:
            yield Finding(CHECK, UNTESTED, f"{nic} does not tell whether LRO is on", f"ethtool -k {nic} | grep large")
    off = [nic for nic, state in sorted(states.items()) if state is False]
    if off:
        yield Finding(CHECK, OK, f"off for {', '.join(off)}")
