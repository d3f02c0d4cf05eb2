# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers of surveys: what is made of them, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.dsr.layer2.plugins.filter import rolling, surveys
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr import model

SPECS = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))
    for path in (Path(__file__).resolve().parents[4] / "awx" / "surveys").glob("*.json")
}
WEB = {"dsr_vip_name": "web", "dsr_vip_address": "192.0.2.100"}
TYPED = st.text(alphabet="abw0129.:-/ ,;\n\r\t'\"{}%$`\\\0é\u2028", max_size=30)
# As the inventory has it
BEFORE = {
    "name": "web",
    "address": "192.0.2.100",
    "ports": ["80"],
    "deny_sources": ["198.51.100.0/24"],
    "backends": [{"address": "192.0.2.21", "name": "web1", "mac": "02:00:00:00:00:21"}],
    "health_check": {"type": "http", "port": 80, "interval": 5},
}


@pytest.mark.parametrize(
    ("answers", "options"),
    [
        ({}, {}),
        ({name: "" for name in surveys.LABELS if name not in WEB}, {}),
        ({name: None for name in surveys.LABELS if name not in WEB}, {}),
        ({"dsr_vip_name": " web\n", "dsr_vip_address": "\t192.0.2.100 "}, {}),
        ({"dsr_vip_ports": " 80,443 , 8000-8100"}, {"ports": ["80", "443", "8000-8100"]}),
        ({"dsr_vip_ports": [80, "443"]}, {"ports": ["80", "443"]}),
        ({"dsr_vip_ports": "ALL"}, {}),
        ({"dsr_vip_persistence_timeout": "600"}, {"persistence_timeout": 600}),
        ({"dsr_vip_persistence_timeout": 600}, {"persistence_timeout": 600}),
        ({"dsr_vip_backends": "all"}, {}),
        ({"dsr_vip_address": "192.0.2.1"}, {"address": "192.0.2.1"}),  # the first that stands in for backends
        ({"dsr_vip_address": "2001:db8::100"}, {"address": "2001:db8::100"}),
        ({"dsr_vip_health_check": "icmp"}, {"health_check": {"type": "icmp"}}),
        (
            {
                "dsr_vip_backends": "\n 192.0.2.21 web1 3\r\n\t192.0.2.22,4\n192.0.2.23\tweb3\n\n",
                "dsr_vip_scheduler": "connection_hash",
            },
            {
                "scheduler": "connection_hash",
                "backends": [
                    {"address": "192.0.2.21", "name": "web1", "weight": 3},
                    {"address": "192.0.2.22", "weight": 4},
                    {"address": "192.0.2.23", "name": "web3"},
                ],
            },
        ),
    ],
)
def test_what_is_made_of_it(answers: dict[str, Any], options: dict[str, Any]) -> None:
    assert surveys.survey_vip({**WEB, **answers}) == {"name": "web", "address": "192.0.2.100", **options}


@pytest.mark.parametrize(
    ("answers", "options"),
    [
        ({}, {}),
        ({"dsr_vip_ports": "all"}, {"ports": None}),
        ({"dsr_vip_backends": "all"}, {"backends": None}),
        (
            {"dsr_vip_backends": "192.0.2.21 9\n192.0.2.22"},
            {"backends": [{**BEFORE["backends"][0], "weight": 9}, {"address": "192.0.2.22"}]},  # type: ignore[index]
        ),
        (
            {"dsr_vip_health_check": "http", "dsr_vip_health_path": "/up"},
            {"health_check": {"type": "http", "port": 80, "interval": 5, "path": "/up"}},
        ),
        ({"dsr_vip_health_check": "tcp"}, {"health_check": {"type": "tcp"}}),
        ({"dsr_vip_health_check": "none"}, {"health_check": None}),
    ],
)
def test_what_is_left_open_is_as_before(answers: dict[str, Any], options: dict[str, Any]) -> None:
    expected = {key: value for key, value in {**BEFORE, **options}.items() if value is not None}
    assert surveys.survey_vip({"dsr_vip_name": "web", **answers}, [{"name": "other"}, BEFORE]) == expected


@pytest.mark.parametrize(
    ("survey", "answers", "problem"),
    [
        ("vip", {"dsr_vip_name": None}, "dsr_vip_name (Name): is missing"),
        ("vip", {"dsr_vip_name": {"a": 1}}, "dsr_vip_name (Name): is no text"),
        ("vip", {"dsr_vip_name": True}, "dsr_vip_name (Name): is no text"),
        ("vip", {"dsr_vip_address": "192.0.2.100/24"}, "dsr_vip_address (Address): '192.0.2.100/24' has a prefix"),
        ("vip", {"dsr_vip_address": ""}, "dsr_vip_address (Address): is missing"),
        ("vip", {"dsr_vip_ports": "80, 80"}, "dsr_vip_ports (Ports): 80 overlaps 80"),
        ("vip", {"dsr_vip_ports": "80\0"}, "dsr_vip_ports (Ports): has the character U+0000"),
        ("vip", {"dsr_vip_ports": "80", "dsr_vip_protocol": "any"}, "dsr_vip_ports (Ports): protocol any has no ports"),
        ("vip", {"dsr_vip_protocol": "TCP"}, "dsr_vip_protocol (Protocol): 'TCP' is not known"),
        (
            "vip",
            {"dsr_vip_backends": "192.0.2.21 a b"},
            "dsr_vip_backends (Backends), line 1: has a second name, 'b'; write",
        ),
        ("vip", {"dsr_vip_backends": "192.0.2.21 1 2"}, "dsr_vip_backends (Backends), line 1: has a second weight"),
        (
            "vip",
            {"dsr_vip_backends": "192.0.2.21\n\n192.0.2.22 70000"},
            "dsr_vip_backends (Backends), line 3: 70000 is",
        ),
        (
            "vip",
            {"dsr_vip_backends": "192.0.2.21\u2028192.0.2.22"},
            "dsr_vip_backends (Backends), line 1: has the character U+20",
        ),
        ("vip", {"dsr_vip_backends": "web1"}, "dsr_vip_backends (Backends), line 1: 'web1' is not an IP address"),
        ("vip", {"dsr_vip_backends": ",\n" + "a" * 300}, "dsr_vip_backends (Backends), line 2: has 300 characters"),
        (
            "vip",
            {"dsr_vip_backends": "192.0.2.21 3", "dsr_vip_scheduler": "round_robin"},
            "dsr_vip_backends (Backends), line 1: the scheduler",
        ),
        ("vip", {"dsr_vip_health_check": "tcp", "dsr_vip_health_path": "/"}, "dsr_vip_health_path (Page of"),
        ("remove_vip", {"dsr_vip_name": "Web"}, "dsr_vip_name (Name): 'Web' is not a name"),
        ("backend", {"dsr_backend": "\n"}, "dsr_backend (Backend): Name the backend"),
        ("backend", {"dsr_backend": "b1", "dsr_vip": "a b"}, "dsr_vip (VIP): 'a b' is not a name"),
    ],
)
def test_what_is_refused(survey: str, answers: dict[str, Any], problem: str) -> None:
    found = surveys.survey_problem({**WEB, **answers}, survey)
    assert found.startswith(problem) and "\n" not in found and len(found) < 500


def test_an_error_in_dsr_vips_is_not_blamed_on_the_survey() -> None:
    found = surveys.survey_problem({"dsr_vip_name": "web"}, "vip", [{**BEFORE, "deny_sources": ["x"]}])
    assert found.startswith("dsr_vips, deny_sources of this VIP: 'x' is not a network")
    with pytest.raises(AnsibleFilterError, match=r"^dsr_vip_name \(Name\)"):
        surveys.survey_name({})


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(surveys.LABELS)), st.one_of(st.none(), st.integers(), TYPED)))
def test_anything_is_read_or_refused_by_its_field(answers: dict[str, Any]) -> None:
    """Whatever is typed: a VIP that the model takes, or an error that begins with a field."""
    problem = surveys.survey_problem(answers, "vip")
    if problem:
        assert any(problem.startswith(surveys.place(variable)) for variable in surveys.LABELS)
    else:
        vip = surveys.survey_vip(answers)
        model.parse_vip(
            {"backends": [{"address": "203.0.113.9" if "." in vip["address"] else "2001:db8::9"}], **vip}, ""
        )


def test_what_becomes_of_it() -> None:
    web = surveys.survey_vip(WEB)
    assert surveys.survey_outlook("web", web, [web], False) == ""
    assert "brings it back to that" in surveys.survey_outlook("web", web, [BEFORE], True)
    assert "REMOVES it" in surveys.survey_outlook("web", web, [], False)
    assert "leave it" in surveys.survey_outlook("web", web, [], True)
    assert "brings it back" in surveys.survey_outlook("web", {}, [web], False)
    assert surveys.survey_outlook("web", {}, [], False) == ""


@pytest.mark.parametrize("name", ["vip", "remove_vip", "backend", "rolling"])
def test_the_surveys(name: str) -> None:
    """Of the form that AWX takes, with the labels and choices that errors and the model know."""
    spec = SPECS[name]
    assert set(spec) == {"name", "description", "spec"}
    for field in spec["spec"]:
        assert surveys.LABELS[field["variable"]] == field["question_name"]
        assert field["type"] in ("text", "textarea", "multiplechoice") and field["default"] == ""
        assert isinstance(field["required"], bool) and isinstance(field["choices"], (list, str))
    choices = {field["variable"]: field["choices"] for field in spec["spec"] if field["choices"]}
    if name == "vip":
        assert choices.pop("dsr_vip_protocol") == list(model.PROTOCOLS)
        assert choices.pop("dsr_vip_scheduler") == list(model.SCHEDULERS)
        assert choices.pop("dsr_vip_on_empty") == list(model.ON_EMPTY)
        for kind in choices.pop("dsr_vip_health_check"):
            # A check of a VIP without a port of its own names none, so this one has one.
            assert surveys.survey_problem({**WEB, "dsr_vip_ports": "80", "dsr_vip_health_check": kind}, "vip") == ""
    if name == "rolling":
        assert choices.pop("dsr_rolling_on_timeout") == [rolling.FAIL, rolling.GO_ON]
        assert choices.pop("dsr_rolling_allow_last") == ["false", "true"]
    assert choices == {}


def test_the_playbook_reads_every_field() -> None:
    playbooks = Path(__file__).resolve().parents[4] / "playbooks"
    for name, playbook in (
        ("vip", "vip.yml"),
        ("remove_vip", "remove_vip.yml"),
        ("backend", "tasks/override.yml"),
        ("rolling", "rolling.yml"),
    ):
        text = (playbooks / playbook).read_text(encoding="utf-8")
        for field in SPECS[name]["spec"]:
            assert f'{field["variable"]}: "{{{{ {field["variable"]} | default(' in text
