# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""After remove: every machine as it was before the collection came, and the VIPs served by nobody."""

from __future__ import annotations

import difflib

import pytest

from ansible_collections.dsr.layer2.molecule.resources.scenario import INTERFACE, Machine, Scenario

LAB = Scenario.running()
ADDRESSES = [str(machine.settings["lab_vip"]) for machine in LAB.backends]


@pytest.mark.parametrize("machine", LAB.machines, ids=repr)
def test_nothing_is_left(machine: Machine) -> None:
    """Files, links, sysctl settings, addresses, nftables rules and running units, all of them."""
    before = machine.run("cat", "/root/before").splitlines()
    now = machine.run("python3", "/opt/lab/traces.py").splitlines()
    assert any(line.startswith("sysctl /proc/sys/net/ipv4/conf/all/arp_ignore ") for line in before)
    changes = [line for line in difflib.ndiff(before, now) if line[0] in "-+"]
    assert not changes, "\n".join(changes)


def test_nobody_answers_arp_for_a_vip() -> None:
    options = ("--protocol", "arp", "--operation", "reply", "--direction", "in", "--records", "100")
    ask = " & ".join(f"arping -b -c 1 -w 1 -I {INTERFACE} {address}" for address in ADDRESSES)
    with LAB.client.capture(*options) as report:
        LAB.client.run("sh", "-c", f"{ask} & wait")
    assert not {record["source"] for record in report["records"]} & set(ADDRESSES)


@pytest.mark.parametrize("backend", LAB.backends, ids=repr)
def test_backends_still_serve_at_their_own_address(backend: Machine) -> None:
    report = LAB.client.connect(backend.address, 80)
    assert report["by_host"] == {backend.name: 1}
