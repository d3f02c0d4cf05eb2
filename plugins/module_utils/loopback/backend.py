# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The backend's end: virtual IPs on the loopback, and no answer to ARP for them.

Order is everything. A virtual IP appears after ARP is suppressed, and is gone before the suppression
is lifted; else its clients would learn this host's MAC and stay with it, past the load balancer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..common.errors import ConfigError, HostError
from ..common.iproute import Link
from . import arp
from .holding import (
    Holding,
    Memory,
    Outcome,
    Request,
    check_edges,
    check_ipv6,
    foreign_holders,
    holding_steps,
    plan_holding,
    required_link,
)
from .host import Host
from .model import host_interface, parse_addresses, parse_interface, parse_path
from .observed import Observed, is_nic, observe
from .persisted import NETPLAN_FILE, SYSCTL_FILE
from .persistence import NONE, Persistence
from .suppression import Suppression

MEMORY = "loopback"
PERSIST = ("auto", "netplan", "networkd", "networkmanager", "ifupdown", "systemd", NONE)


@dataclass(frozen=True)
class Options:
    """The options of dsr_backend_loopback, checked."""

    request: Request
    persist: str = "auto"
    sysctl_file: str = SYSCTL_FILE
    netplan_file: str = NETPLAN_FILE


def parse_options(options: Mapping[str, Any]) -> Options:
    purge = bool(options["purge"])
    return Options(
        request=Request(
            path="vips",
            addresses=parse_addresses(options["vips"], "vips", purge),
            interface=parse_interface(options["interface"], "interface"),
            state=options["state"],
            purge=purge,
        ),
        persist=options["persist"],
        sysctl_file=parse_path(options["sysctl_file"], "sysctl_file", arp.FOLDERS, ".conf"),
        netplan_file=parse_path(options["netplan_file"], "netplan_file", ("/etc/netplan",), ".yaml"),
    )


def ensure(host: Host, options: Mapping[str, Any], check_mode: bool) -> Outcome:
    """Bring the host to what the options ask for; in check mode, say only how."""
    parsed = parse_options(options)
    host.require_root()
    with host.locked(check_mode):
        outcome = _plan(host, parsed)
        if not check_mode:
            host.apply(outcome.steps)
    return outcome


def _plan(host: Host, options: Options) -> Outcome:
    request = options.request
    observed = observe(host)
    link = required_link(request, observed.links)
    memory = Memory(host, MEMORY)
    claim = memory.of(link.name)
    persistence = Persistence(host, link, options.netplan_file, claim.files)
    holding = plan_holding(request, [*claim.addresses, *persistence.own_addresses()], observed.held)
    suppression = _suppression(host, options, observed, memory, holding)
    warnings = _check(host, holding, observed, link, suppression)
    manager = _choose(persistence, options, holding)
    steps = holding_steps(host, memory, holding, persistence.wanted(manager, holding.final), suppression.files)
    return Outcome(
        steps=[
            *steps.claim,
            *suppression.raising(),
            *steps.delete,
            *steps.persist,
            *steps.add,
            *suppression.lifting(),
            *steps.settle,
        ],
        persist=manager,
        files=sorted({*suppression.files, *steps.files}),
        addresses=holding.final,
        warnings=warnings,
        message=_message(holding, manager, persistence.described(manager, options.persist, "this host"), steps.files),
    )


def _choose(persistence: Persistence, options: Options, holding: Holding) -> str:
    """What keeps the addresses. Where none is to be kept, nothing needs to be there for it."""
    try:
        return persistence.choose_for_loopback(options.persist)
    except HostError:
        if holding.final and holding.request.present:
            raise
        return NONE


def _suppression(host: Host, options: Options, observed: Observed, memory: Memory, holding: Holding) -> Suppression:
    """It is the whole host's: virtual IPs of ours on other interfaces need it as much."""
    claims = memory.claims
    elsewhere = [address for name in claims if name != options.request.interface for address in claims[name].addresses]
    needed = any(address.version == 4 for address in (*holding.final, *elsewhere))
    remembered = [path for claim in claims.values() for path in claim.files]
    return Suppression(host, options.sysctl_file, observed, needed, remembered)


# --- what stands in the way -----------------------------------------------------------------------


def _check(host: Host, holding: Holding, observed: Observed, link: Link, suppression: Suppression) -> list[str]:
    """Refuse what does not work now or will not at the next boot; warn of what may stop working.

    Nothing stands in the way of taking addresses away.
    """
    request = holding.request
    if not request.present:
        return [*foreign_holders(request, observed.held), *_exposed(holding, observed, suppression)]
    if is_nic(link):
        raise ConfigError(
            "interface",
            f"{link.name} is a NIC, which answers ARP for the addresses that it holds; use lo or a dummy interface",
        )
    check_edges(request, observed.held)
    check_ipv6(request, host)
    _check_holders(request, observed)
    down = [] if link.up else [f"{link.name} is down: bring it up, or its addresses may not be served"]
    return [*down, *suppression.check(), *_exposed(holding, observed, suppression)]


def _check_holders(request: Request, observed: Observed) -> None:
    """A virtual IP may be on no NIC, and on the loopback as a host address only."""
    for address in request.addresses:
        for entry in observed.holders(address):
            place = request.place(address)
            if is_nic(observed.links[entry.link]):
                raise ConfigError(
                    place,
                    f"{address} is on {entry.link} as well, which answers for it; remove it there "
                    f"('ip address delete {entry.value} dev {entry.link}') and from what puts it there at boot",
                )
            if entry.link == request.interface and entry.value != host_interface(address):
                raise ConfigError(
                    place,
                    f"{entry.link} holds {entry.value}, which this module did not put there and which makes all of "
                    f"{entry.value.network} local; remove it ('ip address delete {entry.value} dev {entry.link}')",
                )


def _exposed(holding: Holding, observed: Observed, suppression: Suppression) -> list[str]:
    """Addresses of others that the suppression kept from being answered for, until now."""
    if not suppression.lifted:
        return []
    return [
        f"ARP suppression is lifted, since no virtual IP of this module is left; {entry.ip}, which something else put "
        f"on {entry.link}, is answered for by ARP from now on"
        for entry in observed.held
        if entry.ip.version == 4
        and not entry.ip.is_loopback
        and not is_nic(observed.links[entry.link])
        and entry.ip not in holding.delete
    ]


def _message(holding: Holding, manager: str, how: str, files: list[str]) -> str:
    link = holding.request.interface
    if not holding.final:
        return f"no virtual IP of this module is on {link}"
    held = ", ".join(map(str, holding.final))
    if manager == NONE:
        return f"{held} on {link} until the next boot (persist: none)"
    return f"{held} on {link}, brought back at boot by {how} ({', '.join(files)})"
