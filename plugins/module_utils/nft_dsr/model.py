# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a user may ask of a load balancer: virtual IPs and their backends, checked and normalised.

Nothing here looks at the host. Every error names the place in the user's data.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Optional

from ..common.errors import ConfigError

HASH_SCHEDULERS = ("source_hash", "connection_hash")
TURN_SCHEDULERS = ("round_robin", "weighted_round_robin")
SCHEDULERS = HASH_SCHEDULERS + TURN_SCHEDULERS
PROTOCOLS = ("tcp", "udp")
BACKEND_STATES = ("up", "drain", "down")
MAX_WEIGHT = 65535
MAX_BACKENDS = 1024

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,30}\Z")
_BACKEND_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}\Z")
_INTERFACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}\Z")
_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?\Z")
_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}\Z")

VIP_OPTIONS = (
    "name",
    "address",
    "interface",
    "backend_interface",
    "protocol",
    "ports",
    "scheduler",
    "backends",
    "require_mac",
)
BACKEND_OPTIONS = ("address", "name", "mac", "weight", "state")


@dataclass(frozen=True, order=True)
class Ports:
    """A port (``first`` equals ``last``) or a range of ports, both ends included."""

    first: int
    last: int

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"

    def overlaps(self, other: Ports) -> bool:
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True)
class Backend:
    """One server of a pool. ``mac`` is what the user pinned, or None to have it resolved."""

    address: ipaddress.IPv4Address
    name: str = ""
    mac: Optional[str] = None
    weight: int = 1
    state: str = "up"

    @property
    def draining(self) -> bool:
        """It keeps the flows that it has and gets no new ones."""
        return self.state == "drain" or (self.state == "up" and self.weight == 0)

    @property
    def down(self) -> bool:
        return self.state == "down"

    @property
    def label(self) -> str:
        return f"{self.address} ({self.name})" if self.name else str(self.address)

    @property
    def mark(self) -> int:
        """The number that stands for this backend in the kernel's maps: its IPv4 address.

        It never names another backend, so a flow entry can outlive the backend that it names.
        """
        return int(self.address)

    def options(self) -> dict[str, Any]:
        return {
            "address": str(self.address),
            "name": self.name,
            "mac": self.mac,
            "weight": self.weight,
            "state": self.state,
        }


@dataclass(frozen=True)
class Vip:
    """One virtual IP: where its packets are caught and how they are spread."""

    name: str
    address: ipaddress.IPv4Address
    interface: Optional[str] = None
    backend_interface: Optional[str] = None
    protocol: str = "tcp"
    ports: tuple[Ports, ...] = ()  # none: all ports of the protocol
    scheduler: str = "source_hash"
    backends: tuple[Backend, ...] = ()
    require_mac: bool = True

    @property
    def hashed(self) -> bool:
        """Scheduled by hash: no state is needed, except while a backend drains."""
        return self.scheduler in HASH_SCHEDULERS

    @property
    def draining(self) -> frozenset[ipaddress.IPv4Address]:
        return frozenset(backend.address for backend in self.backends if backend.draining)

    def table_weight(self, backend: Backend) -> int:
        """The weight of a backend in the slot tables; where 0 means drain, that of its share before."""
        return max(1, backend.weight)

    def options(self) -> dict[str, Any]:
        """The normalised options, as modules return them and the desired state holds them."""
        return {
            "name": self.name,
            "address": str(self.address),
            "interface": self.interface,
            "backend_interface": self.backend_interface,
            "protocol": self.protocol,
            "ports": [str(ports) for ports in self.ports] or None,
            "scheduler": self.scheduler,
            "backends": [backend.options() for backend in self.backends],
            "require_mac": self.require_mac,
        }


def _mapping(value: Any, path: str, known: Sequence[str]) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(path, f"must be a dictionary of options, not {value!r}")
    for key in value:
        if key not in known:
            raise ConfigError(f"{path}.{key}" if path else str(key), f"unknown option; there are: {', '.join(known)}")
    return value


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def parse_name(value: Any, path: str) -> str:
    """The name of a VIP, checked."""
    if value in (None, ""):  # Ansible makes "" of a required option that is null
        raise ConfigError(path, "is missing; every VIP needs a name")
    if not isinstance(value, str) or not _NAME.match(value):
        raise ConfigError(
            path,
            f"{value!r} is not a name of a VIP; use 1 to 31 lower-case letters, digits, '-' and '_', "
            "a letter or digit first",
        )
    return value


def parse_address(value: Any, path: str) -> ipaddress.IPv4Address:
    """An IPv4 address that can be a VIP or a backend."""
    text = str(value) if isinstance(value, (str, ipaddress.IPv4Address)) else None
    if text is None:
        raise ConfigError(path, f"{value!r} is not an IP address; write it as a string")
    if "/" in text:
        raise ConfigError(path, f"{text!r} has a prefix length; give the address alone")
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise ConfigError(path, f"{text!r} is not an IP address; write it as '192.0.2.10'") from None
    if isinstance(address, ipaddress.IPv6Address):
        raise ConfigError(path, f"{text} is an IPv6 address; this version balances IPv4 only")
    if address.is_unspecified or int(address) >> 24 == 0:
        raise ConfigError(path, f"{text} is in 0.0.0.0/8, which no host can use; give a unicast address")
    if address.is_loopback:
        raise ConfigError(path, f"{text} is a loopback address, which never leaves a host; give a unicast address")
    if address.is_multicast:
        raise ConfigError(path, f"{text} is a multicast address; give a unicast address")
    if address.is_link_local:
        raise ConfigError(path, f"{text} is a link-local address; give another unicast address")
    if int(address) >> 28 == 0xF:
        raise ConfigError(path, f"{text} is a broadcast or reserved address; give a unicast address")
    return address


def parse_mac(value: Any, path: str) -> str:
    """A MAC address of one host, in lower case with colons."""
    text = str(value).lower().replace("-", ":") if isinstance(value, str) else ""
    if not _MAC.match(text):
        raise ConfigError(path, f"{value!r} is not a MAC address; write it as '02:00:00:00:00:01'")
    if text == "00:00:00:00:00:00":
        raise ConfigError(path, "the zero MAC address belongs to no host; leave 'mac' out to have it resolved")
    if int(text[:2], 16) & 1:
        raise ConfigError(path, f"{text} is a multicast or broadcast MAC address; a backend has a unicast one")
    return text


def parse_interface(value: Any, path: str) -> str:
    """The name of a network interface, checked for its form only."""
    if not isinstance(value, str) or not _INTERFACE.match(value):
        raise ConfigError(
            path, f"{value!r} is not a name of a network interface (letters, digits, '.', '_', '-'; 15 at most)"
        )
    return value


def _parse_integer(value: Any, path: str, lowest: int, highest: int) -> int:
    text = str(value).strip() if isinstance(value, (int, str)) and not isinstance(value, bool) else ""
    if not re.match(r"-?\d{1,10}\Z", text):
        raise ConfigError(path, f"{value!r} is not a whole number; use {lowest} to {highest}")
    number = int(text)
    if not lowest <= number <= highest:
        raise ConfigError(path, f"{number} is out of range; use {lowest} to {highest}")
    return number


def _parse_choice(value: Any, path: str, choices: Sequence[str]) -> str:
    if not isinstance(value, str) or value not in choices:
        raise ConfigError(path, f"{value!r} is not known; choose one of: {', '.join(choices)}")
    return value


def _parse_boolean(value: Any, path: str) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).lower()
    if text in ("true", "yes", "on", "1"):
        return True
    if text in ("false", "no", "off", "0"):
        return False
    raise ConfigError(path, f"{value!r} is neither true nor false")


def _parse_ports(value: Any, path: str) -> tuple[Ports, ...]:
    if value is None:
        return ()
    if isinstance(value, (str, int)) and not isinstance(value, bool):
        value = [part.strip() for part in str(value).split(",")]
    if not isinstance(value, (list, tuple)):
        raise ConfigError(path, f"{value!r} is not a list of ports; write ['80', '8000-8100']")
    if not value:
        raise ConfigError(path, "the list is empty; name a port, or leave 'ports' out for all ports of the protocol")
    found: list[Ports] = []
    for index, item in enumerate(value):
        place = f"{path}[{index}]"
        match = _PORT.match(str(item)) if isinstance(item, (str, int)) and not isinstance(item, bool) else None
        if match is None:
            raise ConfigError(place, f"{item!r} is not a port; write '80' or '8000-8100'")
        first, last = int(match[1]), int(match[2] or match[1])
        for number in (first, last):
            if not 1 <= number <= 65535:
                raise ConfigError(place, f"port {number} is out of range; use 1 to 65535")
        if first > last:
            raise ConfigError(place, f"the range {item} ends before it starts; write '{last}-{first}'")
        ports = Ports(first, last)
        for other in found:
            if ports.overlaps(other):
                raise ConfigError(place, f"{ports} overlaps {other} of the same list; name each port once")
        found.append(ports)
    return tuple(sorted(found))


def _parse_backend(value: Any, path: str) -> Backend:
    options = _mapping(value, path, BACKEND_OPTIONS)
    if options.get("address") in (None, ""):
        raise ConfigError(_join(path, "address"), "is missing; every backend needs its address")
    address = parse_address(options["address"], _join(path, "address"))
    name = options.get("name") or ""
    if name and (not isinstance(name, str) or not _BACKEND_NAME.match(name)):
        raise ConfigError(
            _join(path, "name"),
            f"{name!r} is not a name of a backend; use letters, digits, '.', '-' and '_', a letter or digit first, "
            "63 at most",
        )
    mac = options.get("mac")
    weight = options.get("weight")
    state = options.get("state")
    return Backend(
        address=address,
        name=name,
        mac=None if mac is None or mac == "" else parse_mac(mac, _join(path, "mac")),
        weight=1 if weight is None else _parse_integer(weight, _join(path, "weight"), 0, MAX_WEIGHT),
        state="up" if state is None else _parse_choice(state, _join(path, "state"), BACKEND_STATES),
    )


def _parse_backends(value: Any, path: str) -> tuple[Backend, ...]:
    if value is None:
        raise ConfigError(path, "is missing; list every backend of the VIP")
    if not isinstance(value, (list, tuple)):
        raise ConfigError(path, f"{value!r} is not a list of backends")
    if not value:
        raise ConfigError(path, "the list is empty; a VIP needs at least one backend")
    if len(value) > MAX_BACKENDS:
        raise ConfigError(path, f"{len(value)} backends are too many; a VIP takes {MAX_BACKENDS}")
    backends: list[Backend] = []
    addresses: dict[ipaddress.IPv4Address, int] = {}
    names: dict[str, int] = {}
    for index, item in enumerate(value):
        place = f"{path}[{index}]"
        backend = _parse_backend(item, place)
        if backend.address in addresses:
            raise ConfigError(
                f"{place}.address",
                f"{backend.address} is a backend already ({path}[{addresses[backend.address]}]); "
                "for a larger share give it a weight",
            )
        if backend.name and backend.name in names:
            raise ConfigError(
                f"{place}.name",
                f"{backend.name!r} is the name of {path}[{names[backend.name]}] already; give each its own",
            )
        addresses[backend.address] = index
        if backend.name:
            names[backend.name] = index
        backends.append(backend)
    return tuple(backends)


def _check_weights(vip: Vip, path: str) -> None:
    weights = {backend.weight for backend in vip.backends}
    for index, backend in enumerate(vip.backends):
        place = _join(path, f"backends[{index}].weight")
        if vip.scheduler == "round_robin" and backend.weight > 1:
            raise ConfigError(
                place,
                f"the scheduler round_robin knows no weights but 0 and 1, and {backend.weight} would have no effect; "
                "use weighted_round_robin",
            )
        if vip.hashed and backend.weight == 0 and weights - {0, 1}:
            raise ConfigError(
                place,
                "with a hash scheduler and different weights, 0 would forget the share that this backend has; "
                "keep its weight and set 'state: drain'",
            )


def parse_vip(value: Any, path: str) -> Vip:
    """One VIP from a user's dictionary. ``path`` is where it stands, '' for a module's own options."""
    options = _mapping(value, path, VIP_OPTIONS)
    name = parse_name(options.get("name"), _join(path, "name"))
    if options.get("address") in (None, ""):
        raise ConfigError(_join(path, "address"), "is missing; a VIP needs its address")
    address = parse_address(options["address"], _join(path, "address"))

    def optional_interface(key: str) -> Optional[str]:
        text = options.get(key)
        return None if text is None or text == "" else parse_interface(text, _join(path, key))

    protocol = options.get("protocol")
    scheduler = options.get("scheduler")
    require_mac = options.get("require_mac")
    vip = Vip(
        name=name,
        address=address,
        interface=optional_interface("interface"),
        backend_interface=optional_interface("backend_interface"),
        protocol="tcp" if protocol is None else _parse_choice(protocol, _join(path, "protocol"), PROTOCOLS),
        ports=_parse_ports(options.get("ports"), _join(path, "ports")),
        scheduler="source_hash"
        if scheduler is None
        else _parse_choice(scheduler, _join(path, "scheduler"), SCHEDULERS),
        backends=_parse_backends(options.get("backends"), _join(path, "backends")),
        require_mac=True if require_mac is None else _parse_boolean(require_mac, _join(path, "require_mac")),
    )
    for index, backend in enumerate(vip.backends):
        if backend.address == address:
            raise ConfigError(
                _join(path, f"backends[{index}].address"),
                f"{address} is the VIP itself; give the backend's own address",
            )
    _check_weights(vip, path)
    return vip


def parse_vips(value: Any, path: str = "vips") -> tuple[Vip, ...]:
    """A list of VIPs, each checked and all checked against each other."""
    if value is None:
        raise ConfigError(path, "is missing; list the VIPs")
    if not isinstance(value, (list, tuple)):
        raise ConfigError(path, f"{value!r} is not a list of VIPs")
    vips = tuple(parse_vip(item, f"{path}[{index}]") for index, item in enumerate(value))
    check_together(vips, [f"{path}[{index}]" for index in range(len(vips))])
    return vips


def check_together(vips: Sequence[Vip], places: Sequence[str]) -> None:
    """Raise a ConfigError where two VIPs have one name or claim the same packets."""
    names: dict[str, str] = {}
    addresses: dict[ipaddress.IPv4Address, str] = {}
    pools: dict[ipaddress.IPv4Address, str] = {}
    services: dict[tuple[ipaddress.IPv4Address, str], list[tuple[Vip, str]]] = {}
    for vip, place in zip(vips, places):
        if vip.name in names:
            raise ConfigError(
                _join(place, "name"), f"{vip.name!r} is the name of {names[vip.name]} already; give each its own"
            )
        names[vip.name] = place
        if vip.address in pools:
            raise ConfigError(
                _join(place, "address"),
                f"{vip.address} is a backend of the VIP {pools[vip.address]!r}; give the VIP an address of its own",
            )
        for index, backend in enumerate(vip.backends):
            if backend.address in addresses:
                raise ConfigError(
                    _join(place, f"backends[{index}].address"),
                    f"{backend.address} is the address of the VIP {addresses[backend.address]!r}; "
                    "give the backend's own address",
                )
            pools.setdefault(backend.address, vip.name)
        addresses.setdefault(vip.address, vip.name)
        beside = services.setdefault((vip.address, vip.protocol), [])
        for other, other_place in beside:
            clash = _clash(vip, other)
            if clash:
                raise ConfigError(
                    _join(place, "ports"),
                    f"{vip.address} {vip.protocol} {clash} belongs to the VIP {other.name!r} ({other_place}) already; "
                    "give each its own ports, or another address",
                )
        beside.append((vip, place))


def _clash(vip: Vip, other: Vip) -> str:
    if not vip.ports or not other.ports:
        return "(all ports)"
    for mine in vip.ports:
        for theirs in other.ports:
            if mine.overlaps(theirs):
                return f"port {Ports(max(mine.first, theirs.first), min(mine.last, theirs.last))}"
    return ""


def find_backends(vips: Iterable[Vip], wanted: str) -> dict[str, ipaddress.IPv4Address]:
    """Which VIPs have a backend of this address or name: VIP name to the backend's address."""
    return {
        vip.name: backend.address
        for vip in vips
        for backend in vip.backends
        if wanted in (str(backend.address), backend.name)
    }


def with_drained(vip: Vip, addresses: Iterable[ipaddress.IPv4Address]) -> Vip:
    """The VIP with these backends draining, as an operator asked; one that is down stays down."""
    drained = frozenset(addresses)
    return replace(
        vip,
        backends=tuple(
            replace(backend, state="drain") if backend.address in drained and backend.state == "up" else backend
            for backend in vip.backends
        ),
    )
