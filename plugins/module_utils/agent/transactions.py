# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hears of transactions of nftables as they come, and who made them.

Without it the agent would notice them at its next look, a quarter of a second later at worst, and could not tell
whom to ask. Where the kernel does not let it hear, that is how it is.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from typing import Callable, NamedTuple, Optional

from ..common import bpf
from ..common.netlink import MESSAGE, attributes, netfilter
from ..common.packet_socket import attach_filter

_GROUP = 1 << (7 - 1)  # of the messages about nftables (NFNLGRP_NFTABLES)
_NEW_GENERATION = (10 << 8) | 15
_NUMBER, _PROGRAM = 1, 3
_REMEMBERED = 64


class Transaction(NamedTuple):
    """Its number in this network namespace, and the name of the program that made it."""

    number: int
    program: str


class Transactions:
    """Calls ``come`` when there was one. To be made and closed in a running event loop."""

    def __init__(self, come: Callable[[], None]) -> None:
        self._come = come
        self._heard: deque[Transaction] = deque(maxlen=_REMEMBERED)
        self._loop = asyncio.get_running_loop()
        self._socket = _open()
        if self._socket is not None:
            self._loop.add_reader(self._socket, self._read)

    def close(self) -> None:
        """Hear no more."""
        if self._socket is not None:
            self._loop.remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    def programs(self, after: int, until: int) -> list[str]:
        """Who made those after one number up to another, as far as that was heard."""
        return sorted({found.program for found in self._heard if after < found.number <= until})

    def _read(self) -> None:
        while self._socket is not None:
            try:
                found = parse(self._socket.recv(4096))
            except BlockingIOError:
                break
            except OSError:  # there were more than it could hold
                continue
            if found is not None:
                self._heard.append(found)
        self._come()


def parse(message: bytes) -> Optional[Transaction]:
    """What the kernel tells of a transaction; None if it is something else. The program's name is anybody's choice."""
    number, program = 0, ""
    if len(message) < 20 or MESSAGE.unpack_from(message)[1] != _NEW_GENERATION:
        return None
    for kind, value in attributes(message, 20):
        if kind == _NUMBER and len(value) == 4:
            number = int.from_bytes(value, "big")
        elif kind == _PROGRAM:
            text = value.partition(b"\0")[0].decode("utf-8", "replace")
            program = "".join(letter if letter.isprintable() else "?" for letter in text)
    return Transaction(number, program) if number and program else None


def _open() -> Optional[socket.socket]:
    """A socket that only gets what says that a transaction is over, and nothing of the many things that were in it."""
    try:
        channel = netfilter()
    except OSError:
        return None
    # Type of the message, which is in this host's order of bytes, while a filter reads in the network's.
    kind = int.from_bytes(struct.pack("=H", _NEW_GENERATION), "big")
    program = (
        bpf.Instruction(bpf.LOAD_HALF, 4),
        bpf.Instruction(bpf.JUMP_EQUAL, kind, 0, 1),
        bpf.Instruction(bpf.RETURN, 0xFFFFFFFF),
        bpf.Instruction(bpf.RETURN, 0),
    )
    try:
        attach_filter(channel, program)
        channel.setblocking(False)
        channel.bind((0, _GROUP))
    except OSError:
        channel.close()
        return None
    return channel
