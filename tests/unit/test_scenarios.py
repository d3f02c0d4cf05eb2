# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Molecule skips tests and playbooks that it does not find, and calls that a success. Here it is none."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SCENARIOS = sorted(ROOT.glob("molecule/*/molecule.yml"))


@pytest.fixture(params=SCENARIOS, ids=lambda path: path.parent.name)
def scenario(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path.parent


def steps(scenario: Path, action: str) -> list[str]:
    """What the actions of a scenario's sequence are told, '' when nothing."""
    sequence = yaml.safe_load((scenario / "molecule.yml").read_text())["scenario"]["test_sequence"]
    return [step.partition(" ")[2] for step in sequence if step.split()[0] == action]


def test_there_are_scenarios() -> None:
    assert SCENARIOS


def test_every_folder_of_tests_is_run(scenario: Path) -> None:
    folders = {path.parent.relative_to(scenario).as_posix() for path in scenario.glob("tests/**/test_*.py")}
    assert folders
    assert set(steps(scenario, "verify")) == folders


def test_every_playbook_is_there(scenario: Path) -> None:
    settings = yaml.safe_load((scenario / "molecule.yml").read_text())
    named = [*settings["provisioner"]["playbooks"].values(), *steps(scenario, "side_effect")]
    assert [name for name in named if not (scenario / name).is_file()] == []


def test_the_state_is_checked_for_idempotence(scenario: Path) -> None:
    assert steps(scenario, "idempotence") == [""]
