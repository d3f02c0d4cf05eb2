# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From what the tasks of `report` have registered to what the page is made of. No host is sure to have answered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Optional

from ..filtering import macs_of
from .model import Answer, Gathered, Probed

HostVars = Mapping[str, Mapping[str, Any]]
Groups = Mapping[str, Sequence[str]]

BALANCERS, BACKENDS, CLIENTS = "dsr_load_balancers", "dsr_backends", "dsr_clients"
_FALSE = ("false", "no", "0", "off")


def gathered(
    wanted: Optional[Sequence[Mapping[str, Any]]],
    wanted_problem: str,
    hosts: Sequence[Mapping[str, Any]],
    hostvars: HostVars,
    groups: Groups,
    at: str,
    probing: bool,
) -> Gathered:
    """What all hosts returned.

    ``hosts`` are the backends as the filter backend_hosts has them; ``probing`` is whether clients were to try VIPs.
    """
    names = dict.fromkeys(host for group in (BALANCERS, BACKENDS, CLIENTS) for host in groups.get(group, ()))
    variables = {host: hostvars[host] for host in names}  # looked up once: that takes its time

    def answers(group: str, name: str, key: str) -> tuple[Answer, ...]:
        return tuple(_answer(host, variables[host].get(name), key) for host in groups.get(group, ()))

    clients = answers(CLIENTS, "__dsr_report_reached", "ping")
    balancers = answers(BALANCERS, "__dsr_report_vips", "vips")
    return Gathered(
        at=at,
        balancers=balancers,
        neighbours=tuple(answer for answer in answers(BALANCERS, "__dsr_report_neighbours", "answers") if answer.asked),
        backends=answers(BACKENDS, "__dsr_report_loopback", "vips"),
        due=_due(balancers, hosts),
        macs={mac: host for host in groups.get(BALANCERS, ()) for mac in macs_of(variables[host].get("ansible_facts"))},
        clients=clients,
        probes=tuple(
            probe
            for host in groups.get(CLIENTS, ())
            for probe in _probes(host, variables[host].get("__dsr_report_probes"))
        ),
        wanted=wanted,
        wanted_problem=wanted_problem,
        kept=tuple(
            host
            for host in groups.get(BALANCERS, ())
            if str(variables[host].get("load_balancer_purge", True)).lower() in _FALSE
        ),
        untested=_untested(clients, probing),
    )


def _answer(host: str, registered: Any, key: str) -> Answer:
    """What a host returned, if it has ``key`` in it; else why it has not."""
    if not isinstance(registered, Mapping) or registered.get("skipped"):
        return Answer(host, asked=False)
    if key in registered and not registered.get("unreachable"):
        return Answer(host, registered)
    return Answer(host, problem=str(registered.get("msg") or "it returned nothing"))


def _due(balancers: Sequence[Answer], hosts: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, ...]]:
    """The VIPs for which load balancers send packets to each backend, by the names of the hosts."""
    sent: dict[str, dict[str, None]] = {}
    for answer in balancers:
        for vip in (answer.data or {}).get("vips", ()):
            for backend in vip["backends"]:
                sent.setdefault(str(backend["address"]), {})[str(vip["address"])] = None
    return {
        str(host["name"]): tuple(
            dict.fromkeys(
                vip for address in host["own_addresses"] for vip in sent.get(str(address).partition("%")[0], ())
            )
        )
        for host in hosts
    }


def _probes(host: str, registered: Any) -> Iterator[Probed]:
    if isinstance(registered, Mapping):
        for result in registered.get("results") or ():
            item = result.get("item")
            if isinstance(item, Mapping) and not result.get("skipped"):
                yield Probed(host, str(item["vip"]), result)


def _untested(clients: Sequence[Answer], probing: bool) -> str:
    if not clients:
        return "the inventory has no host in dsr_clients"
    if not probing:
        return "dsr_report_probe is off"
    if not any(client.data is not None for client in clients):
        return "no host of dsr_clients took part"
    return ""
