# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Inventories that can't be right: one clear error, and no host is touched."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import Lab, unused_name
from lab.standard import build

from .conftest import Site

WEB = {"name": "web", "address": "10.77.0.100", "ports": ["80"]}


@pytest.fixture(scope="module")
def bare_lab() -> Iterator[Lab]:
    """Hosts that no test of this file changes; none of them serves anything."""
    with Lab(unused_name()) as lab:
        yield build(lab, backends=2)


@pytest.fixture(scope="module")
def untouched(bare_lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What is on the hosts before all tests."""
    return Site(bare_lab, tmp_path_factory.mktemp("before")).traces()


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"dsr_vips": None}, "dsr_vips: is not defined for this host"),
        (
            {"dsr_vips": [{**WEB, "scheduler": "round_robin"}], "dsr_backend_weight": 2},
            "dsr_vips[0].backends[0].weight (the host b1): the scheduler round_robin",
        ),
        # What only the load balancer can know, before a backend is touched
        ({"dsr_vips": [{**WEB, "interface": "eth7"}]}, "vips[0].interface: this host has no interface 'eth7'"),
        ({"dsr_vips": [{**WEB, "backends": [{"address": "10.77.0.99"}]}]}, "10.77.0.99"),
        ({"load_balancer_address_persist": "cron"}, "load_balancer_address_persist"),
        # What only an agent does
        ({"dsr_vips": [{**WEB, "health_check": {"type": "icmp"}}]}, "health_check of the VIP web has no effect"),
        ({"dsr_vips": [{**WEB, "scheduler": "least_connections"}]}, "The scheduler of the VIP web goes by open"),
        (
            {"load_balancer_agent": True, "load_balancer_agent_metrics": "::1:9817"},
            'load_balancer_agent_metrics: "::1:9817" is no address with a port, such as 127.0.0.1:9817 or [::1]:9817',
        ),
    ],
)
def test_one_clear_error(
    bare_lab: Lab, untouched: dict[str, str], tmp_path: Path, variables: dict[str, Any], message: str
) -> None:
    site = Site(bare_lab, tmp_path)
    site.variables.update(variables)
    assert message in site.fails("site").text
    assert site.traces() == untouched


def test_no_load_balancer(bare_lab: Lab, untouched: dict[str, str], tmp_path: Path) -> None:
    site = Site(bare_lab, tmp_path)
    site.groups = {"dsr_backends": ["b1", "b2"]}
    assert "dsr_load_balancers: the inventory has no host in this group" in site.fails("site").text
    assert site.traces() == untouched


def test_no_backend(bare_lab: Lab, untouched: dict[str, str], tmp_path: Path) -> None:
    site = Site(bare_lab, tmp_path)
    site.groups = {"dsr_load_balancers": ["lb"]}
    assert "dsr_backends: the group has no hosts" in site.fails("site").text
    assert site.traces() == untouched
