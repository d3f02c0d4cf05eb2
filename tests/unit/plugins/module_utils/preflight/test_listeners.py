# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who listens, from the kernel's tables."""

from __future__ import annotations

import sys
from ipaddress import ip_address
from typing import Any

import pytest

from ansible_collections.dsr.layer2.plugins.module_utils.preflight import listeners
from ansible_collections.dsr.layer2.plugins.module_utils.preflight.listeners import Listener
from ansible_collections.dsr.layer2.plugins.module_utils.preflight.request import Vip

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
TCP = HEAD + (
    "   0: 150200C0:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1 0 100 0 0 10 0\n"
    "   1: 150200C0:0050 0A0200C0:C350 01 00000000:00000000 00:00000000 00000000     0        0 4243 1 0 20 4 30 -1\n"
)
TCP6 = HEAD + (
    "   0: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000"
    " 00000000     0        0 4244 1 0 100 0 0 10 0\n"
    "   1: B80D0120000000000000000021000000:01BB 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000"
    " 00000000     0        0 4245 1 0 100 0 0 10 0\n"
)
UDP = HEAD.replace("tr tm", "  tr tm") + (
    "  100: 00000000:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4246 2 0 0\n"
    "  101: 00000000:0044 010200C0:0043 01 00000000:00000000 00:00000000 00000000     0        0 4247 2 0 0\n"
)


@pytest.mark.skipif(sys.byteorder != "little", reason="the samples are of a little-endian host")
@pytest.mark.parametrize(
    ("table", "text", "expected"),
    [
        ("tcp", TCP, [("tcp", "192.0.2.21", 80, "4242")]),
        ("tcp6", TCP6, [("tcp", "::", 8080, "4244"), ("tcp", "2001:db8::21", 443, "4245")]),
        ("udp", UDP, [("udp", "0.0.0.0", 53, "4246")]),
    ],
)
def test_the_kernels_tables(table: str, text: str, expected: list[Any]) -> None:
    found = [(one.protocol, str(one.address), one.port, one.inode) for one in listeners.parse(table, text)]
    assert found == expected


def listener(address: str, port: int = 80, protocol: str = "tcp") -> Listener:
    return Listener(protocol, ip_address(address), port, f"{port}")


def vip(address: str = "192.0.2.100", *ports: tuple[int, int], protocol: str = "tcp") -> Vip:
    return Vip("web", ip_address(address), protocol, ports or ((80, 80),))


@pytest.mark.parametrize(
    ("wanted", "there", "result"),
    [
        (vip(), [listener("0.0.0.0")], "ok"),
        (vip(), [listener("192.0.2.100")], "ok"),
        (vip(), [listener("::")], "ok"),
        (vip(), [listener("::ffff:192.0.2.100")], "ok"),
        (vip("2001:db8::100"), [listener("::")], "ok"),
        (vip("2001:db8::100"), [listener("0.0.0.0")], "warning"),
        (vip(), [listener("192.0.2.21")], "FAILED"),
        (vip(), [listener("192.0.2.21"), listener("192.0.2.100")], "ok"),
        (vip(), [listener("127.0.0.1")], "FAILED"),
        (vip(), [listener("0.0.0.0", protocol="udp")], "warning"),
        (vip(), [], "warning"),
        (vip("192.0.2.100", (8000, 8100)), [listener("0.0.0.0", 8080)], "ok"),
        (vip("192.0.2.100", (8000, 8100)), [listener("192.0.2.21", 8080)], "warning"),
        (vip("192.0.2.100", (1, 65535)), [listener("0.0.0.0", 22)], "ok"),
        (vip(protocol="sctp"), [], "not tested"),
    ],
)
def test_who_serves_a_vip(wanted: Vip, there: list[Listener], result: str) -> None:
    found = list(listeners.judge([wanted], there, names=lambda inodes: {}))
    assert [one.result for one in found] == [result]


def test_what_is_said_of_a_service_that_listens_aside() -> None:
    vips = [vip(f"192.0.2.{number}") for number in range(100, 107)]
    (found,) = listeners.judge(vips, [listener("192.0.2.21")], names=lambda inodes: {"80": "nginx"})
    assert found.what == (
        "tcp 80 is served at 192.0.2.21 (nginx) only, not at the VIP 192.0.2.100, 192.0.2.101, 192.0.2.102, "
        "192.0.2.103, 192.0.2.104 and 2 more"
    )
    (spared,) = listeners.judge(vips, [listener("192.0.2.21")], in_service=False, names=lambda inodes: {})
    assert spared.result == "warning"


def test_all_ports_are_not_tested() -> None:
    (found,) = listeners.judge([Vip("all", ip_address("192.0.2.100"), "tcp", ())], [])
    assert (found.result, found.what) == ("not tested", "all: takes all ports, or is neither TCP nor UDP")
