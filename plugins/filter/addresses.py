# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses as inventories need them: who is on a segment, the VIPs of a range, and the VIPs in a network.

They run on the controller, so that a backend behind a router is found before any host is touched.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Callable, NamedTuple

from ansible_collections.dsr.layer2.plugins.module_utils.common.errors import ConfigError
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr import model
from ansible_collections.dsr.layer2.plugins.plugin_utils.filtering import require, told

try:
    import netaddr
except ImportError:
    netaddr = None


class _Block(NamedTuple):
    """Addresses that follow each other, both ends included."""

    version: int
    first: int
    last: int

    def holds(self, address: Any) -> bool:
        return self.version == address.version and self.first <= int(address) <= self.last


# --- what people type


def _address(value: Any, path: str) -> Any:
    text = str(value).strip()
    try:
        # Not as inet_aton(3) reads it, to which 10 is an address.
        return netaddr.IPAddress(text, flags=netaddr.INET_PTON)
    except (netaddr.AddrFormatError, ValueError):
        hint = (
            "give the address alone, with no prefix length" if "/" in text else "write it as 192.0.2.10 or 2001:db8::10"
        )
        raise ConfigError(path, f"{text!r} is not an IP address; {hint}") from None


def _network(value: Any, path: str) -> Any:
    """A network, or the network of an address with a prefix length or a netmask."""
    text = str(value).strip()
    written, slash, length = text.partition("/")
    address = _address(written, path)
    if not slash:
        raise ConfigError(path, f"{text} has no prefix length; write the network as {text}/{_usual(address)}")
    try:
        # netaddr also takes the inverse of a netmask, and nobody means one here.
        if (
            not re.fullmatch("[0-9]{1,3}", length)
            and not netaddr.IPAddress(length, flags=netaddr.INET_PTON).is_netmask()
        ):
            raise ValueError
        return netaddr.IPNetwork(text)
    except (netaddr.AddrFormatError, ConfigError, ValueError):
        highest = 32 if address.version == 4 else 128
        raise ConfigError(path, f"{length!r} in {text!r} is no prefix length; use 0 to {highest}") from None


def _usual(address: Any) -> int:
    return 24 if address.version == 4 else 64


def _hosts_of(network: Any) -> _Block:
    """The addresses that hosts can have: neither the network's own, nor the broadcast address of IPv4."""
    first, last = network.first, network.last
    if last - first > 1:  # in a smaller one every address is a host's
        first += 1
        last -= network.version == 4
    return _Block(network.version, first, last)


def _block(value: Any, path: str, of_hosts: bool) -> _Block:
    """A network, a range such as 192.0.2.100-192.0.2.120, or one address; of a network all, or what hosts can have."""
    text = str(value).strip()
    if "/" in text and "-" not in text:
        network = _network(text, path)
        if network.ip != network.cidr.ip:
            raise ConfigError(path, f"{text} is an address in a network; write the network: {network.cidr}")
        return _hosts_of(network) if of_hosts else _Block(network.version, network.first, network.last)
    low, dash, high = (part.strip() for part in text.partition("-"))
    first = _address(low, path)
    if not dash:
        return _Block(first.version, int(first), int(first))
    if re.fullmatch("[0-9]+", high):
        ahead = low.rpartition(".")[0]
        raise ConfigError(path, f"{text!r} has no address after the '-'; write both out: {low}-{ahead}.{high}")
    last = _address(high, path)
    if first.version != last.version:
        raise ConfigError(path, f"{text!r} goes from IPv{first.version} to IPv{last.version}; a range has one family")
    if first > last:
        raise ConfigError(path, f"{text!r} ends before it begins; write {high}-{low}")
    return _Block(first.version, int(first), int(last))


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else [value]


def _networks(value: Any) -> list[Any]:
    """The networks of a NIC: as text, a list of those, or the NIC's facts."""
    if not isinstance(value, Mapping):
        given = _listed(value)
        if not given:
            raise ConfigError("networks", "the list is empty; give the networks of the NIC, such as 192.0.2.2/24")
        return [
            _network(item, f"networks[{index}]" if given is value else "networks") for index, item in enumerate(given)
        ]
    found = [_network(text, "networks") for text in _of_facts(value)]
    if not found:
        raise ConfigError(
            "networks",
            f"these facts have no address{' of ' + str(value['device']) if 'device' in value else ''}; give those of a "
            "NIC, as ansible_facts['eth0'] is, or its networks, such as 192.0.2.2/24",
        )
    return found


def _of_facts(nic: Mapping[str, Any]) -> Iterator[str]:
    for key in ("ipv4", "ipv4_secondaries", "ipv6"):
        for entry in _listed(nic.get(key) or []):
            length = entry.get("prefix") or entry.get("netmask") if isinstance(entry, Mapping) else None
            if length:
                yield f"{entry.get('address')}/{length}"


def _addresses(items: Any, path: str) -> list[Any]:
    """The addresses of what has one, as VIPs and backends do, or is one."""
    if isinstance(items, (str, Mapping)) or not isinstance(items, Sequence):
        raise ConfigError(path, f"must be a list, not {items!r}")
    return [
        _address(item.get("address"), f"{path}[{index}].address")
        if isinstance(item, Mapping)
        else _address(item, f"{path}[{index}]")
        for index, item in enumerate(items)
    ]


# --- filters


def on_link(address: Any, networks: Any) -> bool:
    """Whether a host with this address is on the segment of a NIC that has these networks."""
    require(netaddr, "netaddr", "on_link")
    return told(lambda: _reached(_address(address, "address"), _networks(networks)))


def _reached(address: Any, networks: Sequence[Any]) -> bool:
    return any(_hosts_of(network).holds(address) for network in networks)


def off_link(backends: Any, networks: Any) -> list[Any]:
    """Those of the backends that are not on the segment of a NIC that has these networks."""
    require(netaddr, "netaddr", "off_link")

    def ask() -> list[Any]:
        known = _networks(networks)
        places = zip(backends, _addresses(backends, "backends"))
        return [backend for backend, address in places if not _reached(address, known)]

    return told(ask)


def nth_vip(addresses: Any, number: Any) -> str:
    """The n-th address of a range, or of a network's hosts; the first is 1, and the last -1."""
    require(netaddr, "netaddr", "nth_vip")

    def ask() -> str:
        block = _block(addresses, "addresses", of_hosts=True)
        count = block.last - block.first + 1
        try:
            if isinstance(number, (bool, float)):
                raise ValueError
            place = int(number)
        except (TypeError, ValueError):
            raise ConfigError("number", f"{number!r} is not a whole number; the first address is 1") from None
        if not 1 <= abs(place) <= count:
            raise ConfigError(
                "number",
                f"{addresses} has no address {place}; use 1 to {count}, or -1 to -{count} to count from the end",
            )
        offset = place - 1 if place > 0 else count + place
        return str(model.parse_address(str(netaddr.IPAddress(block.first + offset, block.version)), "addresses"))

    return told(ask)


def vips_in(vips: Any, networks: Any) -> list[Any]:
    """Those of the VIPs whose addresses are in a network or a range, or in one of several."""
    require(netaddr, "netaddr", "vips_in")

    def ask() -> list[Any]:
        blocks = [
            _block(item, f"networks[{index}]" if item is not networks else "networks", of_hosts=False)
            for index, item in enumerate(_listed(networks))
        ]
        places = zip(vips, _addresses(vips, "vips"))
        return [vip for vip, address in places if any(block.holds(address) for block in blocks)]

    return told(ask)


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"nth_vip": nth_vip, "off_link": off_link, "on_link": on_link, "vips_in": vips_in}
