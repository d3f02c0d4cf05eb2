# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""High availability by keepalived: what each load balancer is told, and what is in the way of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Callable, Optional

from ansible_collections.dsr.layer2.plugins.module_utils.common.errors import ConfigError
from ansible_collections.dsr.layer2.plugins.plugin_utils import vrrp
from ansible_collections.dsr.layer2.plugins.plugin_utils.filtering import told

Rows = Sequence[Mapping[str, Any]]
Hosts = Mapping[str, Mapping[str, Any]]


def _plan(vips: Rows, name: str, names: Sequence[str], hosts: Hosts, options: Mapping[str, Any]) -> dict[str, Any]:
    return vrrp.plan(vips, name, vrrp.balancers_of(list(names), hosts), vrrp.options_of(options))


def vrrp_plan(vips: Rows, name: str, names: Sequence[str], hosts: Hosts, options: Mapping[str, Any]) -> dict[str, Any]:
    """What keepalived is told on one load balancer."""
    return told(lambda: _plan(vips, name, names, hosts, options))


def vrrp_problem(
    vips: Rows,
    name: str,
    names: Sequence[str],
    hosts: Hosts,
    options: Mapping[str, Any],
    seen: Optional[Rows] = None,
    config: str = "",
) -> str:
    """What is wrong with the variables, or in the way on this host; empty if nothing is."""
    try:
        made = _plan(vips, name, names, hosts, options)
    except ConfigError as error:
        return str(error)
    return vrrp.strangers(made, seen or []) or vrrp.owned_elsewhere(made, config)


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"vrrp_plan": vrrp_plan, "vrrp_problem": vrrp_problem}
