# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which interfaces a .network file is for."""

from __future__ import annotations

import pytest

from ansible_collections.dsr.layer2.plugins.module_utils.common.iproute import Link
from ansible_collections.dsr.layer2.plugins.module_utils.loopback import match

ETH0 = Link("eth0", 2, "02:d5:00:00:00:15", 1500, frozenset({"UP"}), "UP")
LO = Link("lo", 1, "", 65536, frozenset({"LOOPBACK", "UP"}), "UNKNOWN")

# [Match] lines; whether it is for eth0, for lo, and for eth0 alone
CASES = [
    ("Name=eth0", True, False, True),
    ("Name=eth1 eth0", True, False, False),
    ("Name=e*", True, False, False),
    ("Name=*", True, True, False),
    ("Name=lo", False, True, False),
    ("Name=!lo", True, False, False),
    ("Name=!eth*", False, True, False),
    ("Type=ether", True, False, False),
    ("Type=loopback", False, True, False),
    ("Name=e*\nType=ether", True, False, False),
    ("Name=eth0\nType=wlan", False, False, True),
    ("MACAddress=02:D5:00:00:00:15", True, False, True),
    ("PermanentMACAddress=02:d5:00:00:00:15\nName=eth0", True, False, True),
    ("PermanentMACAddress=02:d5:00:00:00:16", False, False, False),
    ("MACAddress=02:d5:00:00:00:15 02:d5:00:00:00:16", True, False, False),
    ("Name=eth1\nName=\nName=eth0", True, False, True),
    ("Driver=veth", False, False, False),
    ("Name=eth0\nPath=pci-*", False, False, True),
    ("", False, False, False),
    ("# Name=eth0", False, False, False),
]


@pytest.mark.parametrize(("lines", "eth0", "lo", "alone"), CASES)
def test_matching(lines: str, eth0: bool, lo: bool, alone: bool) -> None:
    text = f"[Match]\n{lines}\n\n[Network]\nName=other\n"
    assert match.matches(text, ETH0) is eth0
    assert match.matches(text, LO) is lo
    if eth0:
        assert match.names_only(text, ETH0) is alone
