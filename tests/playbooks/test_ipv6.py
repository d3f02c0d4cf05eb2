# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""VIPs of both families side by side: `site`, `verify` and `remove`, with pools made from the inventory."""

from __future__ import annotations

import pytest
from lab.standard import ADDRESSES6, VIPS6

from .conftest import Site

VIP6 = VIPS6[0]
# As people may write it
WEB6 = {"name": "web6", "address": "FD00:77::0100", "ports": ["80"], "scheduler": "connection_hash"}


@pytest.fixture
def site6(site: Site) -> Site:
    """A site whose VIPs are of both families."""
    site.variables["dsr_vips"].append(WEB6)
    return site


def test_from_nothing_and_back(site6: Site) -> None:
    before = site6.traces()
    first = site6.ok("site")
    assert f"client: the VIP web6 ({VIP6} tcp 80): 30 connections answered directly" in first.text
    assert site6.vips() == {
        "web": ["10.77.0.21", "10.77.0.22", "10.77.0.23"],
        "web6": ["fd00:77::21", "fd00:77::22", "fd00:77::23"],
    }
    served = site6.served(VIP6, count=60)
    assert (served["ok"], set(served["by_host"])) == (60, {"b1", "b2", "b3"})
    state = site6.traces()
    assert f"{VIP6}/128" in state["b3"] and f"{VIP6}/128" in state["lb"]
    assert set(site6.ok("site", "--diff").changed.values()) == {0}
    assert site6.traces() == state
    assert f"b1 ({ADDRESSES6['b1']})" in site6.ok("status").output
    site6.ok("remove")
    assert site6.traces() == before


def test_a_host_may_say_its_addresses_and_is_probed_without_a_client(site6: Site) -> None:
    """Its facts do not tell which of several is the right one, so that nothing is done before it says so."""
    site6.groups = {"dsr_load_balancers": ["lb"], "dsr_backends": ["b1", "b2", "b3"], "dsr_clients": []}
    site6.lab.ip("b2", "address add fd00:99::22/64 dev eth0 nodad")
    refused = site6.fails("site")
    assert "the host b2 of dsr_backends: its IPv6 address is not known" in refused.text
    assert site6.vips() == {}
    site6.host_variables["b2"] = {"dsr_backend_address": ["10.77.0.22", ADDRESSES6["b2"]]}
    done = site6.ok("site")
    assert site6.vips()["web6"] == [ADDRESSES6[name] for name in ("b1", "b2", "b3")]
    probed = f"b2 ({ADDRESSES6['b2']}) for the VIP web6 ({VIP6} tcp 80): "
    assert f"lb: {probed}answers" in done.text
    site6.lab.ip("b2", f"address delete {VIP6}/128 dev lo")
    assert f"lb: {probed}is a service listening there? none of 1 connections" in site6.fails("verify").text


def test_verify_finds_what_is_wrong(site6: Site) -> None:
    site6.ok("site")
    lab = site6.lab
    lab.ip("b1", f"address add {VIP6}/128 dev eth0 nodad")
    lab.ip("b2", f"address delete {VIP6}/128 dev lo")
    lab.ip("lb", f"address change {VIP6}/128 dev eth0 preferred_lft forever")
    broken = site6.fails("verify")
    for problem in (
        f"answers neighbour solicitations for the VIP {VIP6} as well. That is its backend b1: it holds the VIP on",
        f"b1: this host answers neighbour solicitations for {VIP6} on eth0",
        f"b2: does not hold the VIP {VIP6}",
        "lb: the addresses on eth0, or what brings them back at boot, are not as they should be",
        f"client: the VIP web6 ({VIP6} tcp 80): ",
    ):
        assert problem in broken.text, problem
    lab.ip("b1", f"address delete {VIP6}/128 dev eth0")
    site6.ok("site")  # repairs the rest, and verifies that
