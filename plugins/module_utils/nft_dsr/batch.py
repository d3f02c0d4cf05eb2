# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The number of the last transaction, and a transaction that gives out turns, by the kernel's own messages.

The agent gives out turns several times a second. nft would read every declaration before it writes a single element
(5 ms where this takes a tenth of one), and cannot tell the kernel to refuse a transaction that another one overtook.
Everything else goes through nft. The layout of messages is that of linux/netfilter/nf_tables.h and nfnetlink.h.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Mapping, Sequence
from typing import Optional

from ..common.errors import CommandError
from .table import TABLE

# Turn to: whether it is somebody's now, and whose it becomes, None for nobody's.
Turns = Mapping[int, tuple[bool, Optional[int]]]

_NETLINK_NETFILTER = 12
_NETDEV = 5  # the family of the table
_NFTABLES = 10  # the part of netfilter
_NEWSETELEM, _DELSETELEM = (_NFTABLES << 8) | 12, (_NFTABLES << 8) | 14
_NEWGEN, _GETGEN = (_NFTABLES << 8) | 15, (_NFTABLES << 8) | 16
_BEGIN, _END = 16, 17  # of a batch
_REQUEST, _ACKNOWLEDGE, _CREATE = 0x1, 0x4, 0x400
_NESTED, _TYPE = 0x8000, 0x3FFF
_TABLE, _SET, _ELEMENTS = 1, 2, 3
_ELEMENT, _KEY, _DATA, _VALUE = 1, 1, 2, 1
_GENERATION_ID = 1
_PER_MESSAGE = 1024  # elements; an attribute has 64 KiB at most
_SILENCE = 5.0  # seconds after which the kernel is not waited for

_MESSAGE = struct.Struct("=IHHII")
_FAMILY = struct.Struct(">BBH")
_HEAD = struct.Struct("=HH")
_WORD = struct.Struct("=I")


class Overtaken(CommandError):
    """Somebody else's transaction came first."""


def generation() -> Optional[int]:
    """The number of this network namespace's last transaction (its "generation"); None where that cannot be told."""
    try:
        with _channel() as channel:
            channel.send(_message(_GETGEN, 0, _FAMILY.pack(0, 0, 0)))
            answer = channel.recv(4096)
        length, kind = struct.unpack_from("=IH", answer)
        if kind != _NEWGEN:
            return None
        at = _MESSAGE.size + _FAMILY.size
        while at + 8 <= length:
            size, attribute = _HEAD.unpack_from(answer, at)
            if attribute & _TYPE == _GENERATION_ID:
                number: int = struct.unpack_from(">I", answer, at + 4)[0]
                return number
            at += (size + 3) & ~3 or 4
    except (OSError, struct.error):
        pass
    return None


def give_turns(changes: Mapping[str, Turns], number: int) -> int:
    """Change whose turn it is in some maps, all at once, if the last transaction is this one; the new one's number.

    Overtaken where it is another by now, CommandError for anything else that the kernel does not take.
    """
    messages: list[tuple[int, int, bytes]] = []
    for name, turns in sorted(changes.items()):
        lost = [(turn, None) for turn, (there, _owner) in turns.items() if there]
        given = [(turn, owner) for turn, (_there, owner) in turns.items() if owner is not None]
        messages += ((_DELSETELEM, 0, body) for body in _bodies(name, lost))
        messages += ((_NEWSETELEM, _CREATE, body) for body in _bodies(name, given))
    if not messages:
        return number
    part = _FAMILY.pack(0, 0, _NFTABLES)
    kind, flags, body = messages.pop()
    batch = [
        _message(_BEGIN, 0, part + _attribute(_GENERATION_ID, struct.pack(">I", number))),
        *(_message(*message) for message in messages),
        # Of what is taken the last message alone is acknowledged; what is not is always told.
        _message(kind, flags | _ACKNOWLEDGE, body),
        _message(_END, 0, part),
    ]
    try:
        with _channel() as channel:
            channel.send(b"".join(batch))
            answer = channel.recv(1 << 16)
    except OSError as error:
        raise CommandError(f"the kernel's nftables does not answer: {error}") from error
    refused = -struct.unpack_from("=i", answer, _MESSAGE.size)[0] if len(answer) >= _MESSAGE.size + 4 else errno.EBADMSG
    if refused == errno.ERESTART:
        raise Overtaken("another transaction came first")
    if refused:
        raise CommandError(f"the kernel's nftables does not take turns: {os.strerror(refused)}")
    return number + 1


def _channel() -> socket.socket:
    channel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)
    channel.settimeout(_SILENCE)
    return channel


def _message(kind: int, flags: int, body: bytes) -> bytes:
    return _MESSAGE.pack(_MESSAGE.size + len(body), kind, flags | _REQUEST, 1, 0) + body


def _bodies(name: str, elements: Sequence[tuple[int, Optional[int]]]) -> list[bytes]:
    """What messages say of these elements of a map: their keys, and values where they have any."""
    head = _FAMILY.pack(_NETDEV, 0, 0) + b"".join(
        _attribute(kind, text.encode() + b"\0") for kind, text in ((_TABLE, TABLE), (_SET, name))
    )
    return [
        head + _attribute(_ELEMENTS | _NESTED, b"".join(_element(*pair) for pair in elements[at : at + _PER_MESSAGE]))
        for at in range(0, len(elements), _PER_MESSAGE)
    ]


def _element(key: int, value: Optional[int]) -> bytes:
    parts = _attribute(_KEY | _NESTED, _attribute(_VALUE, _WORD.pack(key)))
    if value is not None:
        parts += _attribute(_DATA | _NESTED, _attribute(_VALUE, _WORD.pack(value)))
    return _attribute(_ELEMENT | _NESTED, parts)


def _attribute(kind: int, value: bytes) -> bytes:
    return _HEAD.pack(4 + len(value), kind) + value + bytes(-len(value) % 4)
