# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shell of dsr_probe and dsr_neighbour_info: what they make of results, problems and errors."""

from __future__ import annotations

import json
from types import ModuleType
from typing import Any

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args

from ansible_collections.dsr.layer2.plugins.module_utils.common.errors import HostError
from ansible_collections.dsr.layer2.plugins.module_utils.probe.request import Request
from ansible_collections.dsr.layer2.plugins.modules import dsr_neighbour_info, dsr_probe

FIGURES = {"answered": 30, "unanswered": 0, "direct": 30, "through_lb": 0, "backends": [], "connections": []}
VIP = {"address": "10.77.0.100", "port": 80}


def outcome(module: ModuleType, capsys: pytest.CaptureFixture[str], arguments: dict[str, Any]) -> dict[str, Any]:
    with patch_module_args(arguments), pytest.raises(SystemExit) as ended:
        module.main()
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert bool(result.get("failed")) is (ended.value.code != 0)
    assert not result.get("changed", False)
    return result


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    """The requests that reached the probe, which finds nothing wrong."""
    asked: list[Request] = []

    def probe(request: Request) -> tuple[dict[str, Any], str]:
        asked.append(request)
        return dict(FIGURES), ""

    monkeypatch.setattr(dsr_probe, "probe", probe)
    return asked


def finds(monkeypatch: pytest.MonkeyPatch, problem: str, **figures: Any) -> None:
    monkeypatch.setattr(dsr_probe, "probe", lambda _request: ({**FIGURES, **figures}, problem))


def test_all_is_well(found: list[Request], capsys: pytest.CaptureFixture[str]) -> None:
    result = outcome(dsr_probe, capsys, VIP)
    assert {key: result[key] for key in FIGURES} == FIGURES
    assert result["failed"] == 0
    assert result["failed"] is not False, "it is a number"
    (request,) = found
    assert (request.connections, request.timeout, request.expect_direct) == (30, 2.0, True)


def test_check_mode_probes_too(found: list[Request], capsys: pytest.CaptureFixture[str]) -> None:
    outcome(dsr_probe, capsys, {**VIP, "_ansible_check_mode": True})
    assert len(found) == 1


def test_a_problem_fails_the_task_with_the_figures(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    finds(monkeypatch, "30 went through", direct=0, through_lb=30)
    result = outcome(dsr_probe, capsys, VIP)
    assert (result["failed"], result["msg"], result["through_lb"]) == (True, "30 went through", 30)


def test_a_problem_that_is_not_asked_about_is_reported_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    finds(monkeypatch, "2 were not answered", answered=28, unanswered=2)
    result = outcome(dsr_probe, capsys, {**VIP, "expect_direct": False})
    assert result["unanswered"] == 2
    assert "failed" not in result, "a number above 0 would fail the task"


@pytest.mark.parametrize(
    "changed, said",
    [
        ({"port": 0}, "port: 0 is not a number from 1 to 65535"),
        ({"address": "fe80::1"}, "address: 'fe80::1' is a link-local address"),
        ({"through": "ff:ff:ff:ff:ff:ff"}, "through: 'ff:ff:ff:ff:ff:ff' is a group"),
        ({"protocol": "sctp"}, "value of protocol must be one of: tcp, udp"),
        ({"connections": "many"}, "'connections'"),
    ],
)
def test_bad_input_sends_nothing(
    found: list[Request], capsys: pytest.CaptureFixture[str], changed: dict[str, Any], said: str
) -> None:
    assert said in outcome(dsr_probe, capsys, {**VIP, **changed})["msg"]
    assert found == []


def test_what_the_host_lacks_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(*_: object) -> None:
        raise HostError("interface 'eth7' does not exist on this host")

    monkeypatch.setattr(dsr_probe, "probe", fail)
    assert outcome(dsr_probe, capsys, VIP)["msg"] == "interface 'eth7' does not exist on this host"
    monkeypatch.setattr(dsr_neighbour_info, "neighbour_info", fail)
    result = outcome(dsr_neighbour_info, capsys, {"addresses": ["10.77.0.21"]})
    assert result["msg"] == "interface 'eth7' does not exist on this host"


def test_neighbours_are_returned(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    answers = [{"address": "10.77.0.21", "interface": "eth0", "macs": ["02:d5:00:00:00:15"]}]
    asked: list[dict[str, Any]] = []

    def neighbour_info(options: dict[str, Any]) -> list[dict[str, Any]]:
        asked.append(options)
        return answers

    monkeypatch.setattr(dsr_neighbour_info, "neighbour_info", neighbour_info)
    assert outcome(dsr_neighbour_info, capsys, {"addresses": ["10.77.0.21"]})["answers"] == answers
    assert asked == [{"addresses": ["10.77.0.21"], "interface": None, "timeout": 1.0, "attempts": 3, "settle": 0.3}]


@pytest.mark.parametrize("module", [dsr_probe, dsr_neighbour_info])
def test_examples_use_options_that_there_are(module: ModuleType) -> None:
    options = set(yaml.safe_load(module.DOCUMENTATION)["options"])
    name = f"dsr.layer2.{module.__name__.rpartition('.')[2]}"
    used = [task[name] for task in yaml.safe_load(module.EXAMPLES) if name in task]
    assert used
    for arguments in used:
        assert set(arguments) <= options
