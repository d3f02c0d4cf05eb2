# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What to probe: the options of dsr_probe and dsr_neighbour_info, validated. Does no I/O."""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Optional

from ..common.errors import ConfigError
from ..common.iproute import IPAddress
from ..common.packet import is_station, mac_to_bytes, mac_to_text

MAX_CONNECTIONS = 10000
# Fits one frame on any NIC, so that what is probed is one packet and not the way of fragments.
MAX_PAYLOAD = 1400
UDP_PAYLOAD = "dsr-probe"
MAX_HOLD = 86400.0
# Above this, a slow host would tell of gaps that are its own.
MAX_QUESTIONS_PER_SECOND = 5000


@dataclass(frozen=True)
class Request:
    """A probe to be made. MACs are in lower case with colons.

    With ``hold`` above 0, connections are kept for that many seconds, and asked every ``interval`` seconds.
    """

    address: IPAddress
    port: int
    protocol: str
    connections: int
    timeout: float
    interface: Optional[str]
    expect_direct: bool
    lb_mac: Optional[str]
    through: Optional[str]
    payload: bytes
    hold: float = 0.0
    interval: float = 0.2
    max_broken: int = 0
    max_moved: int = 0

    @property
    def target(self) -> str:
        address = str(self.address) if self.address.version == 4 else f"[{self.address}]"
        return f"{address}:{self.port}/{self.protocol}"


def parse(options: Mapping[str, Any]) -> Request:
    """The request that a module's options make. ConfigError names the option that is wrong."""
    protocol = options["protocol"]
    through = _mac("through", options["through"])
    payload = options["payload"]
    if through and protocol == "tcp" and payload is not None:
        raise ConfigError(
            "payload", "is not sent with protocol 'tcp' and 'through', which end at the handshake; omit it"
        )
    if payload is None:
        payload = UDP_PAYLOAD if protocol == "udp" else ""
    data = payload.encode("utf-8", "surrogateescape")
    if len(data) > MAX_PAYLOAD:
        raise ConfigError("payload", f"is {len(data)} bytes long; {MAX_PAYLOAD} are allowed")
    address = unicast("address", options["address"])
    if address.version == 6 and address.is_link_local:
        raise ConfigError("address", f"'{address}' is a link-local address; a VIP is one that clients can route to")
    connections = _within("connections", options["connections"], MAX_CONNECTIONS)
    hold, interval = _hold(options, connections, asks=bool(data) or protocol == "udp")
    return Request(
        address=address,
        port=_within("port", options["port"], 65535),
        protocol=protocol,
        connections=connections,
        timeout=seconds("timeout", options["timeout"]),
        interface=options["interface"],
        expect_direct=options["expect_direct"],
        lb_mac=_mac("lb_mac", options["lb_mac"]),
        through=through,
        payload=data,
        hold=hold,
        interval=interval,
        max_broken=_within("max_broken", options["max_broken"], MAX_CONNECTIONS, least=0),
        max_moved=_within("max_moved", options["max_moved"], MAX_CONNECTIONS, least=0),
    )


def _hold(options: Mapping[str, Any], connections: int, asks: bool) -> tuple[float, float]:
    """How long to keep connections, and how often each is asked. ``asks`` is false where keepalives do that."""
    hold = options["hold"]
    if hold == 0:
        return 0.0, seconds("interval", options["interval"])
    seconds("hold", hold, MAX_HOLD)
    interval = seconds("interval", options["interval"])
    if options["through"]:
        raise ConfigError(
            "hold", "is for connections by way of the load balancer, which 'through' goes around; omit one of them"
        )
    rate = connections / interval
    if asks and rate > MAX_QUESTIONS_PER_SECOND:
        raise ConfigError(
            "interval",
            f"{interval:g} s with {connections} connections makes {rate:.0f} questions a second, and"
            f" {MAX_QUESTIONS_PER_SECOND} are allowed; ask each less often, or keep fewer connections",
        )
    return hold, interval


def unicast(option: str, text: str) -> IPAddress:
    """An address that one host of a segment can hold."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        hint = "; give it without a prefix length" if "/" in text else ""
        raise ConfigError(option, f"'{text}' is not an IP address{hint}") from None
    if "%" in text:
        raise ConfigError(option, f"'{text}' names a zone; give the address alone, and the NIC in 'interface'")
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        raise ConfigError(option, f"'{text}' is an IPv4 address in IPv6 notation; write {address.ipv4_mapped}")
    kinds = (
        (address.is_unspecified, "the unspecified address"),
        (address.is_loopback, "a loopback address"),
        (address.is_multicast, "a multicast address"),
        (address.version == 4 and address in _RESERVED, "a reserved or broadcast address"),
        (address.version == 4 and address in _THIS_NETWORK, "in 0.0.0.0/8, which no host can hold"),
    )
    for wrong, kind in kinds:
        if wrong:
            raise ConfigError(option, f"'{text}' is {kind}; give the unicast address of a host or VIP")
    return address


_RESERVED = ipaddress.IPv4Network("240.0.0.0/4")
_THIS_NETWORK = ipaddress.IPv4Network("0.0.0.0/8")


def seconds(option: str, value: float, most: float = 3600.0) -> float:
    """A time above zero; ``nan`` and ``inf`` are no times."""
    if not math.isfinite(value) or not 0 < value <= most:
        raise ConfigError(option, f"{value:g} is not a number of seconds above 0 and up to {most:g}")
    return value


def _within(option: str, value: int, most: int, least: int = 1) -> int:
    if not least <= value <= most:
        raise ConfigError(option, f"{value} is not a number from {least} to {most}")
    return value


def attempts(option: str, value: int) -> int:
    """How often to ask."""
    return _within(option, value, 100)


def _mac(option: str, text: Optional[str]) -> Optional[str]:
    if text is None:
        return None
    try:
        mac = mac_to_bytes(text)
    except ValueError as error:
        raise ConfigError(option, f"{error}; write it as in 52:54:00:12:34:56") from None
    if not is_station(mac):
        kind = "all zeros" if not any(mac) else "a group (multicast or broadcast) address"
        raise ConfigError(option, f"'{text}' is {kind}, not the MAC of one NIC")
    return mac_to_text(mac)
