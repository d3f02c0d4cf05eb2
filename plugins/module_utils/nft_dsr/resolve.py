# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the host adds to a VIP: through which NICs it goes, and its backends' MAC addresses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Callable, Optional

from ..common.errors import ConfigError
from ..common.iproute import HeldAddress, IPAddress, Iproute, Link, Route
from ..common.neighbours import question_of
from .model import Backend, Vip
from .resolved import ResolvedVip

_ONE_DOMAIN = (
    "L2 DSR needs one broadcast domain (for routed networks use L3 DSR); "
    "check the address, or give this host an address on the backends' network"
)
_A_HOSTS = "give an address that a host can have"

# Asks a NIC's segment for MAC addresses: (interface, addresses) to the MACs that answered for each.
Resolver = Callable[[str, Iterable[str]], Mapping[str, frozenset[str]]]


class _Host:
    """The host's network as it is now, read once."""

    def __init__(self, iproute: Iproute, addresses: Sequence[IPAddress]) -> None:
        self.links = iproute.links()
        self.held = iproute.addresses()
        self.routes: Mapping[IPAddress, Optional[Route]] = iproute.routes_to(addresses)

    def link(self, name: str, path: str) -> Link:
        link = self.links.get(name)
        if link is None:
            there = ", ".join(sorted(link.name for link in self.links.values() if not link.loopback))
            raise ConfigError(path, f"this host has no interface {name!r}; it has: {there or 'none'}")
        if not link.mac:
            raise ConfigError(path, f"{name} is no Ethernet interface; L2 DSR rewrites MAC addresses")
        return link

    def owner(self, address: IPAddress) -> Optional[HeldAddress]:
        return next((held for held in self.held if held.ip == address), None)


def resolve(
    vips: Sequence[Vip],
    places: Sequence[str],
    iproute: Iproute,
    resolver: Resolver,
    known: Mapping[str, ResolvedVip],
) -> tuple[list[ResolvedVip], list[str]]:
    """The VIPs with what the host adds, and warnings.

    ``places`` says where each VIP stands in the user's data; ``known`` is what was resolved before, by
    name. Raises ConfigError for what can't work on this host.
    """
    # Link-local addresses have no route of their own; their NIC is given.
    asked = {backend.address for vip in vips for backend in vip.backends if not backend.address.is_link_local}
    host = _Host(iproute, sorted(asked, key=lambda address: (address.version, int(address))))
    chosen = [_interfaces(vip, place, host) for vip, place in zip(vips, places)]
    answers = _ask(vips, [backend_interface for _interface, backend_interface in chosen], resolver)
    memory = {
        (item.backend_interface, address): mac
        for item in known.values()
        for address, mac in item.macs.items()
        # A MAC that a user pinned is no memory of an answer.
        if not any(backend.address == address and backend.mac for backend in item.vip.backends)
    }
    resolved = []
    warnings: list[str] = []
    for vip, place, (interface, backend_interface) in zip(vips, places, chosen):
        macs = {}
        for index, backend in enumerate(vip.backends):
            mac = _mac(
                vip,
                backend,
                f"{place}backends[{index}]",
                backend_interface,
                answers.get((backend_interface, str(backend.address)), frozenset()),
                memory.get((backend_interface, backend.address)),
                warnings,
            )
            if mac is None:
                continue
            own = next((link for link in host.links.values() if link.mac == mac), None)
            if own is not None:
                raise ConfigError(
                    f"{place}backends[{index}].mac",
                    f"{mac} is this load balancer's own MAC address ({own.name}); give the backend's",
                )
            macs[backend.address] = mac
        resolved.append(ResolvedVip(vip, interface, backend_interface, macs))
    return resolved, list(dict.fromkeys(warnings))


def _interfaces(vip: Vip, place: str, host: _Host) -> tuple[str, str]:
    _check_vip_address(vip, place, host)
    for index, backend in enumerate(vip.backends):
        _check_backend_address(backend, f"{place}backends[{index}].address", host)
    if vip.backend_interface is not None:
        backend_interface = host.link(vip.backend_interface, f"{place}backend_interface").name
    else:
        backend_interface = _common_interface(vip, place, host)
    interface = backend_interface
    if vip.interface is not None:
        interface = host.link(vip.interface, f"{place}interface").name
    return interface, backend_interface


def _check_vip_address(vip: Vip, place: str, host: _Host) -> None:
    path = f"{place}address"
    own = host.owner(vip.address)
    # The VIP itself stands on the NIC as a /32 or /128; anything wider is an address of the host's own.
    if own is not None and own.value.network.prefixlen < vip.address.max_prefixlen:
        raise ConfigError(
            path,
            f"{vip.address} is this load balancer's own address ({own.value} on {own.link}); "
            "give the VIP an address that no host has",
        )
    _check_not_network(vip.address, path, host)


def _check_backend_address(backend: Backend, path: str, host: _Host) -> None:
    own = host.owner(backend.address)
    if own is not None:
        raise ConfigError(
            path, f"{backend.address} is an address of this load balancer ({own.link}); a backend is another host"
        )
    _check_not_network(backend.address, path, host)


def _check_not_network(address: IPAddress, path: str, host: _Host) -> None:
    for held in host.held:
        network = held.value.network
        # A network of one or two addresses has neither of these (RFC 3021, RFC 6164).
        if network.version != address.version or network.prefixlen > network.max_prefixlen - 2:
            continue
        if address == network.network_address:
            name = "network address" if network.version == 4 else "subnet's router anycast address"
            raise ConfigError(path, f"{address} is the {name} of {network} ({held.link}); {_A_HOSTS}")
        if network.version == 4 and address == network.broadcast_address:
            raise ConfigError(path, f"{address} is the broadcast address of {network} ({held.link}); {_A_HOSTS}")


def _common_interface(vip: Vip, place: str, host: _Host) -> str:
    through: dict[str, Backend] = {}
    for index, backend in enumerate(vip.backends):
        path = f"{place}backends[{index}].address"
        route = host.routes.get(backend.address)
        if route is None or route.kind != "unicast":
            raise ConfigError(path, f"this host has no route to {backend.address}; {_ONE_DOMAIN}")
        if route.gateway is not None:
            raise ConfigError(
                path,
                f"{backend.address} is not on this host's segments: it is reached through the router {route.gateway} "
                f"({route.link}); {_ONE_DOMAIN}",
            )
        through.setdefault(route.link, backend)
    if len(through) > 1:
        listed = ", ".join(f"{backend.address} through {name}" for name, backend in sorted(through.items()))
        raise ConfigError(
            f"{place}backends",
            f"they are reached through more than one interface ({listed}); {_ONE_DOMAIN}, "
            "or name the one to use in 'backend_interface'",
        )
    return host.link(next(iter(through)), f"{place}backend_interface").name


def _ask(vips: Sequence[Vip], interfaces: Sequence[str], resolver: Resolver) -> dict[tuple[str, str], frozenset[str]]:
    """One question for each NIC, with every address that it is asked for."""
    wanted: dict[str, set[str]] = {}
    for vip, interface in zip(vips, interfaces):
        for backend in vip.backends:
            if backend.mac is None and not backend.down:
                wanted.setdefault(interface, set()).add(str(backend.address))
    return {
        (interface, address): macs
        for interface, addresses in sorted(wanted.items())
        for address, macs in resolver(interface, sorted(addresses)).items()
    }


def _mac(
    vip: Vip,
    backend: Backend,
    path: str,
    interface: str,
    answered: frozenset[str],
    remembered: Optional[str],
    warnings: list[str],
) -> Optional[str]:
    question = question_of(backend.address.version)
    if backend.mac is not None:
        return backend.mac
    if backend.down:
        # Nobody asked for its sake, but another VIP may have it up.
        return next(iter(answered)) if len(answered) == 1 else remembered
    if len(answered) == 1:
        return next(iter(answered))
    if answered:
        listed = " and ".join(sorted(answered))
        if remembered in answered:
            warnings.append(
                f"{vip.name}: more than one host on {interface} answers for the backend {backend.label}: {listed}; "
                f"it stays at {remembered}. Find the duplicate address"
            )
            return remembered
        raise ConfigError(
            f"{path}.address",
            f"more than one host on {interface} answers for {backend.address}: {listed}; "
            "remove the duplicate address, or pin the right one with 'mac'",
        )
    if remembered is not None:
        warnings.append(
            f"{vip.name}: the backend {backend.label} does not answer {question} on {interface}; "
            f"it keeps the MAC address {remembered} that it had"
        )
        return remembered
    if not vip.require_mac:
        warnings.append(
            f"{vip.name}: the backend {backend.label} does not answer {question} on {interface}; "
            "it is left out of service until a later run finds it"
        )
        return None
    raise ConfigError(
        f"{path}.address",
        f"{backend.address} does not answer {question} on {interface}, so its MAC address is not known; "
        "start the host, correct the address, give its 'mac', or set 'state: down' (or 'require_mac: false' for the "
        "VIP)",
    )
