# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several load balancers with the same VIPs: in which order they are worked on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import Any, Callable

Host = Mapping[str, Any]


def _addresses(values: Any) -> set[str]:
    """IP addresses in their one form; what is none is left to those who check it."""
    found = set()
    for value in values if isinstance(values, (list, tuple)) else ():
        try:
            found.add(str(ip_address(str(value))))
        except ValueError:
            continue
    return found


def _vips_of(host: Host) -> set[str]:
    given = host.get("dsr_vips")
    rows = given if isinstance(given, (list, tuple)) else ()
    return _addresses([row.get("address") for row in rows if isinstance(row, Mapping)])


def standby_first(names: Iterable[str], hosts: Mapping[str, Host]) -> list[str]:
    """Load balancers by how many addresses of ``dsr_vips`` they hold now, those without any first.

    What goes wrong on the first one then goes wrong where no client is. ``hosts`` has facts of the network; one
    without them is taken for active, and comes last. Among equals the order is that of the inventory.
    """

    def held(name: str) -> tuple[bool, int]:
        facts = hosts[name].get("ansible_facts") or {}
        if "all_ipv4_addresses" not in facts and "all_ipv6_addresses" not in facts:
            return True, 0
        own = _addresses(facts.get("all_ipv4_addresses")) | _addresses(facts.get("all_ipv6_addresses"))
        return False, len(own & _vips_of(hosts[name]))

    return sorted(names, key=held)


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"standby_first": standby_first}
