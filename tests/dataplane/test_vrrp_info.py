# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""dsr_vrrp_info hears adverts that a real keepalived sends, and says what is wrong with what it is asked."""

from __future__ import annotations

from typing import Any

import pytest
from balancer import OTHER6
from lab import Lab

CONFIG = """\
vrrp_instance one {{
    state MASTER
    interface eth0
    virtual_router_id {router_id}
    version {version}
    priority {priority}
    advert_int {interval}
    virtual_ipaddress {{
        {address} dev lo
    }}
}}
"""
GIVEN = {"router_id": 51, "version": 3, "priority": 123, "interval": 0.2, "address": "127.9.9.9"}


@pytest.mark.parametrize(
    ("given", "source"),
    [
        ({}, "10.77.0.22"),
        ({"version": 2, "interval": 1, "router_id": 7}, "10.77.0.22"),
        ({"address": "fe80::5 dev eth0\n" + 8 * " " + OTHER6, "router_id": 200}, "fe80:"),
    ],
)
def test_what_a_router_says(lab: Lab, lab_module: Any, given: dict[str, Any], source: str) -> None:
    settings = {**GIVEN, **given}
    lab.write("b2", "/etc/keepalived/other.conf", CONFIG.format(**settings))
    files = ["--use-file", "/etc/keepalived/other.conf", "--pid", "/run/k.pid", "--vrrp_pid", "/run/v.pid"]
    with lab.popen("b2", ["keepalived", "--dont-fork", "--vrrp", "--log-console", "--no-syslog", *files]):
        for _time in range(5):  # it begins to send when it has waited for others
            found = lab_module.ok("lb", "dsr_vrrp_info", {"interface": "eth0", "seconds": 2.5})
            if found["routers"]:
                break
    (router,) = found["routers"]
    assert router.pop("source").startswith(source)
    assert router == {key: settings[key] for key in ("version", "router_id", "priority", "interval")}
    assert not found["changed"]
    # Its own are not heard, and where nobody speaks there is nothing.
    assert lab_module.ok("lb", "dsr_vrrp_info", {"interface": "eth0", "seconds": 0.5})["routers"] == []


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"interface": "eth7"}, "interface 'eth7' does not exist"),
        ({"interface": "lo"}, "interface 'lo' is not an Ethernet interface"),
        ({"interface": "eth0", "seconds": 0}, "seconds: 0 is not between 0.1 and 600"),
    ],
)
def test_what_is_refused(lab_module: Any, asked: dict[str, Any], said: str) -> None:
    assert said in lab_module.fails("lb", "dsr_vrrp_info", asked)
