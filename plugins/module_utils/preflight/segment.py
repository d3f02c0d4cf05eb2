# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the backends are on a load balancer's segment: the NIC that leads there, and who answers on it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ..common.iproute import IPAddress
from ..common.neighbours import question_of
from .finding import FAILED, OK, WARNING, Finding, listed, serious
from .network import Network
from .request import Backend, Pool

CHECK = "segment"

_ONE_DOMAIN = (
    "L2 DSR needs one broadcast domain: correct dsr_backend_address or 'address' of the backend, or give this host an "
    "address on the backends' network"
)

# By NIC and address, the MACs that answered.
Answers = Mapping[tuple[str, IPAddress], frozenset[str]]


def interface_of(pool: Pool, network: Network) -> tuple[str, list[Finding]]:
    """The NIC behind which the pool's backends are ('' for none), and what is in the way."""
    if pool.backend_interface:
        return _given(pool.backend_interface, network)
    through: dict[str, list[Backend]] = {}
    findings = []
    for backend in pool.backends:
        route = network.routes.get(backend.address)
        if route is not None and route.kind == "unicast" and route.gateway is None and route.link in network.nics:
            through.setdefault(route.link, []).append(backend)
            continue
        if route is not None and (route.kind == "local" or network.holders(backend.address)):
            why = "is an address of this load balancer; a backend is another host"
        elif route is not None and route.gateway:
            why = f"is reached through the router {route.gateway} ({route.link})"
        else:
            why = "has no on-link route"
        findings.append(Finding(CHECK, serious(backend.in_service), f"{backend.label} {why}", _ONE_DOMAIN))
    if len(through) > 1:
        ways = "; ".join(f"{listed(b.label for b in some)} through {nic}" for nic, some in sorted(through.items()))
        findings.append(
            Finding(
                CHECK,
                FAILED,
                f"the backends of one pool are reached through several NICs: {ways}",
                "put them on one segment, or name the NIC: dsr_interface, or 'backend_interface' of the VIP",
            )
        )
        return "", findings
    return next(iter(through), ""), findings


def _given(name: str, network: Network) -> tuple[str, list[Finding]]:
    link = network.nics.get(name)
    if link is None:
        there = ", ".join(sorted(network.nics)) or "none"
        why, do = f"there is no Ethernet NIC {name}; there are: {there}", "correct dsr_interface or 'backend_interface'"
    elif not link.up or "NO-CARRIER" in link.flags:
        why, do = f"{name} is down or has no carrier", f"ip link set {name} up, and look at its cable or its peer"
    else:
        return name, []
    return "", [Finding(CHECK, FAILED, why, do)]


def judge(backends: Mapping[str, Sequence[Backend]], answers: Answers) -> Iterator[Finding]:
    """Who of the backends, by NIC, is there."""
    for nic, pool in sorted(backends.items()):
        there, silent = [], {True: [], False: []}  # type: tuple[list[Backend], dict[bool, list[Backend]]]
        for backend in pool:
            macs = answers.get((nic, backend.address), frozenset())
            if len(macs) > 1:
                yield Finding(
                    CHECK,
                    WARNING if backend.mac else serious(backend.in_service),
                    f"{' and '.join(sorted(macs))} both answer for the backend {backend.label} on {nic}",
                    "remove the duplicate address, or pin the right one with 'mac'",
                )
            elif not macs:
                silent[backend.in_service and not backend.mac].append(backend)
            else:
                there.append(backend)
                if backend.mac and backend.mac not in macs:
                    yield Finding(
                        CHECK,
                        WARNING,
                        f"{backend.label} answers from {min(macs)}, and is pinned to {backend.mac}",
                        "correct 'mac' of the backend, or leave it out",
                    )
        for in_service, some in sorted(silent.items()):
            if some:
                question = question_of(some[0].address.version)
                yield Finding(
                    CHECK,
                    serious(in_service),
                    f"{listed(b.label for b in some)}: no answer to {question} on {nic}"
                    f"{'' if in_service else ' (out of service, or pinned)'}",
                    "start the host, correct its address or its VLAN, or take it out of the pool (state: down)",
                )
        if there:
            yield Finding(CHECK, OK, f"{len(there)} of {len(pool)} backends answer on {nic}")
