# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's metrics beside what the kernel says, and a real Prometheus that scrapes, draws and alerts by them."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
import yaml
from agent_host import QUICK, AgentHost, break_service, mend_service
from balancer import HTTP, LINES, Balancer
from lab import Lab, LabError
from lab.modules import ModuleRunner
from lab.running import Running
from lab.topology import REPOSITORY

_START = (
    "import sys; from ansible_collections.dsr.layer2.plugins.module_utils.agent import agent, exporter; "
    "sys.exit(agent.main(lambda text: print(text, flush=True), exporter.parse_place(sys.argv[1])))"
)
_GET = """\
import sys, urllib.request as request
try:
    answer = request.urlopen(sys.argv[1], timeout=30)
except request.HTTPError as error:  # which has more to say than its number
    answer = error
print(answer.read().decode())
"""
_MONITORING = REPOSITORY / "monitoring"
_FOLDER = "/run/test-prometheus"
_PROMETHEUS = "127.0.0.1:19090"
_SAMPLE = re.compile(r"([a-z_:]+)(?:\{(.*)\})? (\S+)")

pytestmark = pytest.mark.slow


class Measured(AgentHost):
    """The load balancer, its agent with metrics, and a Prometheus beside it."""

    at = "127.0.0.1:9817"

    def start(self) -> None:
        environment = [f"PYTHONPATH={self._runner.folder}", "PYTHONDONTWRITEBYTECODE=1"]
        command = ["/usr/bin/env", *environment, "/usr/bin/python3", "-c", _START, self.at]
        self.running = self.balancer.lab.popen("lb", command)
        self.running.wait_for(f"metrics: http://{self.at}/metrics")
        self.until(lambda: "began;" in self.printed())

    def get(self, url: str) -> str:
        return self.balancer.lab.run("lb", ["/usr/bin/python3", "-c", _GET, url]).stdout

    def page(self) -> str:
        return self.get(f"http://{self.at}/metrics")

    def samples(self, name: str) -> dict[str, float]:
        """What a metric has, by its labels as they are written."""
        found = (_SAMPLE.fullmatch(line) for line in self.page().splitlines())
        return {match[2] or "": float(match[3]) for match in found if match and match[1] == name}

    def by_backend(self, name: str, vip: str = "web") -> dict[str, float]:
        found = {re.search(r'name="(.*?)"', labels): value for labels, value in self.samples(name).items()}
        return {match[1]: value for match, value in found.items() if match and f'vip="{vip}"' in match.string}

    def prometheus(self) -> Running:
        """One that looks every second, with the alerts as they are but at once."""
        rules = re.sub(r"\bfor: \w+", "for: 1s", (_MONITORING / "alerts.yml").read_text(encoding="utf-8"))
        configuration = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [f"{_FOLDER}/alerts.yml"],
            "scrape_configs": [{"job_name": "nft-dsr", "static_configs": [{"targets": [self.at]}]}],
        }
        lab = self.balancer.lab
        lab.run("lb", ["mkdir", "-p", _FOLDER])
        lab.write("lb", f"{_FOLDER}/alerts.yml", rules)
        lab.write("lb", f"{_FOLDER}/prometheus.yml", yaml.safe_dump(configuration))
        return lab.popen(
            "lb",
            [
                "prometheus",
                f"--config.file={_FOLDER}/prometheus.yml",
                f"--storage.tsdb.path={_FOLDER}/data",
                f"--web.listen-address={_PROMETHEUS}",
                "--log.level=error",
            ],
        )

    def asked(self, path: str) -> Any:
        answer = json.loads(self.get(f"http://{_PROMETHEUS}/api/v1/{path}"))
        if answer["status"] != "success":
            raise LabError(f"{path}: {answer}")
        return answer["data"]

    def query(self, expression: str) -> list[Any]:
        found: list[Any] = self.asked(f"query?query={quote(expression)}")["result"]
        return found

    def alerts(self) -> set[tuple[str, str]]:
        """Those that fire, and for which backend."""
        return {
            (alert["labels"]["alertname"], alert["labels"].get("name", ""))
            for alert in self.asked("alerts")["alerts"]
            if alert["state"] == "firing"
        }

    def is_scraped(self) -> bool:
        """By a Prometheus that may not be there yet."""
        command = ["/usr/bin/python3", "-c", _GET, f"http://{_PROMETHEUS}/api/v1/query?query=nft_dsr_agent_info"]
        done = self.balancer.lab.run("lb", command, check=False)
        return '"success"' in done.stdout and bool(json.loads(done.stdout)["data"]["result"])


@pytest.fixture
def agent(balancer: Balancer, fresh_lab: Lab, module_runner: ModuleRunner) -> Iterator[Measured]:
    yield Measured(balancer, module_runner)


def expressions() -> dict[str, str]:
    """Of every panel of the dashboard, with all load balancers and all VIPs chosen."""
    dashboard = json.loads((_MONITORING / "grafana-dashboard.json").read_text(encoding="utf-8"))
    found = {}
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            text = target["expr"].replace("$__rate_interval", "30s").replace("$instance", ".*").replace("$vip", ".*")
            found[f"{panel['title']} {target['refId']}"] = text
    return found


@pytest.mark.parametrize(
    ("scheduler", "options"),
    [
        ("connection_hash", {}),
        ("round_robin", {}),
        ("round_robin", {"version": 6}),
        ("connection_hash", {"version": 6, "ports": None}),
        ("source_hash", {"ports": ["1-6999", "7000"]}),
        ("round_robin", {"protocol": "any", "ports": None}),
    ],
)
def test_figures_are_those_of_the_kernel(agent: Measured, scheduler: str, options: dict[str, Any]) -> None:
    """Whatever map they are in: of a pool or of a VIP, by port, by range, by protocol, of either family."""
    ports = options.pop("ports", (HTTP, LINES))
    agent.balancer.serve(scheduler, ports=ports, health_check={**QUICK, "port": HTTP}, **options)
    agent.balancer.protocol = "tcp"
    met = agent.balancer.connect(HTTP, 90)
    assert met["ok"] == 90, met
    agent.start()
    rows = agent.balancer.info()
    assert rows["packets"] >= 90 * 5
    assert agent.samples("nft_dsr_vip_packets_total") == {'vip="web"': rows["packets"]}
    assert agent.samples("nft_dsr_vip_bytes_total") == {'vip="web"': rows["bytes"]}
    for figure in ("packets", "bytes"):
        counted = agent.by_backend(f"nft_dsr_backend_{figure}_total")
        assert counted == {backend["name"]: backend[figure] for backend in rows["backends"]} and any(counted.values())
    tracked = {backend["name"]: backend["flows"] for backend in rows["backends"]}
    assert agent.by_backend("nft_dsr_backend_flows") == (tracked if scheduler == "round_robin" else {})
    assert any(tracked.values()) == (scheduler == "round_robin")


def test_states(agent: Measured) -> None:
    """Of backends in each state there is, and what somebody else's change of the rules leaves behind."""
    spare = {"name": "spare", "address": "10.77.0.10", "backup": True}
    down = {"name": "down", "address": "10.77.0.99", "state": "down", "mac": "02:00:00:00:00:99"}
    pool = [
        {"name": "b1", "address": "10.77.0.21", "weight": 3},
        {"name": "b2", "address": "10.77.0.22", "state": "drain"},
        {"name": "b3", "address": "10.77.0.23"},
    ]
    agent.serve(QUICK, "weighted_round_robin", backends=[*pool, spare, down])
    break_service(agent, "b3")
    agent.start()
    agent.until(
        lambda: agent.by_backend("nft_dsr_backend_transitions_total") == {"b1": 0, "b2": 0, "b3": 1, "spare": 1}, 30
    )
    assert agent.by_backend("nft_dsr_backend_up") == {"b1": 1, "b2": 1, "b3": 0, "spare": 0, "down": 0}
    assert agent.by_backend("nft_dsr_backend_enabled") == {"b1": 1, "b2": 0, "b3": 1, "spare": 1, "down": 0}
    assert agent.by_backend("nft_dsr_backend_weight") == {"b1": 3, "b2": 0, "b3": 0, "spare": 0, "down": 0}
    assert agent.by_backend("nft_dsr_backend_healthy") == {"b1": 1, "b2": 1, "b3": 0, "spare": 0}
    assert agent.samples("nft_dsr_repairs_total") == {"": 0} and agent.samples("nft_dsr_in_sync") == {"": 1}
    agent.balancer.nft("flush", "ruleset")
    agent.until(lambda: agent.samples("nft_dsr_repairs_total") == {"": 1}, 30)
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=agent.page(), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_prometheus_draws_and_alerts(agent: Measured) -> None:
    agent.serve(QUICK, "round_robin")
    agent.start()
    held = agent.balancer.hold(30)
    prometheus = agent.prometheus()
    agent.until(agent.is_scraped, 60)
    groups = agent.asked("rules")["groups"]
    names = {rule["name"] for group in groups for rule in group["rules"]}
    assert len(names) >= 14

    asked = expressions()
    without: dict[str, str] = dict(asked)

    def all_have_data() -> bool:
        """Values that are not a number are none."""
        for title, expression in list(without.items()):
            if any(row["value"][1] not in ("NaN", "+Inf") for row in agent.query(expression)):
                del without[title]
        return not without

    try:
        agent.until(all_have_data, 90)
    except AssertionError:
        raise AssertionError(f"no data: {without}") from None
    assert agent.alerts() == set(), "all is well"

    break_service(agent, "b2")
    agent.until(lambda: ("NftDsrBackendDown", "b2") in agent.alerts(), 60)
    assert agent.alerts() == {("NftDsrBackendDown", "b2")}
    mend_service(agent, "b2")
    agent.until(lambda: agent.alerts() == set(), 90)
    agent.kill()
    agent.until(lambda: ("NftDsrAgentGone", "") in agent.alerts(), 60)

    broken = [
        (rule["name"], rule["lastError"])
        for group in agent.asked("rules")["groups"]
        for rule in group["rules"]
        if rule["health"] != "ok"
    ]
    assert not broken
    prometheus.close()
    held.stop()
