# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The form of netlink's messages: a head, and attributes that may have others in them."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

_NETFILTER = 12  # the kernel's part that nftables is in
_SILENCE = 5.0  # seconds after which the kernel is not waited for
REQUEST = 0x1
NESTED = 0x8000
MESSAGE = struct.Struct("=IHHII")  # length, kind, flags, sequence, port
HEAD = struct.Struct("=HH")  # of an attribute: length, kind
TYPE = 0x3FFF  # of an attribute, without its flags


def netfilter() -> socket.socket:
    """A channel to the kernel's nftables. OSError as the kernel says."""
    channel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETFILTER)
    channel.settimeout(_SILENCE)
    return channel


def message(kind: int, flags: int, body: bytes) -> bytes:
    """A message to the kernel."""
    return MESSAGE.pack(MESSAGE.size + len(body), kind, flags | REQUEST, 1, 0) + body


def attribute(kind: int, value: bytes) -> bytes:
    """An attribute, filled up to four bytes."""
    return HEAD.pack(4 + len(value), kind) + value + bytes(-len(value) % 4)


def text(kind: int, value: str) -> bytes:
    """An attribute that holds a text."""
    return attribute(kind, value.encode() + b"\0")


def attributes(data: bytes, at: int = 0) -> Iterator[tuple[int, bytes]]:
    """The attributes from a place on, as far as they can be read."""
    end = len(data) - 3
    while at < end:
        length, kind = HEAD.unpack_from(data, at)
        if length < 4:
            return
        yield kind & TYPE, data[at + 4 : at + length]
        at += (length + 3) & ~3
