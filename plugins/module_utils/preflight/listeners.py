# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who listens at which port, from the kernel's tables in /proc/net, and whether that is at the VIPs."""

from __future__ import annotations

import glob
import os
import re
import struct
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Callable

from ..common.iproute import IPAddress
from .finding import OK, UNTESTED, WARNING, Finding, listed, serious
from .request import Vip

CHECK = "service"
TABLES = ("tcp", "tcp6", "udp", "udp6")

# States of the kernel's tables in which packets of new clients are taken: TCP_LISTEN, and TCP_CLOSE as UDP shows it
_OPEN = {"tcp": "0A", "udp": "07"}
_KNOWN = ("tcp", "udp")


@dataclass(frozen=True)
class Listener:
    protocol: str
    address: IPAddress
    port: int
    inode: str

    def takes(self, vip: IPAddress) -> bool:
        """Whether it gets packets to this address. One at :: is nearly always of both families."""
        if self.address.is_unspecified:
            return self.address.version == 6 or vip.version == 4
        mapped = self.address.ipv4_mapped if isinstance(self.address, IPv6Address) else None
        return vip in (self.address, mapped)


def parse(table: str, text: str) -> Iterator[Listener]:
    """The listeners in a table of /proc/net."""
    protocol = table[:3]
    for line in text.splitlines()[1:]:
        fields = line.split()
        # One that is connected gets nothing from others.
        if len(fields) < 10 or fields[3] != _OPEN[protocol] or not re.fullmatch(r"[0:]+", fields[2]):
            continue
        place, _colon, port = fields[1].partition(":")
        yield Listener(protocol, _address(place), int(port, 16), fields[9])


def _address(text: str) -> IPAddress:
    """Words in the host's own order, each of four bytes that are in the network's."""
    words = [int(text[start : start + 8], 16) for start in range(0, len(text), 8)]
    order = "<" if sys.byteorder == "little" else ">"
    packed = struct.pack(f"{order}{len(words)}I", *words)
    return IPv4Address(packed) if len(words) == 1 else IPv6Address(packed)


def read() -> list[Listener]:
    """All listeners of this host."""
    found: list[Listener] = []
    for table in TABLES:
        try:
            with open(f"/proc/net/{table}", encoding="ascii") as handle:
                found += parse(table, handle.read())
        except OSError:
            continue  # no IPv6 here
    return found


def owners(inodes: Iterable[str]) -> dict[str, str]:
    """The names of the programs that have these sockets, as far as they can be seen."""
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    found: dict[str, str] = {}
    for path in glob.iglob("/proc/[0-9]*/fd/*") if wanted else ():
        try:
            target = os.readlink(path)
            if target in wanted:
                with open(f"{path.rpartition('/fd/')[0]}/comm", encoding="utf-8", errors="replace") as handle:
                    found.setdefault(wanted[target], handle.read().strip())
        except OSError:
            continue  # it has ended meanwhile
    return found


def judge(
    vips: Sequence[Vip],
    listeners: Sequence[Listener],
    in_service: bool = True,
    names: Callable[[Iterable[str]], Mapping[str, str]] = owners,
) -> Iterator[Finding]:
    """Services of the VIPs that nobody serves here."""
    by_port: dict[tuple[str, int], list[Listener]] = {}
    for listener in listeners:
        by_port.setdefault((listener.protocol, listener.port), []).append(listener)
    absent: dict[str, list[IPAddress]] = {}
    aside: dict[tuple[str, tuple[Listener, ...]], list[IPAddress]] = {}
    served, unknown = [], []
    for vip in vips:
        if not vip.ports or vip.protocol not in _KNOWN:
            unknown.append(vip.name)
            continue
        for low, high in vip.ports:
            there = [
                listener for port in _ports(low, high, by_port) for listener in by_port.get((vip.protocol, port), ())
            ]
            # Of a range, one port that is served is enough to tell that the service is there.
            service = f"{vip.protocol} {low if low == high else f'{low}-{high}'}"
            near = tuple(listener for listener in there if listener.address.version == vip.address.version)
            if any(listener.takes(vip.address) for listener in there):
                served.append(service)
            elif near and low == high:
                aside.setdefault((service, near), []).append(vip.address)
            else:
                absent.setdefault(service, []).append(vip.address)
    for (service, near), addresses in aside.items():
        programs = names([listener.inode for listener in near])
        places = (
            f"{listener.address}{f' ({programs[listener.inode]})' if listener.inode in programs else ''}"
            for listener in near
        )
        yield Finding(
            CHECK,
            serious(in_service),
            f"{service} is served at {listed(places)} only, not at the VIP {listed(addresses)}",
            "have the service listen at the VIP or at all addresses (0.0.0.0, ::)",
        )
    for service, addresses in absent.items():
        yield Finding(
            CHECK,
            WARNING,
            f"nobody listens at {service} of {listed(addresses)}",
            "install and start the service (a container's port that goes by NAT is not seen here)",
        )
    if unknown:
        yield Finding(CHECK, UNTESTED, f"{listed(unknown)}: takes all ports, or is neither TCP nor UDP")
    if served:
        yield Finding(CHECK, OK, f"somebody listens at {listed(served)}")


def _ports(low: int, high: int, by_port: Mapping[tuple[str, int], object]) -> Iterable[int]:
    if high - low < 64:
        return range(low, high + 1)
    return sorted({port for _protocol, port in by_port if low <= port <= high})
