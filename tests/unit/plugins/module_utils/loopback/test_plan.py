# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Steps: how they read, what they come to as a diff, and that a run which fails leaves nothing behind."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from ansible_collections.dsr.layer2.plugins.module_utils.common.errors import HostError
from ansible_collections.dsr.layer2.plugins.module_utils.loopback import plan
from ansible_collections.dsr.layer2.plugins.module_utils.loopback.plan import (
    AddAddress,
    DeleteAddress,
    FileState,
    Refresh,
    SetFile,
    SetSymlink,
    SetSysctl,
    Step,
)

VIP = ipaddress.ip_interface("10.77.0.100/32")
OTHER = ipaddress.ip_interface("10.77.0.101/32")

STEPS: list[Step] = [
    SetFile("/etc/a", None, FileState("a\n", 0o644)),
    SetFile("/etc/b", FileState("b\n", 0o600), None),
    SetSymlink("/etc/c", None, "/etc/a"),
    SetSysctl("all", "arp_ignore", 0, 1),
    DeleteAddress("lo", OTHER),
    Refresh(("systemctl", "daemon-reload")),
    AddAddress("lo", VIP),
]


def test_steps_read_as_what_they_do() -> None:
    assert [str(step) for step in STEPS] == [
        "write /etc/a",
        "remove /etc/b",
        "link /etc/c to /etc/a",
        "sysctl net.ipv4.conf.all.arp_ignore=1",
        "ip address delete 10.77.0.101/32 dev lo",
        "systemctl daemon-reload",
        "ip address replace 10.77.0.100/32 dev lo",
    ]


def test_diff() -> None:
    shown = {part["before_header"]: (part["before"], part["after"]) for part in plan.diff(STEPS)}
    assert shown == {
        "kernel": (
            "net.ipv4.conf.all.arp_ignore = 0\n10.77.0.101/32 dev lo\n",
            "net.ipv4.conf.all.arp_ignore = 1\n10.77.0.100/32 dev lo\n",
        ),
        "/etc/a": ("", "a\n"),
        "/etc/b": ("b\n", ""),
        "/etc/c": ("", "link to /etc/a\n"),
    }
    assert plan.diff([]) == []


def test_diff_of_a_file_that_is_written_twice_and_of_permissions() -> None:
    old, middle, new = (FileState(text, 0o644) for text in ("1\n", "2\n", "3\n"))
    (part,) = plan.diff([SetFile("/x", old, middle), SetFile("/x", middle, new)])
    assert (part["before"], part["after"]) == ("1\n", "3\n")
    (part,) = plan.diff([SetFile("/x", old, FileState("1\n", 0o600))])
    assert (part["before"], part["after"]) == ("mode: 0644\n", "mode: 0600\n")


def test_a_run_that_fails_is_taken_back(machine: Any) -> None:
    machine.put("/etc/b", "b\n", 0o600)
    machine.hold("lo", str(OTHER))
    before = machine.snapshot()
    machine.fail_at = "add 10.77.0.100"
    with pytest.raises(HostError, match="nothing has changed"):
        machine.host.apply(STEPS)
    assert machine.commands == ["systemctl daemon-reload"] * 2, "what was read has to be read again"
    machine.fail_at = ""
    assert machine.snapshot() == before
    machine.host.apply(STEPS)
    assert machine.addresses_of("lo") == [str(VIP)]
    assert machine.get("/etc/b") is None


def test_what_cannot_be_taken_back_is_said(machine: Any) -> None:
    machine.hold("lo", str(OTHER))
    steps: list[Step] = [DeleteAddress("lo", OTHER), AddAddress("lo", VIP)]
    machine.fail_at = "add"
    with pytest.raises(HostError, match=r"add 10.77.0.100/32 lo' failed.*Not all .* could be undone: .*10.77.0.101"):
        machine.host.apply(steps)
