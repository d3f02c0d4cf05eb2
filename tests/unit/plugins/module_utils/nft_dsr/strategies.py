# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Random configurations that are valid, for tests of what holds for all of them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr import model
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.ruleset import ResolvedVip
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.nft_dsr.hosts import mac_of

_NAMES = ("a", "b-1", "c_2")


@st.composite
def backend_options(draw: st.DrawFn, last_octet: int, weights: st.SearchStrategy[int]) -> dict[str, Any]:
    return {
        "address": f"10.77.0.{last_octet}",
        "name": draw(st.sampled_from(["", f"host-{last_octet}", f"H{last_octet}.example_net"])),
        "mac": draw(st.sampled_from([None, f"02-AA-00-00-00-{last_octet:02X}"])),
        "weight": draw(weights),
        "state": draw(st.sampled_from(model.BACKEND_STATES)),
    }


@st.composite
def vip_options(draw: st.DrawFn, name: str, number: int) -> dict[str, Any]:
    """A VIP that can stand beside those of other numbers: they share an address at most, and no port."""
    scheduler = draw(st.sampled_from(model.SCHEDULERS))
    ranges = {"round_robin": [(0, 1)], "weighted_round_robin": [(0, 5)]}
    weights = st.integers(*draw(st.sampled_from(ranges.get(scheduler, [(0, 1), (1, 5)]))))
    octets = draw(st.lists(st.integers(21, 26), min_size=1, max_size=6, unique=True))
    base = 1000 * (number + 1)
    ports = draw(
        st.lists(
            st.sampled_from([f"{base}", f"{base + 1}", f"{base + 2}-{base + 9}", f"{base + 24}-{base + 255}"]),
            max_size=4,
            unique=True,
        )
    )
    shared = bool(ports) and draw(st.booleans())
    return {
        "name": name,
        "address": "10.77.0.100" if shared else f"10.77.0.{101 + number}",
        "interface": draw(st.sampled_from([None, "eth0", "eth1"])),
        "backend_interface": draw(st.sampled_from([None, "eth0", "eth1"])),
        "protocol": draw(st.sampled_from(model.PROTOCOLS)),
        "ports": ports or None,
        "scheduler": scheduler,
        "backends": [draw(backend_options(octet, weights)) for octet in octets],
        "require_mac": draw(st.booleans()),
    }


@st.composite
def vips_options(draw: st.DrawFn) -> list[dict[str, Any]]:
    """What a user may ask of a load balancer."""
    names = draw(st.lists(st.sampled_from(_NAMES), max_size=3, unique=True))
    return [draw(vip_options(name, _NAMES.index(name))) for name in names]


@st.composite
def resolved_vips(draw: st.DrawFn) -> list[ResolvedVip]:
    """The same with what the host adds; of some backends it does not know the MAC."""
    resolved = []
    for vip in model.parse_vips(draw(vips_options())):
        unknown = draw(st.sets(st.sampled_from([backend.address for backend in vip.backends]), max_size=1))
        backend_interface = vip.backend_interface or "eth0"
        macs = {
            backend.address: backend.mac or mac_of(str(backend.address))
            for backend in vip.backends
            if backend.mac or backend.address not in unknown
        }
        resolved.append(ResolvedVip(vip, vip.interface or backend_interface, backend_interface, macs))
    return resolved
