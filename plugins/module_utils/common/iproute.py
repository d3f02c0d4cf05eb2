# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The only place that runs iproute2: links, addresses, routes, neighbours of this host."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Optional, Union

from .command import Runner, must, run
from .errors import CommandError

IPAddress = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]
IPInterface = Union[ipaddress.IPv4Interface, ipaddress.IPv6Interface]


@dataclass(frozen=True)
class Link:
    """A network interface. ``mac`` is in lower case with colons, or '' where the link has none.

    ``master`` is the bridge, bond or VRF that the link belongs to, or ''.
    """

    name: str
    index: int
    mac: str
    mtu: int
    flags: frozenset[str]
    operstate: str
    master: str = ""

    @property
    def up(self) -> bool:
        return "UP" in self.flags

    @property
    def loopback(self) -> bool:
        return "LOOPBACK" in self.flags


@dataclass(frozen=True)
class HeldAddress:
    """An address that a link of this host holds, with its prefix length.

    ``states``: of tentative, dadfailed and deprecated those that hold.
    """

    link: str
    value: IPInterface
    scope: str
    states: frozenset[str] = frozenset()

    @property
    def ip(self) -> IPAddress:
        return self.value.ip

    @property
    def usable(self) -> bool:
        """Whether this host speaks in its name: no other is suspected, or known, to have it."""
        return not self.states & {"tentative", "dadfailed"}


@dataclass(frozen=True)
class Route:
    """How this host reaches an address. On-link (one hop, no router) when ``gateway`` is None."""

    link: str
    gateway: Optional[str]
    source: Optional[str]
    kind: str  # unicast, local, broadcast, unreachable, ...


@dataclass(frozen=True)
class Neighbour:
    """An entry of the kernel's neighbour table."""

    address: IPAddress
    link: str
    mac: Optional[str]
    states: frozenset[str]


class Iproute:
    """iproute2 of this host, through ``ip -json``."""

    def __init__(self, runner: Runner = run) -> None:
        self._run = runner

    def _json(self, *arguments: str) -> list[dict[str, Any]]:
        done = must(self._run(["ip", "-json", *arguments], None))
        try:
            # Old iproute2 puts empty objects where it filtered something out.
            return [row for row in json.loads(done.stdout or "[]") if row]
        except ValueError as error:
            raise CommandError(f"'{' '.join(done.argv)}' printed something that is not JSON") from error

    def links(self) -> dict[str, Link]:
        """All links of this host by name."""
        return {
            row["ifname"]: Link(
                name=row["ifname"],
                index=row["ifindex"],
                mac=row.get("address", "").lower() if row.get("link_type") == "ether" else "",
                mtu=row.get("mtu", 0),
                flags=frozenset(row.get("flags", ())),
                operstate=row.get("operstate", "UNKNOWN"),
                master=row.get("master", ""),
            )
            for row in self._json("link", "show")
        }

    def addresses(self, link: Optional[str] = None) -> list[HeldAddress]:
        """The addresses held by ``link``, or by all links."""
        rows = self._json("address", "show", *(["dev", link] if link else []))
        return [
            HeldAddress(
                row["ifname"],
                ipaddress.ip_interface(f"{entry['local']}/{entry['prefixlen']}"),
                entry["scope"],
                frozenset(state for state in ("tentative", "dadfailed", "deprecated") if entry.get(state)),
            )
            for row in rows
            for entry in row.get("addr_info", ())
            if "local" in entry
        ]

    def add_address(self, link: str, address: IPInterface) -> None:
        """Put ``address`` on ``link``; one that is there already is no error.

        An IPv6 address is there at once, and never chosen as the host's own when that speaks to others.
        """
        must(self._run(["ip", *add_address_arguments(link, address)], None))

    def delete_address(self, link: str, address: IPInterface) -> None:
        """Take ``address`` off ``link``."""
        must(self._run(["ip", "address", "delete", str(address), "dev", link], None))

    def routes_to(self, addresses: Iterable[IPAddress]) -> dict[IPAddress, Optional[Route]]:
        """The route that this host would take to each address, all asked in one go; None for none."""
        routes: dict[IPAddress, Optional[Route]] = dict.fromkeys(addresses)
        if not routes:
            return routes
        questions = "".join(f"route get {address}\n" for address in routes)
        # An address without a route makes ip end with an error, after it answered for the others.
        done = self._run(["ip", "-json", "-force", "-batch", "-"], questions)
        for line in done.stdout.splitlines():
            try:
                rows = json.loads(line)
            except ValueError as error:
                raise CommandError(f"'{' '.join(done.argv)}' printed something that is not JSON") from error
            for row in rows:
                if row.get("dst"):
                    via = row.get("via") or {}
                    routes[ipaddress.ip_address(row["dst"])] = Route(
                        link=row.get("dev", ""),
                        gateway=row.get("gateway") or via.get("host"),
                        source=row.get("prefsrc"),
                        kind=row.get("type", "unicast"),
                    )
        return routes

    def route_to(self, address: IPAddress) -> Optional[Route]:
        """The route that this host would take to ``address``; None when it has none."""
        return self.routes_to([address])[address]

    def neighbours(self, link: Optional[str] = None) -> list[Neighbour]:
        """The kernel's neighbour table."""
        rows = self._json("neighbour", "show", *(["dev", link] if link else []))
        return [
            Neighbour(
                address=ipaddress.ip_address(row["dst"]),
                link=row.get("dev", link or ""),
                mac=row["lladdr"].lower() if "lladdr" in row else None,
                states=frozenset(row.get("state", ())),
            )
            for row in rows
        ]


def add_address_arguments(link: str, address: IPInterface) -> list[str]:
    """What to tell ``ip``, now or at boot."""
    # Without 'preferred_lft 0' the kernel would take the address that is most like the peer's, and a virtual IP's
    # replies go to the load balancer. (IPv4 takes the first one of the network, which a /32 never is.)
    more = ["nodad", "preferred_lft", "0"] if address.version == 6 else []
    return ["address", "replace", str(address), "dev", link, *more]


def networks_of(addresses: Sequence[HeldAddress]) -> list[Union[ipaddress.IPv4Network, ipaddress.IPv6Network]]:
    """The on-link networks that these addresses imply."""
    return [held.value.network for held in addresses]
