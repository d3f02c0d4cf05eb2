# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Virtual IPs as users name them: checked, normalised, one order. Nothing here looks at the host."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from typing import Any, Union

from ..common.errors import ConfigError
from ..common.iproute import IPAddress, IPInterface

_INTERFACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}\Z")
_PATH = re.compile(r"(/[A-Za-z0-9_.-]+)+\Z")

_Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]


def parse_addresses(value: Any, path: str, purge: bool) -> tuple[IPAddress, ...]:
    """The virtual IPs of an option, in order. None at all only with ``purge``: it means "all others go"."""
    if not isinstance(value, (list, tuple)):
        raise ConfigError(path, f"must be a list of IP addresses, not {value!r}")
    if not value and not purge:
        raise ConfigError(path, "the list is empty, which would do nothing; an empty list is valid with 'purge: true'")
    seen: dict[IPAddress, int] = {}
    for index, text in enumerate(value):
        address = parse_address(text, f"{path}[{index}]")
        if address in seen:
            raise ConfigError(f"{path}[{index}]", f"{address} is there already, as {path}[{seen[address]}]")
        seen[address] = index
    return tuple(seen)


def parse_address(value: Any, path: str) -> IPAddress:
    """An address that can be a virtual IP."""
    if not isinstance(value, str):
        raise ConfigError(path, f"{value!r} is not an IP address; write it as a string")
    text = value.strip()
    if "/" in text:
        raise ConfigError(path, f"{text!r} has a prefix length; give the address alone, it is held as /32 or /128")
    if "%" in text:
        raise ConfigError(path, f"{text!r} names a zone; give an address that is not link-local")
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise ConfigError(path, f"{text!r} is not an IP address") from None
    reason = _why_not(address)
    if reason:
        raise ConfigError(path, f"{address} {reason}")
    return address


def _why_not(address: IPAddress) -> str:
    """Why ``address`` cannot be a virtual IP, or ''."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return f"is an IPv4 address in IPv6 notation; write {address.ipv4_mapped}"
    if address.is_unspecified or (address.version == 4 and int(address) >> 24 == 0):
        return "is an unspecified address, which no host can hold; give a unicast address"
    if address.is_loopback:
        return "is a loopback address; it never leaves a host; give an address of the segment"
    if address.is_multicast:
        return "is a multicast address; give a unicast address"
    if address.is_link_local:
        return "is a link-local address; give an address that clients can route to"
    if address.version == 4 and int(address) >> 28 == 0xF:
        return "is a broadcast or reserved address; give a unicast address"
    return ""


def parse_interface(value: Any, path: str) -> str:
    """The name of a network interface, safe in commands, files and paths."""
    if not isinstance(value, str) or not _INTERFACE.match(value):
        raise ConfigError(path, f"{value!r} is not the name of a network interface")
    return value


def parse_path(value: Any, path: str, folders: Sequence[str], suffix: str) -> str:
    """A file that something reads at boot: in one of ``folders``, with ``suffix``."""
    if not isinstance(value, str) or not _PATH.match(value) or "/." in value:
        raise ConfigError(path, f"{value!r} is not the full path of a file (letters, digits, '_', '.', '-')")
    folder, _unused, name = value.rpartition("/")
    if folder not in folders or not name.endswith(suffix) or name == suffix:
        where = " or ".join(folders)
        raise ConfigError(path, f"{value} would not be read at boot; use a file *{suffix} in {where}")
    return value


def host_interface(address: IPAddress) -> IPInterface:
    """The address as a host holds a virtual IP: /32 or /128, so that it claims no neighbours."""
    return ipaddress.ip_interface(f"{address}/{address.max_prefixlen}")


def ordered(addresses: Iterable[IPAddress]) -> tuple[IPAddress, ...]:
    """Without duplicates, IPv4 first, by number: the order that files and results have."""
    return tuple(sorted(set(addresses), key=lambda address: (address.version, int(address))))


def edge_of(address: IPAddress, network: _Network) -> str:
    """What ``address`` is to an IPv4 network that it cannot be a host of, or ''."""
    if not isinstance(network, ipaddress.IPv4Network) or network.prefixlen > 30:
        return ""
    if address == network.network_address:
        return "network address"
    if address == network.broadcast_address:
        return "broadcast address"
    return ""
