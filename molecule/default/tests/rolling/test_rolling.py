# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""After rolling work under load: every backend's service was away for seconds, and the client saw nothing of it."""

from __future__ import annotations

import pytest

from ansible_collections.dsr.layer2.molecule.resources.scenario import Machine, Scenario

LAB = Scenario.running()


def test_no_new_connection_failed() -> None:
    came = LAB.client.run("cat", "/root/comers.json").splitlines()[-1]
    print(came)
    report = LAB.client.json("tail", "-n", "1", "/root/comers.json")
    assert report["ok"] > 500
    assert (report["failed"], report["errors"]) == (0, {})
    assert set(report["by_host"]) == {backend.name for backend in LAB.backends}


def test_no_connection_that_was_held_broke() -> None:
    report = LAB.client.json("cat", "/root/held.json")
    print(report)
    assert (report["answered"], report["held"]) == (60, 60), report
    assert (report["broken"], report["closed"], report["moved"]) == (0, 0, 0), report


@pytest.mark.parametrize("backend", LAB.backends, ids=str)
def test_the_work_was_done_while_nobody_was_there(backend: Machine) -> None:
    worked = backend.json("cat", "/root/worked.json")
    print(worked)
    before, after = worked["before"], worked["after"]
    assert before["connected"] == "0"
    assert int(before["comers"]) > 20  # it had its share until then
    assert after["comers"] == before["comers"]
    assert int(before["process"]) > 0
    assert after["process"] != before["process"]
    assert (
        after["process"] == backend.run("systemctl", "show", "--property=MainPID", "--value", "answers.service").strip()
    )
    assert float(after["at"]) - float(before["at"]) > 2


def test_one_after_the_other() -> None:
    times = [backend.json("cat", "/root/worked.json") for backend in LAB.backends]
    for earlier, later in zip(times, times[1:]):
        assert float(earlier["after"]["at"]) < float(later["before"]["at"])


def test_every_backend_is_back() -> None:
    document = LAB.lb.json("cat", "/etc/nft-dsr/overrides.json")
    assert document["drained"] == []
    report = LAB.client.connect(LAB.vips["web"]["address"], 80, "--count", "200")
    assert (report["failed"], set(report["by_host"])) == (0, {backend.name for backend in LAB.backends})
