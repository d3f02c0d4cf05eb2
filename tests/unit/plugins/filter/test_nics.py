# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What NICs hold, and how systemd names them: the expected names are those of systemd-escape."""

from __future__ import annotations

import pytest

from ansible_collections.dsr.layer2.plugins.filter.nics import addresses_by_nic, device_unit


@pytest.mark.parametrize(
    ("nic", "escaped"),
    [
        ("eth0", "eth0"),
        ("enp3s0f1", "enp3s0f1"),
        ("bond0.100", "bond0.100"),
        ("br-lan", r"br\x2dlan"),
        ("eth0:1_a", "eth0:1_a"),
        (".hidden", r"\x2ehidden"),
        ("a@b", r"a\x40b"),
    ],
)
def test_device_unit(nic: str, escaped: str) -> None:
    assert device_unit(nic) == f"sys-subsystem-net-devices-{escaped}.device"


def vip(address: str, interface: str = "eth0") -> dict[str, str]:
    return {"name": f"{address}-{interface}", "address": address, "interface": interface}


def test_addresses_by_nic() -> None:
    vips = [vip("192.0.2.102"), vip("192.0.2.101", "eth1"), vip("192.0.2.100"), vip("192.0.2.102")]
    assert addresses_by_nic(vips) == {"eth0": ["192.0.2.102", "192.0.2.100"], "eth1": ["192.0.2.101"]}
    assert addresses_by_nic([]) == {}


def test_addresses_that_others_have_on_the_same_nic_are_left_out() -> None:
    before = [vip("192.0.2.100"), vip("192.0.2.101"), vip("192.0.2.102")]
    after = [vip("192.0.2.100"), vip("192.0.2.101", "eth1")]
    assert addresses_by_nic(before, without=after) == {"eth0": ["192.0.2.101", "192.0.2.102"]}
    assert addresses_by_nic(before, without=before) == {}
