# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""After a boot: the agent runs, and finds all backends well."""

from __future__ import annotations

from ansible_collections.dsr.layer2.molecule.resources.scenario import Scenario

LAB = Scenario.running()


def test_nothing_was_configured_since_boot() -> None:
    unit = "/etc/systemd/system/nft-dsr-agent.service"
    written, started = LAB.lb.run("stat", "--format=%Y", unit, "/proc/1").split()
    assert int(written) < int(started)


def test_agent_runs_after_the_rules_were_loaded() -> None:
    times = {}
    for unit in ("nft-dsr.service", "nft-dsr-agent.service"):
        shown = LAB.lb.run("systemctl", "show", "--property=ActiveState,ActiveEnterTimestampMonotonic,NRestarts", unit)
        found = dict(line.split("=") for line in shown.split())
        assert (found["ActiveState"], found["NRestarts"]) == ("active", "0")
        times[unit] = int(found["ActiveEnterTimestampMonotonic"])
    assert times["nft-dsr.service"] < times["nft-dsr-agent.service"]


def test_every_check_succeeds() -> None:
    LAB.lb.run("nft-dsr", "check")


def test_every_backend_is_in_service() -> None:
    status = LAB.lb.json("nft-dsr", "status", "--json")
    assert status["agent"]
    assert {vip["name"] for vip in status["vips"]} == set(LAB.vips)
    for vip in status["vips"]:
        assert vip["in_sync"], vip["differences"]
        assert {backend["name"]: backend["healthy"] for backend in vip["backends"]} == {
            backend.name: True for backend in LAB.backends
        }


def test_every_backend_serves() -> None:
    report = LAB.client.connect(LAB.vips["web"]["address"], 80, "--count", "60")
    assert (report["ok"], report["failed"]) == (60, 0)
    assert set(report["by_host"]) == {backend.name for backend in LAB.backends}
