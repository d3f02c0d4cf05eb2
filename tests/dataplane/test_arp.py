# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ARP on real segments: who answers, who does not, who should not, and telling about our own addresses."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from lab import Lab
from lab.modules import ModuleRunner
from lab.running import Result

VIP = "10.77.0.100"
LB, CLIENT, B1, B2, B3 = (f"02:d5:00:00:00:{last}" for last in ("02", "0a", "15", "16", "17"))
BACKENDS = ["10.77.0.21", "10.77.0.22", "10.77.0.23"]

CALL = """
import json, sys
from ansible_collections.dsr.layer2.plugins.module_utils.common import arp, errors
name, arguments = json.load(sys.stdin)
try:
    answer = getattr(arp, name)(*arguments)
    print(json.dumps({mac: sorted(macs) for mac, macs in answer.items()} if answer else None))
except errors.HostError as error:
    print(json.dumps(str(error)))
"""


def call(lab: Lab, runner: ModuleRunner, host: str, name: str, *arguments: Any, before: tuple[str, ...] = ()) -> Any:
    """Call a function of common/arp.py on a host."""
    return run(lab, runner, host, CALL, json.dumps([name, arguments]), before).json()


def run(lab: Lab, runner: ModuleRunner, host: str, code: str, input: str = "", before: tuple[str, ...] = ()) -> Result:
    """Run Python on a host, where it finds this collection."""
    python = ["/usr/bin/env", f"PYTHONPATH={runner.folder}", "PYTHONDONTWRITEBYTECODE=1", "/usr/bin/python3"]
    return lab.run(host, [*before, *python, "-c", code], input=input)


def macs(result: dict[str, Any]) -> dict[str, list[str]]:
    return {answer["address"]: answer["macs"] for answer in result["answers"]}


def test_answers_come_in_the_order_asked_from_a_cold_cache(lab: Lab, lab_module: Any) -> None:
    lab.ip("lb", "neighbour flush all")
    result = lab_module.ok("lb", "dsr_neighbour_info", {"addresses": [BACKENDS[2], BACKENDS[0], BACKENDS[1]]})
    assert result["changed"] is False
    assert result["answers"] == [
        {"address": BACKENDS[2], "interface": "eth0", "macs": [B3]},
        {"address": BACKENDS[0], "interface": "eth0", "macs": [B1]},
        {"address": BACKENDS[1], "interface": "eth0", "macs": [B2]},
    ]


def test_it_asks_and_does_not_look_up(lab: Lab, lab_module: Any) -> None:
    """A wrong entry in the kernel's neighbour table is neither believed nor touched."""
    entry = f"neighbour replace {BACKENDS[0]} lladdr 02:00:00:00:00:99 dev eth0 nud permanent"
    lab.ip("client", entry)
    try:
        assert macs(lab_module.ok("client", "dsr_neighbour_info", {"addresses": BACKENDS[:1]})) == {BACKENDS[0]: [B1]}
        table = lab.run("client", ["ip", "neighbour", "show", BACKENDS[0]]).stdout
        assert "02:00:00:00:00:99 PERMANENT" in table
    finally:
        lab.ip("client", f"neighbour delete {BACKENDS[0]} dev eth0")


def test_in_check_mode_too(lab: Lab, lab_module: Any) -> None:
    result = lab_module.ok("client", "dsr_neighbour_info", {"addresses": BACKENDS[:1]}, check=True)
    assert macs(result) == {BACKENDS[0]: [B1]}


def test_nobody_answers(lab: Lab, lab_module: Any) -> None:
    began = time.monotonic()
    result = lab_module.ok(
        "client", "dsr_neighbour_info", {"addresses": ["10.77.0.99", BACKENDS[0]], "timeout": 0.3, "attempts": 2}
    )
    assert macs(result) == {"10.77.0.99": [], BACKENDS[0]: [B1]}
    assert 0.6 < time.monotonic() - began < 10


def test_two_hosts_answer_for_one_address(lab: Lab, lab_module: Any) -> None:
    for host in ("b1", "b2"):
        lab.ip(host, "address add 10.77.0.50/24 dev eth0")
    try:
        assert macs(lab_module.ok("client", "dsr_neighbour_info", {"addresses": ["10.77.0.50"]})) == {
            "10.77.0.50": [B1, B2]
        }
    finally:
        for host in ("b1", "b2"):
            lab.ip(host, "address delete 10.77.0.50/24 dev eth0")


def test_only_the_load_balancer_answers_for_the_vip(lab: Lab, lab_module: Any) -> None:
    assert macs(lab_module.ok("client", "dsr_neighbour_info", {"addresses": [VIP]})) == {VIP: [LB]}
    ours = {"addresses": [VIP], "attempts": 1, "timeout": 0.3}
    assert macs(lab_module.ok("lb", "dsr_neighbour_info", ours)) == {VIP: []}


def test_the_load_balancer_finds_a_backend_that_answers_for_its_vip(lab: Lab, lab_module: Any) -> None:
    lab.run("b2", ["sysctl", "-qw", "net.ipv4.conf.all.arp_ignore=0"])
    try:
        ours = {"addresses": [VIP], "attempts": 1, "timeout": 0.3}
        assert lab_module.ok("lb", "dsr_neighbour_info", ours)["answers"] == [
            {"address": VIP, "interface": "eth0", "macs": [B2]}
        ]
        assert macs(lab_module.ok("client", "dsr_neighbour_info", {"addresses": [VIP]})) == {VIP: [LB, B2]}
    finally:
        lab.run("b2", ["sysctl", "-qw", "net.ipv4.conf.all.arp_ignore=1"])


def test_two_hundred_at_once(lab: Lab, lab_module: Any) -> None:
    """On a network that the asker has no address on: it asks with 0.0.0.0, and is answered."""
    addresses = [f"10.78.0.{number}" for number in range(1, 201)]
    lab.ip("b1", *(f"address add {address}/24 dev eth0" for address in addresses))
    capture = lab.start_traffic("b1", "capture", "eth0", "--protocol", "arp", "--operation", "request")
    try:
        asked = [*addresses, *BACKENDS]
        result = lab_module.ok("lb", "dsr_neighbour_info", {"addresses": asked, "interface": "eth0", "settle": 0.0})
        requests = capture.stop()["by_source"][LB]["frames"]
    finally:
        capture.close()
        lab.ip("b1", "address flush dev eth0 to 10.78.0.0/24")
    everyone = {**{address: [B1] for address in addresses}, **dict(zip(BACKENDS, [[B1], [B2], [B3]]))}
    assert macs(result) == everyone
    assert requests == 203, "each is asked once"


@pytest.mark.parametrize(
    "what, before, after, message",
    [
        ("down", "link_down", "link_up", "interface 'eth0' is down"),
        ("no carrier", "unplug", "plug", "interface 'eth0' has no carrier"),
    ],
)
@pytest.mark.parametrize("module", ["dsr_neighbour_info", "dsr_probe"])
def test_a_nic_that_cannot_send(
    lab: Lab, lab_module: Any, module: str, what: str, before: str, after: str, message: str
) -> None:
    arguments = {"addresses": BACKENDS} if module == "dsr_neighbour_info" else {"address": VIP, "port": 80}
    getattr(lab, before)("client")
    try:
        assert message in lab_module.fails("client", module, {**arguments, "interface": "eth0"})
    finally:
        getattr(lab, after)("client")


FALL = """
import subprocess
from ansible_collections.dsr.layer2.plugins.module_utils.common import arp, errors
wait = arp.PacketSocket.wait
def down_and_wait(self, deadline):
    subprocess.run(["ip", "link", "set", "eth0", "down"], check=True)
    return wait(self, deadline)
arp.PacketSocket.wait = down_and_wait
try:
    arp.resolve("eth0", ["10.77.0.99"])
except errors.HostError as error:
    print('"' + str(error).replace("'", "") + '"')
"""


def test_a_nic_that_goes_down_meanwhile(lab: Lab, module_runner: ModuleRunner) -> None:
    try:
        assert "interface eth0 went down or away" in run(lab, module_runner, "client", FALL).json()
    finally:
        lab.link_up("client")


@pytest.mark.parametrize(
    "interface, message",
    [("eth7", "interface 'eth7' does not exist on this host; it has eth0, lo"), ("lo", "is not an Ethernet interface")],
)
@pytest.mark.parametrize("module", ["dsr_neighbour_info", "dsr_probe"])
def test_a_nic_that_will_not_do(lab: Lab, lab_module: Any, module: str, interface: str, message: str) -> None:
    arguments = {"addresses": BACKENDS} if module == "dsr_neighbour_info" else {"address": VIP, "port": 80}
    assert message in lab_module.fails("client", module, {**arguments, "interface": interface})


def test_without_privilege(lab: Lab, module_runner: ModuleRunner) -> None:
    without = ("setpriv", "--bounding-set=-net_raw")
    said = call(lab, module_runner, "client", "resolve", "eth0", BACKENDS, before=without)
    assert "'eth0'" in said
    assert "root or CAP_NET_RAW" in said


def test_net_raw_is_privilege_enough(lab: Lab, module_runner: ModuleRunner) -> None:
    raw = ("setpriv", "--bounding-set=-all,+net_raw")
    assert call(lab, module_runner, "client", "resolve", "eth0", BACKENDS[:1], before=raw) == {BACKENDS[0]: [B1]}


def test_an_announcement_is_heeded(lab: Lab, module_runner: ModuleRunner) -> None:
    """After a VIP has moved, hosts that know its old MAC learn the new one."""
    lab.ip("client", f"neighbour replace {VIP} lladdr {B1} dev eth0 nud stale")
    capture = lab.start_traffic("client", "capture", "eth0", "--arp", VIP, "--direction", "in", "--records", 9)
    try:
        assert call(lab, module_runner, "lb", "announce", "eth0", [VIP]) is None
        frames = capture.stop()["records"]
    finally:
        capture.close()
    assert LB in lab.run("client", ["ip", "neighbour", "show", VIP]).stdout
    assert [(frame["operation"], frame["source"], frame["destination"], frame["to_mac"]) for frame in frames] == [
        (operation, VIP, VIP, "ff:ff:ff:ff:ff:ff") for operation in ("request", "reply")
    ]
