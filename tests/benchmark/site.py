# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands on the bridge, whatever is measured on it, and the addresses that all of it has."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from types import TracebackType
from typing import Optional, TypeVar

from lab import Host, Lab, unused_name
from lab.modules import ModuleRunner

from .tools import Tools

FIRST_BALANCER = 10  # in the network of each family
_SOURCES = 4096  # addresses of clients, at most
PORT = 80
BACKENDS = 256  # as many NICs' addresses are known to the bridge
SYN, ACK = 0x02, 0x10


@dataclass(frozen=True)
class Addresses:
    """Where everybody is in one family; all but the clients on one network."""

    network: str
    first_vip: str
    first_backend: str
    first_source: str

    def host(self, number: int) -> str:
        return str(ipaddress.ip_network(self.network)[number])

    @property
    def prefix(self) -> int:
        return ipaddress.ip_network(self.network).prefixlen


ADDRESSES = {
    4: Addresses("10.77.0.0/16", "10.77.64.1", "10.77.1.1", "198.18.0.1"),
    6: Addresses("fd77::/64", "fd77::64:0", "fd77::1:0", "2001:db8::1"),
}


@dataclass(frozen=True)
class Scene:
    """What is balanced, and what is sent."""

    protocol: str = "tcp"
    family: int = 4
    vips: int = 1
    backends: int = 8
    flows: int = 1000
    length: int = 60  # of a frame
    opening: bool = False  # measure the packets that begin flows, not those that follow
    skip: int = 0  # addresses before the first VIP

    def _after(self, first: str, number: int) -> str:
        return str(ipaddress.ip_address(first) + number)

    def vip(self, number: int) -> str:
        return self._after(ADDRESSES[self.family].first_vip, self.skip + number)

    def backend(self, number: int) -> str:
        return self._after(ADDRESSES[self.family].first_backend, number)

    def mac(self, number: int) -> str:
        return backend_mac(number)

    @property
    def flags(self) -> int:
        return SYN if self.opening else ACK

    @property
    def command(self) -> str:
        """What makes its frames, but for the number of the set."""
        there = ADDRESSES[self.family]
        return (
            f"{self.protocol} {self.vip(0)} {self.vips} {PORT} {self.flows} {there.first_source} "
            f"{min(self.flows, _SOURCES)} {self.length}"
        )


def backend_mac(number: int) -> str:
    return f"02:d5:01:00:{number // 256:02x}:{number % 256:02x}"


_Self = TypeVar("_Self", bound="Site")


class Site:
    """A lab on which load balancers can be put. As a context manager it is taken down at the end."""

    def __init__(self, tools: Tools, runner: ModuleRunner) -> None:
        self.tools = tools
        self.runner = runner
        self.lab = Lab(unused_name(), shown=runner.shown)
        self._balancers = 0

    def __enter__(self: _Self) -> _Self:
        try:
            self.lab.up()
            self.build()
        except BaseException:
            self.lab.down()
            raise
        return self

    def __exit__(self, kind: Optional[type[BaseException]], error: object, trace: Optional[TracebackType]) -> None:
        self.lab.down()

    def build(self) -> None:
        """Put everything there but load balancers."""

    def add_host(self, name: str, number: int, mac: Optional[str] = None) -> Host:
        four, six = ADDRESSES[4], ADDRESSES[6]
        return self.lab.add_host(
            name, four.host(number), four.prefix, mac=mac, address6=six.host(number), prefix6=six.prefix
        )

    def add_balancer(self) -> tuple[str, Host]:
        """A load balancer on which nothing is configured; its name and itself."""
        name = f"p{self._balancers}"
        self._balancers += 1
        return name, self.add_host(name, FIRST_BALANCER + self._balancers)
