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
import struct
from collections.abc import Mapping, Sequence
from typing import Optional

from ..common.errors import CommandError
from ..common.netlink import MESSAGE, NESTED, attribute, attributes, message, netfilter, text
from .table import TABLE

# Turn to: whether it is somebody's now, and whose it becomes, None for nobody's.
Turns = Mapping[int, tuple[bool, Optional[int]]]

_NETDEV = 5  # the family of the table
_NFTABLES = 10  # the part of netfilter
_NEWSETELEM, _DELSETELEM = (_NFTABLES << 8) | 12, (_NFTABLES << 8) | 14
_NEWGEN, _GETGEN = (_NFTABLES << 8) | 15, (_NFTABLES << 8) | 16
_BEGIN, _END = 16, 17  # of a batch
_ACKNOWLEDGE, _CREATE = 0x4, 0x400
_TABLE, _SET, _ELEMENTS = 1, 2, 3
_ELEMENT, _KEY, _DATA, _VALUE = 1, 1, 2, 1
_GENERATION_ID = 1
_PER_MESSAGE = 1024  # elements; an attribute has 64 KiB at most

_FAMILY = struct.Struct(">BBH")
_WORD = struct.Struct("=I")


class Overtaken(CommandError):
    """Somebody else's transaction came first."""


def generation() -> Optional[int]:
    """The number of this network namespace's last transaction (its "generation"); None where that cannot be told."""
    try:
        with netfilter() as channel:
            channel.send(message(_GETGEN, 0, _FAMILY.pack(0, 0, 0)))
            answer = channel.recv(4096)
        length, kind = MESSAGE.unpack_from(answer)[:2]
        for attribute_kind, value in attributes(answer[:length], MESSAGE.size + _FAMILY.size):
            if kind == _NEWGEN and attribute_kind == _GENERATION_ID:
                number: int = struct.unpack(">I", value)[0]
                return number
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
        message(_BEGIN, 0, part + attribute(_GENERATION_ID, struct.pack(">I", number))),
        *(message(*other) for other in messages),
        # Of what is taken the last message alone is acknowledged; what is not is always told.
        message(kind, flags | _ACKNOWLEDGE, body),
        message(_END, 0, part),
    ]
    try:
        with netfilter() as channel:
            channel.send(b"".join(batch))
            answer = channel.recv(1 << 16)
    except OSError as error:
        raise CommandError(f"the kernel's nftables does not answer: {error}") from error
    refused = -struct.unpack_from("=i", answer, MESSAGE.size)[0] if len(answer) >= MESSAGE.size + 4 else errno.EBADMSG
    if refused == errno.ERESTART:
        raise Overtaken("another transaction came first")
    if refused:
        raise CommandError(f"the kernel's nftables does not take turns: {os.strerror(refused)}")
    return number + 1


def _bodies(name: str, elements: Sequence[tuple[int, Optional[int]]]) -> list[bytes]:
    """What messages say of these elements of a map: their keys, and values where they have any."""
    head = _FAMILY.pack(_NETDEV, 0, 0) + text(_TABLE, TABLE) + text(_SET, name)
    return [
        head + attribute(_ELEMENTS | NESTED, b"".join(_element(*pair) for pair in elements[at : at + _PER_MESSAGE]))
        for at in range(0, len(elements), _PER_MESSAGE)
    ]


def _element(key: int, value: Optional[int]) -> bytes:
    parts = attribute(_KEY | NESTED, attribute(_VALUE, _WORD.pack(key)))
    if value is not None:
        parts += attribute(_DATA | NESTED, attribute(_VALUE, _WORD.pack(value)))
    return attribute(_ELEMENT | NESTED, parts)
