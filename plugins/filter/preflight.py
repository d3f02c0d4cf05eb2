# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The preflight on the controller: questions for the hosts, frames to send, and the table at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Callable

from ansible_collections.dsr.layer2.plugins.module_utils.preflight.finding import FAILED
from ansible_collections.dsr.layer2.plugins.plugin_utils import preflight

Vips = Sequence[Mapping[str, Any]]
HostVars = Mapping[str, Mapping[str, Any]]
Groups = Mapping[str, Sequence[str]]


def preflight_pools(vips: Vips) -> list[dict[str, Any]]:
    """VIPs that have their pools, by pool, as dsr_preflight_info takes them."""
    return preflight.pools_of(vips)


def preflight_addresses(addresses: Any) -> list[dict[str, Any]]:
    """Addresses that a backend holds, as dsr_preflight_info takes them."""
    return preflight.pool_of_addresses(addresses)


def preflight_questions(vips: Vips, hosts: Vips, hostvars: HostVars, groups: Groups) -> dict[str, Any]:
    """By host, the pools that it is asked about."""
    nics = {}
    for host in groups.get(preflight.LOAD_BALANCERS, ()):
        variables = hostvars[host]
        nics[host] = str(variables.get("load_balancer_interface") or variables.get("dsr_interface") or "")
    return preflight.questions(vips, hosts, nics, groups)


def preflight_frames(asked: Mapping[str, Any], hostvars: HostVars, groups: Groups) -> dict[str, Any]:
    """By host, what it sends to others."""
    return preflight.orders(preflight.Run(asked, hostvars, groups))


def preflight_table(asked: Mapping[str, Any], hostvars: HostVars, groups: Groups) -> dict[str, Any]:
    """The table, and whether something failed."""
    found = preflight.rows(preflight.Run(asked, hostvars, groups))
    return {
        "table": preflight.table(found),
        "failed": [row._asdict() for row in found if row.result == FAILED],
        "rows": [row._asdict() for row in found],
    }


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "preflight_addresses": preflight_addresses,
            "preflight_frames": preflight_frames,
            "preflight_pools": preflight_pools,
            "preflight_questions": preflight_questions,
            "preflight_table": preflight_table,
        }
