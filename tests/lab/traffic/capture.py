# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames counted as they pass a NIC."""

from __future__ import annotations

import argparse
import collections
import contextlib
import socket
import struct
from typing import Any, Callable

from .common import SO_RCVBUFFORCE, Stop, ready, report
from .frames import decode

_ETH_P_ALL = 0x0003
_SOL_PACKET, _ADD_MEMBERSHIP, _STATISTICS, _MR_PROMISC, _OUTGOING = 263, 1, 6, 1, 4
_HEAD = 256  # of each frame, enough for all headers and quoted ones

# Options that are wanted values of the field of this name.
EQUAL = (
    "source", "destination", "protocol", "source_port", "port", "operation", "target", "direction", "from_mac",
    "to_mac", "chunk", "type", "code", "id", "quoted_source", "quoted_destination", "quoted_protocol",
    "quoted_source_port", "quoted_destination_port",
)  # fmt: skip


def _wanted(arguments: argparse.Namespace) -> Callable[[dict[str, Any]], bool]:
    equal = {name: getattr(arguments, name) for name in EQUAL if getattr(arguments, name) is not None}
    pieces = {None: None, "any": ("first", "later"), "whole": ("none",)}.get(
        arguments.fragments, (arguments.fragments,)
    )
    return lambda fields: (
        all(fields.get(name) == value for name, value in equal.items())
        and (arguments.arp is None or fields["protocol"] == "arp")
        and (arguments.arp is None or arguments.arp in (fields["source"], fields["destination"]))
        and (pieces is None or fields.get("piece") in pieces)
    )


def capture(arguments: argparse.Namespace) -> None:
    stop = Stop(arguments.seconds)
    wanted = _wanted(arguments)
    counts: dict[tuple[str, str], list[int]] = collections.defaultdict(lambda: [0, 0])
    records: list[dict[str, Any]] = []
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 26)
        sock.bind((arguments.interface, _ETH_P_ALL))
        index = socket.if_nametoindex(arguments.interface)
        if arguments.promiscuous:
            member = struct.pack("iHH8s", index, _MR_PROMISC, 0, bytes(8))
            sock.setsockopt(_SOL_PACKET, _ADD_MEMBERSHIP, member)
        sock.setblocking(False)
        buffer = bytearray(_HEAD)
        ready()
        ending = False
        while not ending:
            ending = stop.wait([sock])
            # What came until now is counted, at the end too.
            with contextlib.suppress(BlockingIOError):
                while True:
                    # The size that the frame has, not the part of it that is looked at.
                    length, (_unused, _unused, kind, *_unused) = sock.recvfrom_into(buffer, 0, socket.MSG_TRUNC)
                    fields = decode(bytes(buffer[: min(length, _HEAD)]), length, kind == _OUTGOING)
                    if wanted(fields):
                        count = counts[fields["from_mac"], fields["to_mac"]]
                        count[0] += 1
                        count[1] += length
                        if len(records) < arguments.records:
                            records.append(fields)
        _unused, dropped = struct.unpack("II", sock.getsockopt(_SOL_PACKET, _STATISTICS, 8))
    report({**_totals(counts), "missed": dropped, "records": records})


def _totals(counts: dict[tuple[str, str], list[int]]) -> dict[str, Any]:
    totals: dict[str, Any] = {"frames": 0, "bytes": 0, "by_source": {}, "by_destination": {}, "pairs": []}
    for (source, destination), (frames, size) in sorted(counts.items()):
        totals["frames"] += frames
        totals["bytes"] += size
        totals["pairs"].append({"from_mac": source, "to_mac": destination, "frames": frames, "bytes": size})
        for way, mac in (("by_source", source), ("by_destination", destination)):
            entry = totals[way].setdefault(mac, {"frames": 0, "bytes": 0})
            entry["frames"] += frames
            entry["bytes"] += size
    return totals
