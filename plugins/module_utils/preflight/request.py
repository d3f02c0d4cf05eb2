# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the preflight of a host is asked: the options of dsr_preflight_info, checked. Does no I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Optional

from ..common.errors import ConfigError
from ..common.iproute import IPAddress
from ..common.packet import is_station, mac_to_bytes, mac_to_text

LOAD_BALANCER, BACKEND, CLIENT = "load_balancer", "backend", "client"
_LONGEST = 60.0


@dataclass(frozen=True)
class Vip:
    """A service: who sends to what. ``ports``: ranges, none for all ports."""

    name: str
    address: IPAddress
    protocol: str = "tcp"
    ports: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Backend:
    """A backend of a pool. Out of service: drained, down, or without weight."""

    address: IPAddress
    name: str = ""
    mac: str = ""
    in_service: bool = True

    @property
    def label(self) -> str:
        return f"{self.name} ({self.address})" if self.name else str(self.address)


@dataclass(frozen=True)
class Pool:
    """VIPs that have the same backends, through the same NICs ('' where the host finds the NIC itself)."""

    vips: tuple[Vip, ...]
    backends: tuple[Backend, ...]
    interface: str = ""
    backend_interface: str = ""

    @property
    def in_service(self) -> bool:
        return not self.backends or any(backend.in_service for backend in self.backends)


@dataclass(frozen=True)
class Request:
    """The whole question to one host."""

    end: str
    pools: tuple[Pool, ...]
    clients: tuple[IPAddress, ...] = ()
    ask: bool = True
    timeout: float = 1.0
    sysctl_file: str = ""
    installs: bool = True

    @property
    def vips(self) -> list[Vip]:
        return [vip for pool in self.pools for vip in pool.vips]

    @property
    def addresses(self) -> list[IPAddress]:
        """The addresses of the VIPs, each once."""
        return list(dict.fromkeys(vip.address for vip in self.vips))

    @property
    def backends(self) -> list[Backend]:
        """All backends, each once; in service where it is for any VIP."""
        found: dict[IPAddress, Backend] = {}
        for pool in self.pools:
            for backend in pool.backends:
                if backend.in_service or backend.address not in found:
                    found[backend.address] = backend
        return list(found.values())

    @property
    def in_service(self) -> bool:
        return any(pool.in_service for pool in self.pools)


def parse(options: Mapping[str, Any]) -> Request:
    """The question that a module's options make. ConfigError names the option that is wrong."""
    timeout = float(options["timeout"])
    if not 0 < timeout <= _LONGEST:
        raise ConfigError("timeout", f"is {timeout:g}; use seconds above 0, up to {_LONGEST:g}")
    return Request(
        end=options["end"],
        pools=tuple(_pool(pool, f"pools[{index}]") for index, pool in enumerate(options["pools"] or ())),
        clients=tuple(_address(text, f"clients[{index}]") for index, text in enumerate(options["clients"] or ())),
        ask=options["ask"],
        timeout=timeout,
        sysctl_file=options["sysctl_file"],
        installs=options["installs"],
    )


def _pool(pool: Mapping[str, Any], place: str) -> Pool:
    return Pool(
        vips=tuple(_vip(vip, f"{place}.vips[{index}]") for index, vip in enumerate(pool["vips"] or ())),
        backends=tuple(
            _backend(backend, f"{place}.backends[{index}]") for index, backend in enumerate(pool.get("backends") or ())
        ),
        interface=pool.get("interface") or "",
        backend_interface=pool.get("backend_interface") or "",
    )


def _vip(vip: Mapping[str, Any], place: str) -> Vip:
    return Vip(
        name=str(vip.get("name") or vip["address"]),
        address=_address(vip["address"], f"{place}.address"),
        protocol=vip.get("protocol") or "tcp",
        ports=tuple(_ports(vip.get("ports") or (), f"{place}.ports")),
    )


def _ports(ports: Sequence[object], place: str) -> Iterator[tuple[int, int]]:
    for index, text in enumerate(ports):
        first, dash, last = str(text).partition("-")
        try:
            low, high = int(first), int(last if dash else first)
        except ValueError:
            low = high = 0
        if not 1 <= low <= high <= 65535:
            raise ConfigError(
                f"{place}[{index}]", f"{text!r} is no port and no range of ports, such as 80 or 8000-8100"
            )
        yield low, high


def _backend(backend: Mapping[str, Any], place: str) -> Backend:
    return Backend(
        address=_address(backend["address"], f"{place}.address"),
        name=str(backend.get("name") or ""),
        mac=_mac(backend.get("mac"), f"{place}.mac"),
        in_service=backend.get("in_service") is not False,
    )


def _address(text: object, place: str) -> IPAddress:
    try:
        return ip_address(str(text))
    except ValueError:
        raise ConfigError(place, f"{text!r} is not an IP address; give it without a prefix length") from None


def _mac(text: Optional[str], place: str) -> str:
    try:
        mac = mac_to_bytes(str(text)) if text else b""
    except ValueError:
        mac = b"\xff"
    if mac and not is_station(mac):
        raise ConfigError(place, f"{text!r} is not the MAC address of a host")
    return mac_to_text(mac) if mac else ""
