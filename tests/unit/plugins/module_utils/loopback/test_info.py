# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a look at a backend tells."""

from __future__ import annotations

from typing import Any

import pytest

VIP, OTHER, VIP6 = "10.77.0.100", "10.77.0.101", "fd00::100"
BASE = "network:\n  version: 2\n  ethernets:\n    eth0:\n      dhcp4: true\n"


@pytest.fixture
def machine(machine: Any) -> Any:
    machine.install_netplan(**{"50-base": BASE})
    return machine


def test_a_backend_in_order(machine: Any) -> None:
    machine.backend(VIP, VIP6)
    before = machine.snapshot()
    found = machine.info(VIP, VIP6)
    assert machine.snapshot() == before
    assert found == {
        "vips": [{"address": VIP, "interface": "lo"}, {"address": VIP6, "interface": "lo"}],
        "sysctls": {
            "all": {"arp_ignore": 1, "arp_announce": 2},
            "eth0": {
                "arp_ignore": 0,
                "arp_announce": 0,
                "effective_arp_ignore": 1,
                "effective_arp_announce": 2,
            },
            "lo": {"arp_ignore": 0, "arp_announce": 0, "effective_arp_ignore": 1, "effective_arp_announce": 2},
        },
        "persisted": {
            "manager": "netplan",
            "vips": [VIP, VIP6],
            "sysctl_file": {
                "path": "/etc/sysctl.d/99-dsr.conf",
                "exists": True,
                "managed": True,
                "arp_ignore": 1,
                "arp_announce": 2,
            },
            "netplan_file": {
                "path": "/etc/netplan/99-dsr.yaml",
                "exists": True,
                "managed": True,
                "addresses": {"lo": [VIP, VIP6]},
            },
            "networkd_files": [],
            "at_boot": {"arp_ignore": 1, "arp_announce": 2},
        },
        "answers_arp": [
            {"address": VIP, "answers": False, "interfaces": []},
            {"address": VIP6, "answers": False, "interfaces": []},
        ],
        "problems": [],
    }


def test_a_host_that_is_no_backend(machine: Any) -> None:
    found = machine.info()
    assert found["vips"] == found["answers_arp"] == found["problems"] == []
    assert found["persisted"]["manager"] == "none"
    assert found["persisted"]["sysctl_file"]["arp_ignore"] is None


def test_persist_none_is_no_problem_for_who_chose_it(machine: Any) -> None:
    machine.backend(VIP, persist="none")
    assert machine.info(VIP)["problems"] == []


def test_a_vip_by_hand(machine: Any) -> None:
    """It is found without being asked about: it is on lo, and answered for."""
    machine.hold("lo", f"{VIP}/32")
    found = machine.info()
    assert found["vips"] == [{"address": VIP, "interface": "lo"}]
    assert found["answers_arp"] == [{"address": VIP, "answers": True, "interfaces": ["eth0"]}]
    problems = "\n".join(found["problems"])
    assert f"this host answers ARP for {VIP} on eth0" in problems
    assert "net.ipv4.conf.all.arp_ignore is 0" in problems
    assert "net.ipv4.conf.all.arp_announce is 0" in problems
    assert "no file of sysctl.d sets net.ipv4.conf.all.arp_ignore" in problems
    assert "brings" not in problems
    assert f"no file of this collection brings {VIP} back at boot" in machine.info(VIP)["problems"]


PROBLEMS = [
    (lambda machine: machine.drop("lo", f"{VIP}/32"), f"{VIP} is not on lo"),
    (lambda machine: machine.sysctl("eth0", "arp_ignore", 3), "net.ipv4.conf.eth0.arp_ignore is 3"),
    (lambda machine: machine.hold("eth0", f"{VIP}/32"), f"this host answers ARP for {VIP} on eth0"),
    (lambda machine: (machine.folder / "etc/netplan/99-dsr.yaml").unlink(), f"no file of this collection brings {VIP}"),
    (lambda machine: (machine.folder / "etc/sysctl.d/99-dsr.conf").unlink(), "no file of sysctl.d sets"),
    (
        lambda machine: machine.put("/etc/sysctl.d/99-z.conf", "net.ipv4.conf.all.arp_ignore=0\n"),
        "/etc/sysctl.d/99-z.conf line 1",
    ),
    (
        lambda machine: machine.put("/etc/sysctl.conf", "net.ipv4.conf.all.arp_ignore=0\n"),
        "/etc/sysctl.conf line 1",
    ),
]


@pytest.mark.parametrize(("harm", "message"), PROBLEMS)
def test_what_is_wrong_is_named(machine: Any, harm: Any, message: str) -> None:
    machine.backend(VIP)
    harm(machine)
    assert any(message in problem for problem in machine.info(VIP)["problems"])


def test_ipv6_on_a_nic_is_answered(machine: Any) -> None:
    machine.hold("eth0", f"{VIP6}/128")
    (answer,) = machine.info(VIP6)["answers_arp"]
    assert answer == {"address": VIP6, "answers": True, "interfaces": ["eth0"]}
