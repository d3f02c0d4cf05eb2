# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a user may ask of a load balancer: virtual IPs and their backends, checked and normalised.

Nothing here looks at the host. Every error names the place in the user's data.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Callable, Optional, Union

from ..common.errors import ConfigError
from .health_check import HealthCheck, parse_health_check
from .options import join, parse_boolean, parse_choice, parse_integer, parse_mapping

HASH_SCHEDULERS = ("source_hash", "connection_hash")
TURN_SCHEDULERS = ("round_robin", "weighted_round_robin")
LEAST_SCHEDULERS = ("least_connections", "weighted_least_connections")
SCHEDULERS = HASH_SCHEDULERS + TURN_SCHEDULERS + LEAST_SCHEDULERS
PROTOCOLS = ("tcp", "udp", "sctp", "any")
BACKEND_STATES = ("up", "drain", "down")
ON_EMPTY = ("drop", "reject", "local")
MAX_WEIGHT = 65535
MAX_BACKENDS = 1024
MAX_SOURCES = 4096
MAX_TIMEOUT = 604800  # seconds: a week
MAX_FLOWS = 16777216
MAX_RATE = 1000000

# The life times that flows of a protocol have, with their defaults in seconds.
_CONNECTION_TIMEOUTS = {"syn": 60, "established": 900, "closing": 60}
TIMEOUTS = {
    "tcp": _CONNECTION_TIMEOUTS,
    "sctp": _CONNECTION_TIMEOUTS,
    "udp": {"udp": 120},
    "any": {"udp": 120},
}
FLOW_TABLE_SIZE = 1048576

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,30}\Z")
_BACKEND_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}\Z")
_INTERFACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}\Z")
_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?\Z")
_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}\Z")
_RATE = re.compile(r"(\d{1,7})\s*/\s*(second|minute|hour|day)\Z")

IPAddress = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]
IPNetwork = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]

VIP_OPTIONS = (
    "name",
    "address",
    "interface",
    "backend_interface",
    "protocol",
    "ports",
    "scheduler",
    "persistence_timeout",
    "flow_table",
    "backends",
    "require_mac",
    "on_empty",
    "allow_sources",
    "deny_sources",
    "new_flows_per_source",
    "health_check",
)
BACKEND_OPTIONS = ("address", "name", "mac", "weight", "state", "backup")
FLOW_TABLE_OPTIONS = ("size", "timeouts")
TIMEOUT_OPTIONS = ("syn", "established", "closing", "udp")


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

    address: IPAddress
    name: str = ""
    mac: Optional[str] = None
    weight: int = 1
    state: str = "up"
    backup: bool = False

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

    def options(self) -> dict[str, Any]:
        return {
            "address": str(self.address),
            "name": self.name,
            "mac": self.mac,
            "weight": self.weight,
            "state": self.state,
            "backup": self.backup,
        }


@dataclass(frozen=True)
class FlowTable:
    """Where the flows of a VIP are tracked: how many, and how many seconds one that is silent is remembered.

    ``timeouts`` has the life times that the VIP's protocol knows, and no others.
    """

    timeouts: Mapping[str, int]
    size: int = FLOW_TABLE_SIZE

    def options(self) -> dict[str, Any]:
        return {"size": self.size, "timeouts": dict(self.timeouts)}


@dataclass(frozen=True)
class Rate:
    """So many in a second, minute, hour or day."""

    number: int
    unit: str

    def __str__(self) -> str:
        return f"{self.number}/{self.unit}"


@dataclass(frozen=True)
class Vip:
    """One virtual IP: where its packets are caught and how they are spread."""

    name: str
    address: IPAddress
    interface: Optional[str] = None
    backend_interface: Optional[str] = None
    protocol: str = "tcp"
    ports: tuple[Ports, ...] = ()  # none: all ports of the protocol
    scheduler: str = "source_hash"
    persistence_timeout: int = 0  # seconds; 0: none
    flow_table: Optional[FlowTable] = None  # None: the defaults
    backends: tuple[Backend, ...] = ()
    require_mac: bool = True
    on_empty: str = "drop"
    allow_sources: Optional[tuple[IPNetwork, ...]] = None  # None: everybody
    deny_sources: tuple[IPNetwork, ...] = ()
    new_flows_per_source: Optional[Rate] = None
    health_check: Optional[HealthCheck] = None

    @property
    def hashed(self) -> bool:
        """Scheduled by hash, whether or not flows are tracked for another reason."""
        return self.scheduler in HASH_SCHEDULERS

    @property
    def steered(self) -> bool:
        """Its turns are the agent's to give out, by what it counts."""
        return self.scheduler in LEAST_SCHEDULERS

    @property
    def connections(self) -> bool:
        """Its protocol has connections, that begin and end with packets of their own."""
        return self.protocol in ("tcp", "sctp")

    @property
    def tracks(self) -> bool:
        """Its flows are always tracked, not just while a backend drains."""
        return not self.hashed or self.persistence_timeout > 0

    @property
    def flows(self) -> FlowTable:
        """The flow table with defaults filled in."""
        return self.flow_table or FlowTable(TIMEOUTS[self.protocol])

    @property
    def draining(self) -> frozenset[IPAddress]:
        return frozenset(backend.address for backend in self.backends if backend.draining)

    @cached_property
    def marks(self) -> Mapping[IPAddress, int]:
        """The number of 32 bits that stands for each backend in the kernel's maps.

        An IPv4 address is its own number, so a flow entry can outlive the backend that it names and never
        names another. An IPv6 address is hashed; of two in one pool that hash alike, the second takes the
        next number.
        """
        marks: dict[IPAddress, int] = {}
        taken: set[int] = set()
        for address in sorted(backend.address for backend in self.backends):
            mark = _mark_of(address)
            while mark in taken:
                mark = (mark + 1) % (1 << 32)
            taken.add(mark)
            marks[address] = mark
        return marks

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
            "persistence_timeout": self.persistence_timeout,
            "flow_table": self.flows.options(),
            "backends": [backend.options() for backend in self.backends],
            "require_mac": self.require_mac,
            "on_empty": self.on_empty,
            "allow_sources": None if self.allow_sources is None else [str(network) for network in self.allow_sources],
            "deny_sources": [str(network) for network in self.deny_sources] or None,
            "new_flows_per_source": None if self.new_flows_per_source is None else str(self.new_flows_per_source),
            "health_check": None if self.health_check is None else self.health_check.options(),
        }


def _mark_of(address: IPAddress) -> int:
    if address.version == 4:
        return int(address)
    # Never in 240/4, so that no backend's number is one of the marks of health checks.
    number = int.from_bytes(hashlib.shake_128(b"dsr.layer2 backend " + address.packed).digest(4), "big")
    return number if number >> 28 != 0xF else number & 0x7FFFFFFF


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


def parse_address(value: Any, path: str) -> IPAddress:
    """An IP address that can be a VIP or a backend."""
    text = str(value) if isinstance(value, (str, ipaddress.IPv4Address, ipaddress.IPv6Address)) else None
    if text is None:
        raise ConfigError(path, f"{value!r} is not an IP address; write it as a string")
    if "/" in text:
        raise ConfigError(path, f"{text!r} has a prefix length; give the address alone")
    if "%" in text:
        raise ConfigError(path, f"{text!r} has a zone; give the address alone, and its NIC in 'backend_interface'")
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise ConfigError(path, f"{text!r} is not an IP address; write it as '192.0.2.10' or '2001:db8::10'") from None
    if address.is_loopback:
        raise ConfigError(path, f"{text} is a loopback address, which never leaves a host; give a unicast address")
    if address.is_multicast:
        raise ConfigError(path, f"{text} is a multicast address; give a unicast address")
    if isinstance(address, ipaddress.IPv6Address):
        if address.is_unspecified:
            raise ConfigError(path, f"{text} is the unspecified address; give a unicast address")
        if address.ipv4_mapped is not None:
            raise ConfigError(path, f"{text} is a mapped IPv4 address; write it as '{address.ipv4_mapped}'")
        return address
    if int(address) >> 24 == 0:
        raise ConfigError(path, f"{text} is in 0.0.0.0/8, which no host can use; give a unicast address")
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


def _parse_sources(value: Any, path: str, version: int) -> tuple[IPNetwork, ...]:
    """Networks of clients, those that others contain or touch joined."""
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",")]
    if not isinstance(value, (list, tuple)):
        raise ConfigError(path, f"{value!r} is not a list of networks; write ['192.0.2.0/24']")
    if len(value) > MAX_SOURCES:
        raise ConfigError(path, f"{len(value)} networks are too many; a VIP takes {MAX_SOURCES}")
    found: list[Any] = []
    for index, item in enumerate(value):
        place = f"{path}[{index}]"
        # ipaddress takes a zone of any characters, which would come out again in what nft reads.
        text = item.strip() if isinstance(item, str) and "%" not in item else ""
        try:
            network = ipaddress.ip_network(text)
        except ValueError:
            try:
                wider = ipaddress.ip_network(text, strict=False)
            except ValueError:
                raise ConfigError(place, f"{item!r} is not a network; write it as '192.0.2.0/24'") from None
            raise ConfigError(
                place, f"{item} has bits set beyond its prefix length; write '{wider}', or the address alone"
            ) from None
        if network.version != version:
            raise ConfigError(
                place, f"{network} is IPv{network.version} and the VIP is IPv{version}, so it would have no effect"
            )
        found.append(network)
    return tuple(ipaddress.collapse_addresses(found))


def _parse_rate(value: Any, path: str) -> Rate:
    match = _RATE.match(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ConfigError(path, f"{value!r} is not a rate; write it as '100/second' (or minute, hour, day)")
    number = int(match[1])
    if not 1 <= number <= MAX_RATE:
        raise ConfigError(path, f"the rate {number} is out of range; use 1 to {MAX_RATE}")
    return Rate(number, match[2])


def _parse_flow_table(value: Any, path: str, protocol: str) -> FlowTable:
    options = parse_mapping({} if value is None else value, path, FLOW_TABLE_OPTIONS)
    size = options.get("size")
    known = TIMEOUTS[protocol]
    timeouts = dict(known)
    given = options.get("timeouts")
    if given is not None:
        place = join(path, "timeouts")
        for key, seconds in parse_mapping(given, place, TIMEOUT_OPTIONS).items():
            if seconds is None:
                continue
            if key not in known:
                raise ConfigError(
                    join(place, key),
                    f"has no effect with protocol {protocol}, whose life times are: {', '.join(known)}",
                )
            timeouts[key] = parse_integer(seconds, join(place, key), 1, MAX_TIMEOUT)
    return FlowTable(
        timeouts, FLOW_TABLE_SIZE if size is None else parse_integer(size, join(path, "size"), 1, MAX_FLOWS)
    )


def _parse_backend(value: Any, path: str) -> Backend:
    options = parse_mapping(value, path, BACKEND_OPTIONS)
    if options.get("address") in (None, ""):
        raise ConfigError(join(path, "address"), "is missing; every backend needs its address")
    address = parse_address(options["address"], join(path, "address"))
    name = options.get("name") or ""
    if name and (not isinstance(name, str) or not _BACKEND_NAME.match(name)):
        raise ConfigError(
            join(path, "name"),
            f"{name!r} is not a name of a backend; use letters, digits, '.', '-' and '_', a letter or digit first, "
            "63 at most",
        )
    mac = options.get("mac")
    weight = options.get("weight")
    state = options.get("state")
    backup = options.get("backup")
    return Backend(
        address=address,
        name=name,
        mac=None if mac is None or mac == "" else parse_mac(mac, join(path, "mac")),
        weight=1 if weight is None else parse_integer(weight, join(path, "weight"), 0, MAX_WEIGHT),
        state="up" if state is None else parse_choice(state, join(path, "state"), BACKEND_STATES),
        backup=False if backup is None else parse_boolean(backup, join(path, "backup")),
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
    addresses: dict[IPAddress, int] = {}
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
    for index, backend in enumerate(vip.backends):
        place = join(path, f"backends[{index}].weight")
        if vip.scheduler in ("round_robin", "least_connections") and backend.weight > 1:
            raise ConfigError(
                place,
                f"the scheduler {vip.scheduler} knows no weights but 0 and 1, and {backend.weight} would have no "
                f"effect; use weighted_{vip.scheduler}",
            )
        beside = {other.weight for other in vip.backends if other.backup == backend.backup}
        if vip.hashed and backend.weight == 0 and beside - {0, 1}:
            raise ConfigError(
                place,
                "with a hash scheduler and different weights, 0 would forget the share that this backend has; "
                "keep its weight and set 'state: drain'",
            )


def _check_backends(vip: Vip, path: str) -> None:
    for index, backend in enumerate(vip.backends):
        place = join(path, f"backends[{index}].address")
        if backend.address == vip.address:
            raise ConfigError(place, f"{vip.address} is the VIP itself; give the backend's own address")
        if backend.address.version != vip.address.version:
            raise ConfigError(
                place,
                f"{backend.address} is IPv{backend.address.version} and the VIP is IPv{vip.address.version}; "
                f"give the backend's IPv{vip.address.version} address",
            )
        if backend.address.is_link_local and vip.backend_interface is None:
            raise ConfigError(place, f"{backend.address} is a link-local address; name its NIC in 'backend_interface'")
    if all(backend.backup for backend in vip.backends):
        raise ConfigError(
            join(path, "backends"), "all of them are backups, of nobody; leave 'backup' out where it is not one"
        )
    _check_weights(vip, path)


def _check_protocol(vip: Vip, path: str, ports_given: bool) -> None:
    """What a protocol cannot have."""
    if vip.protocol == "any":
        if ports_given:
            raise ConfigError(join(path, "ports"), "protocol any has no ports; leave them out")
        if vip.scheduler == "connection_hash":
            raise ConfigError(
                join(path, "scheduler"), "connection_hash needs ports, and protocol any has none; use source_hash"
            )
    if vip.new_flows_per_source is not None and vip.protocol in ("udp", "any") and not vip.tracks:
        raise ConfigError(
            join(path, "new_flows_per_source"),
            f"{vip.scheduler} tracks no flows, so with protocol {vip.protocol} nobody knows which packet begins one; "
            "use a scheduler that tracks, or set 'persistence_timeout'",
        )


def parse_vip(value: Any, path: str) -> Vip:
    """One VIP from a user's dictionary. ``path`` is where it stands, '' for a module's own options."""
    options = parse_mapping(value, path, VIP_OPTIONS)
    name = parse_name(options.get("name"), join(path, "name"))
    if options.get("address") in (None, ""):
        raise ConfigError(join(path, "address"), "is missing; a VIP needs its address")
    address = parse_address(options["address"], join(path, "address"))
    if address.is_link_local:
        raise ConfigError(
            join(path, "address"), f"{address} is a link-local address, which backends cannot hold on lo; give another"
        )

    def optional(key: str, parse: Callable[[Any, str], Any], default: Any) -> Any:
        given = options.get(key)
        return default if given is None else parse(given, join(path, key))

    def interface(text: Any, place: str) -> Optional[str]:
        return None if text == "" else parse_interface(text, place)

    def networks(given: Any, place: str) -> tuple[IPNetwork, ...]:
        return _parse_sources(given, place, address.version)

    protocol = optional("protocol", lambda given, place: parse_choice(given, place, PROTOCOLS), "tcp")
    allow = optional("allow_sources", networks, None)
    if allow == ():
        raise ConfigError(
            join(path, "allow_sources"), "the list is empty and would lock out everybody; leave it out to allow all"
        )
    vip = Vip(
        name=name,
        address=address,
        interface=optional("interface", interface, None),
        backend_interface=optional("backend_interface", interface, None),
        protocol=protocol,
        ports=_parse_ports(options.get("ports"), join(path, "ports")),
        scheduler=optional("scheduler", lambda given, place: parse_choice(given, place, SCHEDULERS), "source_hash"),
        persistence_timeout=optional(
            "persistence_timeout", lambda given, place: parse_integer(given, place, 0, MAX_TIMEOUT), 0
        ),
        flow_table=_parse_flow_table(options.get("flow_table"), join(path, "flow_table"), protocol),
        backends=_parse_backends(options.get("backends"), join(path, "backends")),
        require_mac=optional("require_mac", parse_boolean, True),
        on_empty=optional("on_empty", lambda given, place: parse_choice(given, place, ON_EMPTY), "drop"),
        allow_sources=allow,
        deny_sources=optional("deny_sources", networks, ()),
        new_flows_per_source=optional("new_flows_per_source", _parse_rate, None),
    )
    if options.get("health_check") is not None:
        check = parse_health_check(
            options["health_check"],
            join(path, "health_check"),
            address=vip.address,
            protocol=vip.protocol,
            ports=vip.ports,
        )
        vip = replace(vip, health_check=check)
    _check_backends(vip, path)
    _check_protocol(vip, path, options.get("ports") is not None)
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
    addresses: dict[IPAddress, str] = {}
    pools: dict[IPAddress, str] = {}
    services: dict[tuple[IPAddress, str], list[tuple[Vip, str]]] = {}
    for vip, place in zip(vips, places):
        if vip.name in names:
            raise ConfigError(
                join(place, "name"), f"{vip.name!r} is the name of {names[vip.name]} already; give each its own"
            )
        names[vip.name] = place
        if vip.address in pools:
            raise ConfigError(
                join(place, "address"),
                f"{vip.address} is a backend of the VIP {pools[vip.address]!r}; give the VIP an address of its own",
            )
        for index, backend in enumerate(vip.backends):
            if backend.address in addresses:
                raise ConfigError(
                    join(place, f"backends[{index}].address"),
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
                    join(place, "ports"),
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


def find_backends(vips: Iterable[Vip], wanted: str) -> dict[str, IPAddress]:
    """Which VIPs have a backend of this address or name: VIP name to the backend's address."""
    try:
        wanted = str(ipaddress.ip_address(wanted))  # an IPv6 address has many spellings
    except ValueError:
        pass
    return {
        vip.name: backend.address
        for vip in vips
        for backend in vip.backends
        if wanted in (str(backend.address), backend.name)
    }


def with_drained(vip: Vip, addresses: Iterable[IPAddress]) -> Vip:
    """The VIP with these backends draining, as an operator asked; one that is down stays down."""
    drained = frozenset(addresses)
    return replace(
        vip,
        backends=tuple(
            replace(backend, state="drain") if backend.address in drained and backend.state == "up" else backend
            for backend in vip.backends
        ),
    )
