# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel says of a map, read from bytes as it makes them."""

from __future__ import annotations

import errno
import struct
from random import Random

import pytest

from ansible_collections.dsr.layer2.plugins.module_utils.common import netlink
from ansible_collections.dsr.layer2.plugins.module_utils.common.errors import CommandError
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr import elements
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.table import Counter

NESTED = 0x8000


def attribute(kind: int, content: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(content), kind) + content + b"\0" * (-len(content) % 4)


def counter(packets: int, size: int, name: bytes = b"counter\0") -> bytes:
    figures = attribute(1, struct.pack(">Q", size)) + attribute(2, struct.pack(">Q", packets))
    return attribute(1, name) + attribute(2 | NESTED, figures)


def element(key: bytes, value: bytes, *more: bytes) -> bytes:
    parts = [attribute(kind | NESTED, attribute(1, content)) for kind, content in ((1, key), (2, value))]
    return attribute(1 | NESTED, b"".join([*parts, *more]))


def message(kind: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, 2, 1, 0) + body


def answer(*found: bytes) -> bytes:
    listed = attribute(1, b"nft_dsr\0") + attribute(2, b"web\0") + attribute(3 | NESTED, b"".join(found))
    return message((10 << 8) | 12, struct.pack("=BBH", 5, 0, 7) + listed)


DONE = message(3, struct.pack("=i", 0))
PLAIN = attribute(7 | NESTED, counter(5, 500))
SEVERAL = attribute(11 | NESTED, attribute(1, counter(1, 10)) + attribute(1, counter(9, 9, b"limit\0")))


class Kernel:
    """Answers in pieces."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)
        self.asked = b""

    def __call__(self, *_unused: int) -> Kernel:
        return self

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *_unused: object) -> None:
        pass

    def settimeout(self, _seconds: float) -> None:
        pass

    def send(self, message: bytes) -> None:
        self.asked = message

    def recv(self, _size: int) -> bytes:
        if not self.pieces:
            raise TimeoutError("timed out")
        return self.pieces.pop(0)


def answering(monkeypatch: pytest.MonkeyPatch, *pieces: bytes) -> Kernel:
    kernel = Kernel(*pieces)
    monkeypatch.setattr(netlink.socket, "socket", kernel)
    return kernel


def test_what_elements_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = answering(
        monkeypatch,
        answer(element(b"key1", b"one", PLAIN), element(b"key2", b"two", SEVERAL)) + answer(element(b"key3", b"three")),
        answer(element(b"key4", b"", PLAIN)),
        DONE,
    )
    assert elements.elements("web") == [
        (b"key1", b"one", Counter(5, 500)),
        (b"key2", b"two", Counter(1, 10)),
        (b"key3", b"three", Counter()),
        (b"key4", b"", Counter(5, 500)),
    ]
    assert b"nft_dsr\0" in kernel.asked and b"web\0" in kernel.asked
    assert struct.unpack_from("=IHH", kernel.asked) == (len(kernel.asked), (10 << 8) | 13, 0x301)


def test_a_map_that_is_not_there_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, message(2, struct.pack("=i", -errno.ENOENT) + b"\0" * 16))
    assert elements.elements("web") == []


@pytest.mark.parametrize("kind", [2, 3])
def test_what_the_kernel_refuses_is_an_error(kind: int, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, message(kind, struct.pack("=i", -errno.EPERM)))
    with pytest.raises(CommandError, match=r"map web: the kernel does not say what is in it: .*not permitted"):
        elements.elements("web")


def test_a_kernel_that_says_nothing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, answer(element(b"key1", b"one")))
    with pytest.raises(CommandError, match=r"map web: .*timed out"):
        elements.count_by_value("web")


def test_what_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, *[answer(element(b"key1", b"one"))] * 3, DONE)
    with pytest.raises(CommandError, match="map web: not read within 0 s"):
        elements.count_by_value("web", 0.0)


@pytest.mark.parametrize("size", [4, 6, 12])
def test_values_are_counted(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = b"\x01" * size, b"\x02" * size
    life = attribute(4, b"\0" * 8) + attribute(5, b"\1" * 8)
    alike = [element(bytes([number]) * 12, two if number % 3 else one, life) for number in range(90)]
    answering(monkeypatch, answer(*alike), answer(*alike[:3]), DONE)
    assert elements.count_by_value("flows_web") == {one: 31, two: 62}


@pytest.mark.parametrize(
    "other",
    [
        element(b"k" * 12, b"\x02" * 4),  # shorter
        element(
            b"k" * 8, b"\x02" * 4, attribute(5, b"\x01" * 4 + b"\x02" * 4), attribute(6, b"")
        ),  # as long, not alike
        element(b"k" * 12, b"\x02" * 4, attribute(5, b"\1" * 8), attribute(6, b"\1" * 8)),  # twice as long or so
    ],
)
def test_values_of_elements_that_are_not_alike_are_counted(other: bytes) -> None:
    usual = element(b"k" * 12, b"\x01" * 4, attribute(5, b"\1" * 8))
    for piece in (usual + other, other + usual, usual + other + usual[:0]):
        assert elements.count_values(piece) == {b"\x01" * 4: 1, b"\x02" * 4: 1}


def test_what_is_no_list_of_elements_counts_for_nothing() -> None:
    for piece in (b"", b"\0\0", b"\0" * 40, b"\xff" * 40, *(Random(seed).randbytes(64) for seed in range(200))):
        elements.count_values(piece)
        elements.parse(piece[:15])
