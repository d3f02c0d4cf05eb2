# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""IPv6 neighbour discovery on real segments: who answers, who does not, and telling about our own addresses."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from lab import Lab
from lab.modules import ModuleRunner
from lab.standard import ADDRESSES, ADDRESSES6, VIPS6

VIP = VIPS6[0]
LB, CLIENT, B1, B2, B3 = (f"02:d5:00:00:00:{last}" for last in ("02", "0a", "15", "16", "17"))
BACKENDS = [ADDRESSES6[name] for name in ("b1", "b2", "b3")]

CALL = """
import json, sys
from ansible_collections.dsr.layer2.plugins.module_utils.common import errors, neighbours
name, arguments = json.load(sys.stdin)
try:
    answer = getattr(neighbours, name)(*arguments)
    print(json.dumps({mac: sorted(macs) for mac, macs in answer.items()} if answer else None))
except errors.HostError as error:
    print(json.dumps(str(error)))
"""


def call(lab: Lab, runner: ModuleRunner, host: str, name: str, *arguments: Any, before: tuple[str, ...] = ()) -> Any:
    """Call a function of common/neighbours.py on a host."""
    python = ["/usr/bin/env", f"PYTHONPATH={runner.folder}", "PYTHONDONTWRITEBYTECODE=1", "/usr/bin/python3"]
    return lab.run(host, [*before, *python, "-c", CALL], input=json.dumps([name, arguments])).json()


def ask(lab_module: Any, host: str, addresses: list[str], **how: Any) -> dict[str, list[str]]:
    result = lab_module.ok(host, "dsr_neighbour_info", {"addresses": addresses, **how})
    return {answer["address"]: answer["macs"] for answer in result["answers"]}


def test_answers_come_in_the_order_asked_from_a_cold_cache(lab: Lab, lab_module: Any) -> None:
    lab.ip("lb", "neighbour flush all")
    asked = [BACKENDS[2], ADDRESSES["b1"], BACKENDS[0]]
    result = lab_module.ok("lb", "dsr_neighbour_info", {"addresses": asked})
    assert result["answers"] == [
        {"address": BACKENDS[2], "interface": "eth0", "macs": [B3]},
        {"address": ADDRESSES["b1"], "interface": "eth0", "macs": [B1]},
        {"address": BACKENDS[0], "interface": "eth0", "macs": [B1]},
    ]
    assert BACKENDS[0] not in lab.run("lb", ["ip", "-6", "neighbour", "show"]).stdout, (
        "the kernel's table is left alone"
    )


def test_it_asks_and_does_not_look_up(lab: Lab, lab_module: Any) -> None:
    lab.ip("client", f"neighbour replace {BACKENDS[0]} lladdr 02:00:00:00:00:99 dev eth0 nud permanent")
    try:
        assert ask(lab_module, "client", BACKENDS[:1]) == {BACKENDS[0]: [B1]}
        assert "02:00:00:00:00:99 PERMANENT" in lab.run("client", ["ip", "neighbour", "show", BACKENDS[0]]).stdout
    finally:
        lab.ip("client", f"neighbour delete {BACKENDS[0]} dev eth0")


def test_nobody_answers(lab: Lab, lab_module: Any) -> None:
    began = time.monotonic()
    answers = ask(lab_module, "client", ["fd00:77::99", BACKENDS[0]], timeout=0.3, attempts=2)
    assert answers == {"fd00:77::99": [], BACKENDS[0]: [B1]}
    assert 0.6 < time.monotonic() - began < 10


def test_two_hosts_answer_for_one_address(lab: Lab, lab_module: Any) -> None:
    for host in ("b1", "b2"):
        lab.ip(host, "address add fd00:77::50/64 dev eth0 nodad")
    try:
        assert ask(lab_module, "client", ["fd00:77::50"]) == {"fd00:77::50": [B1, B2]}
    finally:
        for host in ("b1", "b2"):
            lab.ip(host, "address delete fd00:77::50/64 dev eth0")


def test_only_the_load_balancer_answers_for_the_vip(lab: Lab, lab_module: Any) -> None:
    assert ask(lab_module, "client", [VIP]) == {VIP: [LB]}
    assert ask(lab_module, "lb", [VIP], attempts=1, timeout=0.3) == {VIP: []}


def test_the_load_balancer_finds_a_backend_that_holds_the_vip_on_its_nic(lab: Lab, lab_module: Any) -> None:
    lab.ip("b2", f"address add {VIP}/128 dev eth0 nodad")
    try:
        assert ask(lab_module, "lb", [VIP], attempts=1, timeout=0.3) == {VIP: [B2]}
        assert ask(lab_module, "client", [VIP]) == {VIP: [LB, B2]}
    finally:
        lab.ip("b2", f"address delete {VIP}/128 dev eth0")


def test_an_ipv6_address_on_lo_is_answered_for_by_no_setting_of_arp(lab: Lab, lab_module: Any) -> None:
    """As the documentation says: suppression is for IPv4 alone."""
    lab.run("b2", ["sysctl", "-qw", "net.ipv4.conf.all.arp_ignore=0"])
    try:
        assert ask(lab_module, "client", [VIP]) == {VIP: [LB]}
    finally:
        lab.run("b2", ["sysctl", "-qw", "net.ipv4.conf.all.arp_ignore=1"])


def test_two_hundred_at_once(lab: Lab, lab_module: Any, module_runner: ModuleRunner) -> None:
    """On a network that the asker has no address on, which its link-local address makes up for."""
    addresses = [f"fd00:78::{number}" for number in range(1, 201)]
    lab.ip("b1", *(f"address add {address}/64 dev eth0 nodad" for address in addresses))
    capture = lab.start_traffic(
        "b1", "capture", "eth0", "--operation", "solicitation", "--from-mac", LB, "--records", 1
    )
    try:
        answers = call(lab, module_runner, "lb", "resolve", "eth0", [*addresses, *BACKENDS, ADDRESSES["b3"]])
        seen = capture.stop()
    finally:
        capture.close()
        lab.ip("b1", "address flush dev eth0 to fd00:78::/64")
    everyone = {address: [B1] for address in addresses}
    everyone.update({ADDRESSES["b3"]: [B3], **dict(zip(BACKENDS, [[B1], [B2], [B3]]))})
    assert answers == everyone
    assert seen["frames"] == 203, "each is asked once"
    assert (seen["records"][0]["source"], seen["records"][0]["ttl"]) == ("fe80::d5:ff:fe00:2", 255)


def test_a_nic_without_ipv6(lab: Lab, lab_module: Any) -> None:
    lab.run("client", ["sysctl", "-qw", "net.ipv6.conf.eth0.disable_ipv6=1"])
    try:
        arguments = {"addresses": BACKENDS, "interface": "eth0"}
        said = lab_module.fails("client", "dsr_neighbour_info", arguments)
        assert "interface 'eth0' has no IPv6 address of its own to ask its neighbours from" in said
        assert ask(lab_module, "client", [ADDRESSES["b1"]]) == {ADDRESSES["b1"]: [B1]}, "IPv4 does without"
    finally:
        lab.run("client", ["sysctl", "-qw", "net.ipv6.conf.eth0.disable_ipv6=0"])
        lab.ip("client", f"address add {ADDRESSES6['client']}/64 dev eth0 nodad")


def test_without_privilege(lab: Lab, module_runner: ModuleRunner) -> None:
    without = ("setpriv", "--bounding-set=-net_raw")
    said = call(lab, module_runner, "client", "resolve", "eth0", BACKENDS, before=without)
    assert "root or CAP_NET_RAW" in said


@pytest.mark.parametrize("forwarding", [0, 1])
def test_an_announcement_is_heeded_and_hosts_keep_their_router(
    lab: Lab, module_runner: ModuleRunner, forwarding: int
) -> None:
    """After a VIP has moved, hosts that know its old MAC learn the new one."""
    lab.run("lb", ["sysctl", "-qw", f"net.ipv6.conf.all.forwarding={forwarding}"])
    lab.ip("client", f"neighbour replace {VIP} lladdr {B1} dev eth0 nud stale")
    capture = lab.start_traffic("client", "capture", "eth0", "--operation", "advertisement", "--records", 9)
    try:
        assert call(lab, module_runner, "lb", "announce", "eth0", [VIP]) is None
        frames = capture.stop()["records"]
        entry = lab.run("client", ["ip", "neighbour", "show", VIP]).stdout
    finally:
        capture.close()
        lab.run("lb", ["sysctl", "-qw", "net.ipv6.conf.all.forwarding=0"])
        lab.ip("client", f"neighbour delete {VIP} dev eth0")
    assert LB in entry
    assert ("router" in entry) is bool(forwarding)
    assert [(frame["source"], frame["target"], frame["destination"], frame["to_mac"]) for frame in frames] == [
        (VIP, VIP, "ff02::1", "33:33:00:00:00:01")
    ]
