# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The probe that asks a DNS server, by one datagram (RFC 1035).

A server is well if it has a record to answer with: one that has lost its zones, or cannot reach anybody, says so
in words or with an empty answer.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import struct
from ipaddress import ip_address
from typing import Optional

from ..nft_dsr.health_check import HealthCheck
from .probe_base import READ_SIZE, Failure, Progress, Target, open_socket, socket_address

_HEADER = struct.Struct("!HHHHHH")
_RECORD = struct.Struct("!HHIH")
_ANSWER, _OPCODE, _RECURSE = 0x8000, 0x7800, 0x0100
_INTERNET = 1
_RCODES = {1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED", 9: "NOTAUTH"}
_ADDRESSES = {1: 4, 28: 16}  # types of records that hold an address, and its size


async def ask(check: HealthCheck, target: Target, _progress: Progress) -> None:
    name, kind = check.question
    number = secrets.randbits(16)
    loop = asyncio.get_running_loop()
    opened = open_socket(target, socket.SOCK_DGRAM)
    try:
        opened.connect(socket_address(target.connect_to, target.port))  # a datagram's connect waits for nobody
        opened.send(query(number, name, kind))
        while True:
            answer = parse(await loop.sock_recv(opened, READ_SIZE), number, name, kind)
            if answer is not None:
                break
            await asyncio.sleep(0)  # who sends what was not asked for must not keep everybody else waiting
    finally:
        opened.close()
    _judge(check, *answer)


def _judge(check: HealthCheck, rcode: int, count: int, addresses: list[str]) -> None:
    if rcode:
        raise Failure(f"answered {_RCODES.get(rcode, f'with the code {rcode}')}")
    if not count:
        raise Failure(f"answered, but without a record for {check.query}")
    if check.expect is not None and check.expect not in addresses:
        raise Failure(f"answered {', '.join(addresses) or 'without an address'}, wanted {check.expect}")


def query(number: int, name: str, kind: int) -> bytes:
    """A standard query, with recursion desired: a server that does not recurse ignores that."""
    return _HEADER.pack(number, _RECURSE, 1, 0, 0, 0) + _encode(name) + struct.pack("!HH", kind, _INTERNET)


def _encode(name: str) -> bytes:
    labels = [] if name == "." else name.encode("ascii").split(b".")
    return b"".join(bytes([len(label)]) + label for label in (*labels, b""))


def parse(data: bytes, number: int, name: str, kind: int) -> Optional[tuple[int, int, list[str]]]:
    """The code of an answer to this query, how many records it has, and the addresses in these.

    None for anything else. An answer to a query that could not be read need not repeat it.
    """
    if len(data) < _HEADER.size:
        return None
    answered, flags, questions, records, _authorities, _more = _HEADER.unpack_from(data)
    rcode = flags & 0xF
    if answered != number or not flags & _ANSWER or flags & _OPCODE:
        return None
    if not questions and rcode:
        return rcode, 0, []
    question = _encode(name) + struct.pack("!HH", kind, _INTERNET)
    start, end = _HEADER.size, _HEADER.size + len(question)
    if questions != 1 or data[start:end].lower() != question.lower():
        return None
    return rcode, records, _addresses(data, end, records)


def _addresses(data: bytes, at: int, records: int) -> list[str]:
    """The addresses in the answer section, as far as it goes."""
    found: list[str] = []
    for _record in range(records):
        at = _behind_name(data, at)
        if at + _RECORD.size > len(data):
            break
        kind, network, _life, size = _RECORD.unpack_from(data, at)
        at += _RECORD.size
        content = data[at : at + size]
        at += size
        if network == _INTERNET and _ADDRESSES.get(kind) == len(content):
            found.append(str(ip_address(content)))
    return found


def _behind_name(data: bytes, at: int) -> int:
    """Where a name ends that begins here: at a length of 0, or after a pointer to elsewhere."""
    while at < len(data):
        size = data[at]
        if size >= 0xC0:
            return at + 2
        at += 1 + size
        if not size:
            break
    return at
