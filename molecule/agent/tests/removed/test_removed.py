# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""After remove: the load balancer as it was before, without program, unit or process of the agent."""

from __future__ import annotations

import difflib

from ansible_collections.dsr.layer2.molecule.resources.scenario import Scenario

LAB = Scenario.running()


def test_nothing_is_left() -> None:
    before = LAB.lb.run("cat", "/root/before").splitlines()
    now = LAB.lb.run("python3", "/opt/lab/traces.py").splitlines()
    assert any(line.startswith("folder /usr/local/sbin") for line in before)
    changes = [line for line in difflib.ndiff(before, now) if line[0] in "-+"]
    assert not changes, "\n".join(changes)


def test_no_agent_runs() -> None:
    processes = LAB.lb.run("ps", "-eo", "args")
    assert "systemd" in processes
    assert "nft-dsr" not in processes


def test_nothing_is_left_in_memory_that_is_nobodys() -> None:
    assert LAB.lb.run("find", "/run/nft-dsr", "-nouser", "-o", "-nogroup", "-o", "-name", "agent*") == ""
