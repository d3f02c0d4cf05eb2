# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel tells of a transaction."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.dsr.layer2.plugins.module_utils.agent import transactions
from ansible_collections.dsr.layer2.plugins.module_utils.agent.transactions import Transaction, Transactions, parse


def message(number: int, program: bytes, kind: int = (10 << 8) | 15) -> bytes:
    parts = [(1, struct.pack(">I", number)), (2, struct.pack(">I", 4711)), (3, program + b"\0")]
    body = b"".join(
        struct.pack("=HH", 4 + len(value), attribute) + value + bytes(-len(value) % 4) for attribute, value in parts
    )
    return struct.pack("=IHHII", 20 + len(body), kind, 0, 0, 0) + bytes(4) + body


@pytest.mark.parametrize(
    ("program", "said"),
    [(b"nft", "nft"), (b"iptables-restor", "iptables-restor"), (b"\x1b[31m", "?[31m"), (b"\xff", "\ufffd")],
)
def test_number_and_program_are_read(program: bytes, said: str) -> None:
    assert parse(message(7, program)) == Transaction(7, said)


@pytest.mark.parametrize("data", [b"", b"\0" * 20, message(7, b"nft", kind=(10 << 8) | 3), message(7, b"")])
def test_what_tells_nothing_is_nothing(data: bytes) -> None:
    assert parse(data) is None


@given(st.binary(max_size=80))
def test_whatever_comes_is_no_error(data: bytes) -> None:
    parse(message(7, b"nft")[:20] + data)


def heard(monkeypatch: pytest.MonkeyPatch, *messages: bytes) -> tuple[Transactions, list[int]]:
    """What it makes of these messages, and how often it called."""
    mine, kernels = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    mine.setblocking(False)
    monkeypatch.setattr(transactions, "_open", lambda: mine)
    calls: list[int] = []

    async def work() -> Transactions:
        found = Transactions(lambda: calls.append(1))
        for data in messages:
            kernels.send(data)
        if messages:
            while not calls:
                await asyncio.sleep(0)
        found.close()
        found.close()
        return found

    found = asyncio.run(work())
    kernels.close()
    assert mine.fileno() == -1
    return found, calls


def test_whose_they_were_between_two_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    made = [(5, b"nft"), (6, b"firewalld"), (7, b"docker"), (8, b"docker"), (9, b"nft")]
    found, _calls = heard(monkeypatch, *(message(*one) for one in made), b"noise")
    assert found.programs(5, 8) == ["docker", "firewalld"]
    assert found.programs(9, 9) == []


def test_without_a_socket_it_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_arguments: object) -> Optional[socket.socket]:
        raise PermissionError

    monkeypatch.setattr(transactions.socket, "socket", refused)
    assert transactions._open() is None
