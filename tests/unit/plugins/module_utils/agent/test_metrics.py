# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What there is to be measured, from what is known."""

from __future__ import annotations

import gc
import re
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest

from ansible_collections.dsr.layer2.plugins.module_utils.agent import metrics
from ansible_collections.dsr.layer2.plugins.module_utils.agent.checking import Report, Statistics
from ansible_collections.dsr.layer2.plugins.module_utils.agent.exporter import Kernel, Pages, Readings
from ansible_collections.dsr.layer2.plugins.module_utils.agent.metrics import METRICS, Facts, Reading, Traffic, families
from ansible_collections.dsr.layer2.plugins.module_utils.agent.probe_base import Outcome, Target
from ansible_collections.dsr.layer2.plugins.module_utils.agent.tally import Tally
from ansible_collections.dsr.layer2.plugins.module_utils.agent.version import VERSION
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.resolved import ResolvedVip
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.table import Counter
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.agent.test_agent import checked, resolved
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.nft_dsr.hosts import backends, vip

B1, B2, B3 = (IPv4Address(f"10.77.0.{number}") for number in (21, 22, 23))


def facts(*items: ResolvedVip, **changes: Any) -> Facts:
    """With a check of each backend of the VIPs that are checked."""
    reports = []
    users = {}
    for item in items:
        if item.vip.health_check is not None:
            for backend in item.vip.backends:
                healthy = backend.address not in item.unhealthy
                target = Target(backend.address, item.vip.address, backend.address)
                statistics = Statistics(runs=5, failures=0 if healthy else 3, last_seconds=0.25)
                report = Report(item.vip.health_check, target, healthy, True, "", statistics)
                reports.append(report)
                users[report.check, target] = [(item.vip, backend)]
    return Facts(items, {}, changes.pop("ignoring", {}), reports, users, changes.pop("tally", Tally()))


def samples(what: Facts, traffic: Traffic = Traffic()) -> Mapping[str, Mapping[str, float]]:  # noqa: B008  # frozen
    """The values of each metric by those of its labels."""
    return {
        family.metric.name: {" ".join(filter(None, labels)): value for labels, value in family.samples}
        for family in families(what, traffic)
    }


def test_states_of_backends() -> None:
    pool = [
        *backends(21, weight=3),
        *backends(22, state="drain"),
        *backends(23, weight=2),
        *backends(24, backup=True),
        *backends(25, state="down"),
        *backends(26),
    ]
    item = resolved(
        vip(backends=pool, scheduler="weighted_round_robin", health_check={"type": "tcp"}, require_mac=False),
        without_mac=("10.77.0.26",),
    )
    found = samples(facts(replace(item, unhealthy=frozenset([B3]))))
    states = {
        labels.rpartition(".")[2]: tuple(
            found[f"nft_dsr_backend_{name}"][labels] for name in ("up", "enabled", "weight", "healthy")
        )
        for labels in found["nft_dsr_backend_up"]
    }
    assert states == {
        "21": (1, 1, 3, 1),
        "22": (1, 0, 0, 1),
        "23": (0, 1, 0, 0),
        "24": (1, 1, 0, 1),
        "25": (0, 0, 0, 1),
        "26": (0, 1, 0, 1),
    }


def test_a_backup_that_serves_has_its_weight() -> None:
    pool = [*backends(21, state="down"), *backends(24, backup=True)]
    assert samples(facts(resolved(vip(backends=pool))))["nft_dsr_backend_weight"] == {
        "web 10.77.0.21": 0,
        "web 10.77.0.24": 1,
    }


def test_health_that_is_ignored_leaves_who_fails_up() -> None:
    """The live state has nobody as unhealthy then; the check's own verdict stays to be seen."""
    item = checked()
    ill = facts(replace(item, unhealthy=frozenset([B1])))
    what = replace(ill, items=[item], ignoring={"web": True})
    found = samples(what)
    assert found["nft_dsr_vip_health_ignored"] == {"web": 1}
    assert found["nft_dsr_backend_healthy"]["web 10.77.0.21"] == 0
    assert found["nft_dsr_backend_up"]["web 10.77.0.21"] == 1


def test_a_vip_without_a_check_has_no_health() -> None:
    found = samples(facts(resolved(vip())))
    assert not {name for name in found if "healthy" in name or "ignored" in name or "backend_check" in name}
    assert found["nft_dsr_checks_late_total"] == {"": 0}


def test_traffic_and_flows() -> None:
    item = resolved(vip(scheduler="round_robin", backends=[*backends(21, 22), *backends(23, state="down")]))
    traffic = Traffic(
        {"web": Counter(9, 900)},
        {("web", B1): Counter(5, 500), ("web", B2): Counter(4, 400)},
        {("web", B1): 2, ("web", B2): 1, ("web", B3): 7},
        {"counters": Reading(True, 1000.0, 0.5), "flows": Reading(False, 0.0, 5.0)},
    )
    found = samples(facts(item), traffic)
    assert found["nft_dsr_vip_packets_total"] == {"web": 9} and found["nft_dsr_vip_bytes_total"] == {"web": 900}
    assert found["nft_dsr_backend_packets_total"] == {"web 10.77.0.21": 5, "web 10.77.0.22": 4}
    assert found["nft_dsr_backend_flows"] == {"web 10.77.0.21": 2, "web 10.77.0.22": 1, "web 10.77.0.23": 0}
    assert found["nft_dsr_vip_flow_table_size"] == {"web": 1048576}
    assert found["nft_dsr_collector_success"] == {"counters": 1, "flows": 0}
    assert found["nft_dsr_collector_timestamp_seconds"] == {"counters": 1000, "flows": 0}


def test_results_are_there_before_they_come_about() -> None:
    """Who waits for the first failure sees it as one more, and not as a series that begins with 1."""
    found = samples(facts(checked()))
    assert found["nft_dsr_checks_total"] == {"tcp ok": 0, "tcp failed": 0, "tcp unable": 0}
    assert set(found["nft_dsr_backend_transitions_total"].values()) == {0}


def everything() -> tuple[Facts, Traffic]:
    tally = Tally(clock=lambda: 1000.0)
    tally.checked("tcp", Outcome(True, "", 0.02))
    tally.accepted([("web", B1)])
    tally.moved("web", B1)
    tally.brought(999.5, repaired=True)
    item = checked(scheduler="round_robin", backends=[{"address": "10.77.0.21", "name": "b1"}, *backends(22)])
    traffic = Traffic({"web": Counter(9, 9)}, {("web", B1): Counter(5, 5)}, {("web", B1): 2}, {"flows": Reading(True)})
    return facts(item, tally=tally, ignoring={"web": False}), traffic


def test_every_metric_comes_about() -> None:
    found = list(families(*everything()))
    assert [family.metric for family in found] == list(METRICS)
    for family in found:
        for labels, _value in family.samples:
            assert len(labels) == len(family.metric.labels), family.metric


def test_names_follow_the_conventions() -> None:
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names)
    for metric in METRICS:
        assert re.fullmatch(r"nft_dsr_[a-z_]+", metric.name) and metric.help.endswith(".")
        assert metric.name.endswith("_total") == (metric.kind == metrics.COUNTER), metric.name


@pytest.fixture
def page() -> str:
    """By Prometheus' library."""
    what, traffic = everything()
    readings = Readings(Kernel(lambda _name: [], lambda _name, _seconds: {}))
    pages = Pages(readings)
    readings.renew(what)
    readings.traffic = traffic
    return pages.make(what).decode()


def test_a_page_has_what_it_should(page: str) -> None:
    lines = page.splitlines()
    for metric in METRICS:
        assert f"# TYPE {metric.name} {metric.kind}" in lines and f"# HELP {metric.name} {metric.help}" in lines
    assert 'nft_dsr_backend_packets_total{backend="10.77.0.21",name="b1",vip="web"} 5.0' in [
        re.sub(r"\{(.*)\}", lambda match: "{" + ",".join(sorted(match[1].split(","))) + "}", line) for line in lines
    ]
    assert 'nft_dsr_check_duration_seconds_bucket{le="0.025",type="tcp"} 1.0' in lines
    assert 'nft_dsr_check_duration_seconds_bucket{le="0.01",type="tcp"} 0.0' in lines
    assert 'nft_dsr_check_duration_seconds_sum{type="tcp"} 0.02' in lines
    assert "nft_dsr_configuration_accepted_timestamp_seconds 1000.0" in lines
    assert f'nft_dsr_agent_info{{version="{VERSION}"}} 1.0' in lines
    assert any(line.startswith("process_cpu_seconds_total ") for line in lines)


def test_cycles_are_searched_for_again_when_a_page_is_made() -> None:
    searched = []

    def read(_name: str) -> list[tuple[bytes, Counter]]:
        searched.append(gc.isenabled())
        raise ValueError

    with pytest.raises(ValueError):
        Pages(Readings(Kernel(read))).make(everything()[0])
    assert searched == [False] and gc.isenabled()


def test_promtool_has_nothing_to_say(page: str) -> None:
    done = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
