# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The load balancer's end: virtual IPs on the NIC that clients reach it by, where it answers for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Callable

from ..common import neighbours as segment
from ..common.errors import ConfigError, DsrError
from ..common.iproute import HeldAddress, Link
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
from .observed import Observed, deaf_nics, is_nic, observe
from .persisted import NETPLAN_FILE
from .persistence import NONE, Persistence

MEMORY = "vip-address"
PERSIST = ("auto", "netplan", "networkd", "networkmanager", "ifupdown", "systemd", NONE)
# How a backend comes to answer for a virtual IP, by IP version.
_EXPOSED = {4: "does not suppress ARP", 6: "holds it on its NIC and not on lo"}

# Who answers for addresses on a NIC, and the announcement of our own: (NIC, addresses).
Resolve = Callable[[str, Sequence[str]], Mapping[str, frozenset[str]]]
Announce = Callable[[str, Sequence[str]], None]


@dataclass(frozen=True)
class Options:
    """The options of dsr_vip_address, checked."""

    request: Request
    persist: str = "auto"
    netplan_file: str = NETPLAN_FILE
    announce: bool = True
    check_duplicate: bool = True


def parse_options(options: Mapping[str, Any]) -> Options:
    purge = bool(options["purge"])
    return Options(
        request=Request(
            path="addresses",
            addresses=parse_addresses(options["addresses"], "addresses", purge),
            interface=parse_interface(options["interface"], "interface"),
            state=options["state"],
            purge=purge,
        ),
        persist=options["persist"],
        netplan_file=parse_path(options["netplan_file"], "netplan_file", ("/etc/netplan",), ".yaml"),
        announce=bool(options["announce"]),
        check_duplicate=bool(options["check_duplicate"]),
    )


def _resolve(interface: str, addresses: Sequence[str]) -> Mapping[str, frozenset[str]]:
    # Nobody is expected to answer, so the whole time is always spent: one second for each family.
    return segment.resolve(interface, addresses, timeout=0.5, attempts=2)


def ensure(
    host: Host,
    options: Mapping[str, Any],
    check_mode: bool,
    resolve: Resolve = _resolve,
    announce: Announce = segment.announce,
) -> Outcome:
    """Bring the host to what the options ask for; in check mode, say only how."""
    parsed = parse_options(options)
    host.require_root()
    with host.locked(check_mode):
        outcome, added = _plan(host, parsed, resolve)
        if not check_mode:
            host.apply(outcome.steps)
            if parsed.announce and added:
                try:
                    announce(parsed.request.interface, added)
                except DsrError as error:
                    outcome.warnings.append(f"the addresses are set, but could not be announced: {error}")
    return outcome


def _plan(host: Host, options: Options, resolve: Resolve) -> tuple[Outcome, list[str]]:
    request = options.request
    observed = observe(host)
    link = _link(request, observed)
    memory = Memory(host, MEMORY)
    claim = memory.of(link.name)
    persistence = Persistence(host, link, options.netplan_file, claim.files)
    holding = plan_holding(request, [*claim.addresses, *persistence.own_addresses()], observed.held)
    warnings = [*_check(host, memory, holding, observed, link), *persistence.revived(holding.delete)]
    added = [str(address) for address in holding.add]
    if request.present and options.check_duplicate and added:
        _check_segment(request, resolve(link.name, added))
    manager = persistence.choose_for_nic(options.persist) if holding.final else NONE
    steps = holding_steps(host, memory, holding, persistence.wanted(manager, holding.final))
    return (
        Outcome(
            steps=[*steps.claim, *steps.delete, *steps.persist, *steps.add, *steps.settle],
            persist=manager,
            files=sorted(steps.files),
            addresses=holding.final,
            warnings=warnings,
            message=_message(holding, manager, persistence.described(manager, options.persist, link.name), steps.files),
        ),
        added,
    )


def _link(request: Request, observed: Observed) -> Link:
    """The NIC. One that is gone, or has another name now, is stood in for when nothing is to be put on it: then the
    files and the memory of it go all the same."""
    nothing_wanted = request.purge and not request.addresses if request.present else True
    if nothing_wanted and request.interface not in observed.links:
        return Link(name=request.interface, index=0, mac="", mtu=0, flags=frozenset(), operstate="NOTPRESENT")
    return required_link(request, observed.links)


# --- what stands in the way -----------------------------------------------------------------------


def _check(host: Host, memory: Memory, holding: Holding, observed: Observed, link: Link) -> list[str]:
    """Refuse what would not make this host answer for the addresses, or would take somebody else's."""
    request = holding.request
    if not request.present:
        return foreign_holders(request, observed.held)
    if link.name not in observed.links:
        return []
    if not is_nic(link):
        raise ConfigError(
            "interface", f"{link.name} is no NIC that answers ARP; name the one that clients reach this host by"
        )
    check_edges(request, observed.held)
    check_ipv6(request, host)
    for address in request.addresses:
        for entry in observed.holders(address):
            if entry.link != link.name or entry.value != host_interface(address):
                raise ConfigError(request.place(address), _taken(entry, memory, observed, request.interface))
    if link.name in deaf_nics(observed) and any(address.version == 4 for address in request.addresses):
        raise ConfigError(
            "interface",
            f"{link.name} answers no ARP at all, since arp_ignore is 8 there or in {arp.key('all', arp.IGNORE)}: "
            f"no client would find the addresses",
        )
    warnings = [] if link.up else [f"{link.name} is down: nobody can reach its addresses until it is up"]
    if link.master:
        warnings.append(f"{link.name} belongs to {link.master}, which may be the one that has to hold the addresses")
    return warnings


def _taken(entry: HeldAddress, memory: Memory, observed: Observed, interface: str) -> str:
    """Why an address that is on this host already is not ours to use."""
    if entry.link == interface:
        return (
            f"{entry.value} is an address of this host itself, on {entry.link}; a virtual IP is one that no host has "
            f"as its own"
        )
    if not is_nic(observed.links[entry.link]):
        return (
            f"{entry.ip} is on {entry.link}: this host is a backend of that virtual IP (dsr_backend_loopback), "
            f"and cannot answer ARP for it as well"
        )
    if entry.ip in memory.of(entry.link).addresses:
        return (
            f"{entry.ip} is on {entry.link}, where this module put it earlier; take it off there first "
            f"('state: absent', 'interface: {entry.link}')"
        )
    return f"{entry.value} is on {entry.link} of this host already; remove it there or give another address"


def _check_segment(request: Request, answers: Mapping[str, frozenset[str]]) -> None:
    """Nobody else on the segment may answer for an address that we are about to add."""
    for address in request.addresses:
        macs = sorted(answers.get(str(address), ()))
        if macs:
            raise ConfigError(
                request.place(address),
                f"{address} is answered for by {', '.join(macs)} on the segment of {request.interface}: another host "
                f"has it, or a backend that {_EXPOSED[address.version]}; find that host and take the address off it "
                f"('check_duplicate: false' skips this question)",
            )


def _message(holding: Holding, manager: str, how: str, files: Sequence[str]) -> str:
    link = holding.request.interface
    if not holding.final:
        return f"no virtual IP of this module is on {link}"
    held = ", ".join(map(str, holding.final))
    if manager == NONE:
        return f"{held} on {link} until the next boot (persist: none)"
    return f"{held} on {link}, brought back at boot by {how} ({', '.join(files)})"
