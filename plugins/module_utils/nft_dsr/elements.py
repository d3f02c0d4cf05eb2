# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What maps of our table count, and how many flows they hold, asked of the kernel itself.

For whoever looks again and again: nft would be started once for each map and list each flow as JSON, which takes a
hundred times as long as to read what the kernel says. That is read without a lock. A transaction that comes in between
leaves out an element or two, or counts them twice, until the next look.
"""

from __future__ import annotations

import errno
import os
import struct
import time
from collections import Counter as Counts
from collections.abc import Iterator
from typing import NamedTuple, Optional

from ..common import netlink
from ..common.errors import CommandError
from ..common.netlink import HEAD, MESSAGE, TYPE
from .table import TABLE, Counter

_NEWSETELEM, _GETSETELEM = (10 << 8) | 12, (10 << 8) | 13
_ERROR, _DONE = 2, 3
_DUMP = 0x300
_NETDEV = 5  # the family of the table
_TABLE, _SET, _ELEMENTS = 1, 2, 3
_KEY, _DATA, _EXPRESSION, _EXPRESSIONS = 1, 2, 7, 11
_VALUE = 1
_EXPRESSION_NAME, _EXPRESSION_DATA = 1, 2
_BYTES, _PACKETS = 1, 2
_FAMILY = struct.Struct("=BBH")
_NUMBER = struct.Struct(">Q")
_BUFFER = 1 << 17


class Element(NamedTuple):
    """One element: the bytes of its key and of its value, and what it counted."""

    key: bytes
    value: bytes
    counter: Counter


def elements(name: str) -> list[Element]:
    """The elements of a map of our table; none if it is not there."""
    return [_element(attributes) for piece in _pieces(name, None) for _kind, attributes in netlink.attributes(piece)]


def count_by_value(name: str, seconds: Optional[float] = None) -> dict[bytes, int]:
    """How many elements of a map have each value. CommandError when it takes longer than ``seconds``."""
    found: dict[bytes, int] = {}
    for piece in _pieces(name, seconds):
        for value, number in count_values(piece).items():
            found[value] = found.get(value, 0) + number
    return found


def sample_by_value(name: str, at_most: int) -> tuple[dict[bytes, int], bool]:
    """The same of so many elements and hardly more, and whether these are all.

    The kernel begins anew for every piece of a list and skips what it has said, so a long list costs by the square of
    its length: 100,000 flows half a second of a processor, a million 80 seconds. What a list begins with is a fair
    sample, as its order is that of hashes.
    """
    found: dict[bytes, int] = {}
    seen = 0
    for piece in _pieces(name, None):
        for value, number in count_values(piece).items():
            found[value] = found.get(value, 0) + number
            seen += number
        if seen >= at_most:
            return found, False
    return found, True


def count_values(piece: bytes) -> dict[bytes, int]:
    """How many of these elements have each value. There may be a million, and they nearly always are of one form."""
    place = _place_of_value(piece)
    if place is not None:
        size, at, length = place
        if len(piece) % size == 0:
            form = f"=H{at - 10}x4sHH{length}s{size - at - length}x"
            numbers = Counts(struct.iter_unpack(form, piece))
            # The same heads at the same places: it is the value that is between them.
            if len({tuple(row[:4]) for row in numbers}) == 1:
                return {row[4]: number for row, number in numbers.items()}
    return dict(Counts(_data(attributes, _DATA) for _kind, attributes in netlink.attributes(piece)))


def _place_of_value(piece: bytes) -> Optional[tuple[int, int, int]]:
    """Of the first element: how long it is, where its value is, and how long that is."""
    if len(piece) < 4:
        return None
    end = HEAD.unpack_from(piece)[0]
    if end > len(piece):
        return None
    at = 4
    while at + 8 <= end:
        length, kind = HEAD.unpack_from(piece, at)
        if kind & TYPE == _DATA:
            inner, part = HEAD.unpack_from(piece, at + 4)
            whole = part == _VALUE and inner >= 4 and at + 4 + inner <= end
            return ((end + 3) & ~3, at + 8, inner - 4) if whole else None
        if length < 4:
            return None
        at += (length + 3) & ~3
    return None


def request(name: str) -> bytes:
    """What asks for all elements of a map."""
    body = _FAMILY.pack(_NETDEV, 0, 0) + netlink.text(_TABLE, TABLE) + netlink.text(_SET, name)
    return netlink.message(_GETSETELEM, _DUMP, body)


def parse(data: bytes) -> tuple[list[bytes], bool]:
    """The lists of elements in what came at once, and whether that was the last. OSError as the kernel says."""
    found: list[bytes] = []
    at = 0
    while at + MESSAGE.size <= len(data):
        length, kind, _flags, _sequence, _port = MESSAGE.unpack_from(data, at)
        if length < MESSAGE.size:
            break
        body = data[at + MESSAGE.size : at + length]
        if kind in (_DONE, _ERROR):
            number = -struct.unpack_from("=i", body)[0] if len(body) >= 4 else 0
            if number:
                raise OSError(number, os.strerror(number))
            return found, True
        if kind == _NEWSETELEM:
            for attribute, content in netlink.attributes(body, _FAMILY.size):
                if attribute == _ELEMENTS:
                    found.append(content)
        at += (length + 3) & ~3
    return found, False


def _pieces(name: str, seconds: Optional[float]) -> Iterator[bytes]:
    until = None if seconds is None else time.monotonic() + seconds
    try:
        with netlink.netfilter() as channel:
            channel.send(request(name))
            last = False
            while not last:
                found, last = parse(channel.recv(_BUFFER))
                yield from found
                if until is not None and time.monotonic() > until:
                    raise CommandError(f"map {name}: not read within {seconds:g} s")
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise CommandError(f"map {name}: the kernel does not say what is in it: {error}") from error


def _data(attributes: bytes, wanted: int) -> bytes:
    """The bytes of an element's key or value."""
    for kind, content in netlink.attributes(attributes):
        if kind == wanted:
            return next((value for part, value in netlink.attributes(content) if part == _VALUE), b"")
    return b""


def _element(attributes: bytes) -> Element:
    counter = Counter()
    for kind, content in netlink.attributes(attributes):
        if kind == _EXPRESSION:
            counter += _counter(content)
        elif kind == _EXPRESSIONS:
            for _part, expression in netlink.attributes(content):
                counter += _counter(expression)
    return Element(_data(attributes, _KEY), _data(attributes, _DATA), counter)


def _counter(expression: bytes) -> Counter:
    parts = dict(netlink.attributes(expression))
    if parts.get(_EXPRESSION_NAME) != b"counter\0":
        return Counter()
    figures = {
        kind: _NUMBER.unpack(content)[0]
        for kind, content in netlink.attributes(parts[_EXPRESSION_DATA])
        if len(content) == _NUMBER.size
    }
    return Counter(figures.get(_PACKETS, 0), figures.get(_BYTES, 0))
