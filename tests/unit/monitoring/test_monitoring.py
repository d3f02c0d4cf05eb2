# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The dashboard and the alerts ask for what there is; each alert is shown firing, and not firing."""

from __future__ import annotations

import json
import re
import subprocess
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from tools import document_metrics

from ansible_collections.dsr.layer2.plugins.module_utils.agent.metrics import HISTOGRAM, METRICS
from ansible_collections.dsr.layer2.plugins.module_utils.agent.version import VERSION

ROOT = Path(__file__).resolve().parents[3]
ALERTS = ROOT / "monitoring" / "alerts.yml"
TESTS = Path(__file__).with_name("alerts_test.yml")
NAME = re.compile(r"\b(?:nft_dsr|process)_[a-z_]+")
# Those of Prometheus' own library, and of Prometheus
OTHERS = {"process_cpu_seconds_total", "process_resident_memory_bytes", "process_start_time_seconds"}


def names() -> set[str]:
    found = set(OTHERS)
    for metric in METRICS:
        found |= (
            {f"{metric.name}_{part}" for part in ("bucket", "sum", "count")}
            if metric.kind == HISTOGRAM
            else {metric.name}
        )
    return found


def dashboard() -> Any:
    return json.loads((ROOT / "monitoring" / "grafana-dashboard.json").read_text(encoding="utf-8"))


def alerts() -> list[Any]:
    document = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


def promtool(*arguments: object) -> str:
    done = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_alerts_ask_for_what_there_is() -> None:
    for alert in alerts():
        found = NAME.findall(alert["expr"])
        assert set(found) <= names(), alert["alert"]
        assert found or "up{" in alert["expr"]


def test_the_dashboard_asks_for_what_there_is() -> None:
    found = dashboard()
    asked = [target["expr"] for panel in found["panels"] for target in panel.get("targets", ())]
    asked += [variable["query"]["query"] for variable in found["templating"]["list"] if variable["type"] == "query"]
    assert len(asked) > 25
    for expression in asked:
        assert NAME.findall(expression) and set(NAME.findall(expression)) <= names(), expression


def test_panels_have_a_place_of_their_own() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for one, other in combinations([panel["gridPos"] for panel in panels], 2):
        apart = (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
        assert apart, (one, other)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)


def test_panels_heed_what_is_chosen() -> None:
    """By way of the variables, all of which there are."""
    found = dashboard()
    assert [variable["name"] for variable in found["templating"]["list"]] == ["datasource", "instance", "vip"]
    for panel in found["panels"]:
        for target in panel.get("targets", ()):
            assert target["datasource"]["uid"] == "${datasource}"
            for name, chosen in re.findall(r"\b((?:nft_dsr|process)_[a-z_]+)\{(.*?)\}", target["expr"]):
                labels = next((metric.labels for metric in METRICS if metric.name == name), ())
                assert 'instance=~"$instance"' in chosen, target["expr"]
                assert ('vip=~"$vip"' in chosen) == ("vip" in labels), target["expr"]


def test_alerts_say_what_it_is_and_what_to_do() -> None:
    for alert in alerts():
        assert set(alert["annotations"]) == {"summary", "description", "action"}, alert["alert"]
        assert alert["labels"]["severity"] in ("critical", "warning", "info")


def test_alerts_are_rules() -> None:
    assert promtool("check", "rules", ALERTS) == ""


def test_alerts_fire_when_they_should() -> None:
    assert promtool("test", "rules", TESTS) == ""


def test_each_alert_is_shown_firing_and_not_firing() -> None:
    shown: dict[str, set[bool]] = {}
    for test in yaml.safe_load(TESTS.read_text(encoding="utf-8"))["tests"]:
        shown[test["name"]] = {bool(asked["exp_samples"]) for asked in test["promql_expr_test"]}
        assert all(f'"{test["name"]}"' in asked["expr"] for asked in test["promql_expr_test"])
    assert shown == {alert["alert"]: {True, False} for alert in alerts()}


@pytest.mark.parametrize("alert", [alert["alert"] for alert in alerts()])
def test_the_tests_of_alerts_can_fail(alert: str, tmp_path: Path) -> None:
    """With an alert that never fires, and with one that does so too soon."""
    document = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))
    tests = yaml.safe_load(TESTS.read_text(encoding="utf-8"))
    tests["rule_files"] = ["alerts.yml"]
    tests["tests"] = [test for test in tests["tests"] if test["name"] == alert]
    (tmp_path / "tests.yml").write_text(yaml.safe_dump(tests), encoding="utf-8")
    rule = next(rule for group in document["groups"] for rule in group["rules"] if rule["alert"] == alert)
    expression = rule["expr"]
    for changed in (f"({expression}) and vector(0) > 1", "vector(1)"):
        rule["expr"] = changed
        (tmp_path / "alerts.yml").write_text(yaml.safe_dump(document), encoding="utf-8")
        assert "FAILED" in promtool("test", "rules", tmp_path / "tests.yml"), changed


def test_the_table_of_the_documentation_is_that_of_the_code() -> None:
    assert document_metrics.written() == document_metrics.DOCUMENT.read_text(encoding="utf-8")


def test_the_version_is_that_of_the_collection() -> None:
    galaxy = yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))
    assert galaxy["version"] == VERSION
