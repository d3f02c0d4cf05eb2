# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is connected to a virtual IP on this host, as the kernel lists its sockets in /proc/net/tcp and tcp6. Pure.

A load balancer that goes by a hash keeps no record of connections, so the backend is the only one who knows them.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Any, NamedTuple, Union

IPAddress = Union[IPv4Address, IPv6Address]

_FIN_WAIT2, _TIME_WAIT, _CLOSE, _LISTEN = 0x05, 0x06, 0x07, 0x0A
_SHOWN = 5  # clients of a VIP that are named
# Columns of a line
_LOCAL, _REMOTE, _STATE, _INODE = 1, 2, 3, 9


class Connection(NamedTuple):
    """One that is not over yet."""

    local: IPAddress
    remote: IPAddress


@dataclass(frozen=True)
class Remaining:
    """The connections to a VIP, and who has the most of them."""

    address: IPAddress
    connections: int
    clients: tuple[tuple[IPAddress, int], ...]

    def document(self) -> dict[str, Any]:
        """As a module returns it."""
        return {
            "address": str(self.address),
            "connections": self.connections,
            "clients": [{"address": str(client), "connections": number} for client, number in self.clients],
        }


def connections(lines: Iterable[str]) -> Iterator[Connection]:
    """Those of a list of the kernel's; what is no line of a socket, as the head, is left out."""
    for line in lines:
        fields = line.split()
        if len(fields) <= _INODE or ":" not in fields[_LOCAL]:
            continue
        try:
            state, owned = int(fields[_STATE], 16), fields[_INODE] != "0"
            if _over(state, owned):
                continue
            yield Connection(_address(fields[_LOCAL]), _address(fields[_REMOTE]))
        except ValueError:
            continue


def _over(state: int, owned: bool) -> bool:
    """Nobody waits for anything any more. With FIN_WAIT2 the client has all it was sent; who let go of the socket has
    no use for more."""
    return state in (_TIME_WAIT, _CLOSE, _LISTEN) or (state == _FIN_WAIT2 and not owned)


def _address(field: str) -> IPAddress:
    """The kernel writes words of 32 bits as numbers of this host's. IPv4 on a socket for both is IPv4 here."""
    raw = bytes.fromhex(field.partition(":")[0])
    if sys.byteorder == "little":
        raw = b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4))
    if len(raw) == 4:
        return IPv4Address(raw)
    address = IPv6Address(raw)
    return address.ipv4_mapped or address


def remaining(
    found: Iterable[Connection], vips: Iterable[IPAddress], ignored: Collection[IPAddress] = ()
) -> list[Remaining]:
    """The connections to each of the VIPs, but for those from ``ignored``."""
    clients: dict[IPAddress, Counter[IPAddress]] = {vip: Counter() for vip in vips}
    for local, remote in found:
        if local in clients and remote not in ignored:
            clients[local][remote] += 1
    return [
        Remaining(vip, sum(counted.values()), tuple(counted.most_common(_SHOWN))) for vip, counted in clients.items()
    ]
