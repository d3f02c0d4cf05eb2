# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""VRRP adverts are read from frames, and damaged ones are not."""

from __future__ import annotations

import struct
from ipaddress import ip_address
from typing import Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.dsr.layer2.plugins.module_utils.common.vrrp import parse


def _sum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def frame(
    version: int = 3, source: str = "192.0.2.3", router_id: int = 100, priority: int = 200, pseudo: bool = True
) -> bytes:
    own = ip_address(source)
    to = ip_address("224.0.0.18" if own.version == 4 else "ff02::12")
    timing = struct.pack("!BB", 0, 1) if version == 2 else struct.pack("!H", 10)
    body = ip_address("127.112.0.100").packed + (8 * b"\0" if version == 2 else b"")
    if own.version == 6:
        body = ip_address("fe80::1").packed
    head = struct.pack("!BBBB", version << 4 | 1, router_id, priority, 1) + timing
    length = len(head) + 2 + len(body)
    before = b""
    if version == 3 and own.version == 4 and pseudo:
        before = own.packed + to.packed + struct.pack("!BBH", 0, 112, length)
    elif own.version == 6:
        before = own.packed + to.packed + struct.pack("!IHBB", length, 0, 0, 112)
    message = head + struct.pack("!H", _sum(before + head + b"\0\0" + body)) + body
    if own.version == 4:
        ip = struct.pack("!BBHHHBBH", 0x45, 0xC0, 20 + length, 1, 0, 255, 112, 0) + own.packed + to.packed
        return 12 * b"\1" + b"\x08\x00" + ip + message
    ip = struct.pack("!IHBB", 6 << 28, length, 112, 255) + own.packed + to.packed
    return 12 * b"\1" + b"\x86\xdd" + ip + message


def read(data: bytes) -> Optional[tuple[str, int, int, int, float]]:
    found = parse(data)
    return (
        None if found is None else (str(found.source), found.version, found.router_id, found.priority, found.interval)
    )


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (frame(), ("192.0.2.3", 3, 100, 200, 0.1)),
        (frame() + 20 * b"\0", ("192.0.2.3", 3, 100, 200, 0.1)),  # padded by the NIC
        (frame(pseudo=False), ("192.0.2.3", 3, 100, 200, 0.1)),
        (frame(2, router_id=1, priority=0), ("192.0.2.3", 2, 1, 0, 1.0)),
        (frame(source="fe80::3", router_id=255), ("fe80::3", 3, 255, 200, 0.1)),
        (frame(router_id=0), None),
        (frame(version=4), None),
        (frame(2, source="fe80::3"), None),
        (b"", None),
    ],
)
def test_adverts(data: bytes, expected: Optional[tuple[str, int, int, int, float]]) -> None:
    assert read(data) == expected


@pytest.mark.parametrize("data", [frame(), frame(2), frame(source="fe80::3")])
def test_whatever_is_damaged_is_no_advert(data: bytes) -> None:
    start = 14 + (40 if data[12] == 0x86 else 20)
    for place in range(start, len(data)):
        assert parse(data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :]) is None, place
    for length in range(len(data)):
        assert parse(data[:length]) is None, length


@given(st.binary(max_size=120))
def test_nothing_fails_on_noise(noise: bytes) -> None:
    for start in (b"", 12 * b"\1" + b"\x08\x00\x45", 12 * b"\1" + b"\x86\xdd\x60"):
        parse(start + noise)
