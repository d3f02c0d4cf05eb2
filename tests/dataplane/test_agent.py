# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent of a load balancer: it finds out who serves, and the packets go there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from agent_host import QUICK, AgentHost, break_service, mend_service
from balancer import HTTP, WEB, WEB6, Balancer
from lab import Lab
from lab.modules import ModuleRunner
from lab.topology import REPOSITORY

from ansible_collections.dsr.layer2.plugins.plugin_utils import agent_archive


@pytest.fixture
def agent(balancer: Balancer, fresh_lab: Lab, module_runner: ModuleRunner) -> Iterator[AgentHost]:
    yield AgentHost(balancer, module_runner)


@pytest.mark.parametrize("version", [4, 6])
def test_a_backend_that_loses_the_vip_gets_nothing(agent: AgentHost, version: int) -> None:
    """Its own address answers all the same; only a check through the VIP sees it."""
    agent.serve(QUICK, version=version)
    agent.start()
    address = f"{WEB}/32" if version == 4 else f"{WEB6}/128"
    agent.balancer.lab.ip("b1", f"address delete {address} dev lo")
    agent.until(lambda: agent.healthy() == {"b1": False, "b2": True, "b3": True})
    met = agent.balancer.connect(HTTP, 60)
    assert met["ok"] == 60 and "b1" not in met["by_host"], met
    agent.balancer.lab.ip("b1", f"address add {address} dev lo" + (" nodad" if version == 6 else ""))
    agent.until(lambda: all(agent.healthy().values()))
    assert "b1" in agent.balancer.connect(HTTP, 60)["by_host"]


def test_a_run_in_the_middle_of_a_failure_changes_nothing(agent: AgentHost) -> None:
    """Neither does it bring the dead back, nor take what the agent did for drift; without an agent it does both."""
    agent.serve(QUICK)
    agent.start()
    break_service(agent, "b1")
    agent.until(lambda: not agent.healthy()["b1"])
    for _forgotten in range(2):
        result = agent.again()
        assert not result["changed"] and "warnings" not in result, result
        agent.balancer.forget()
    assert "b1" not in agent.balancer.connect(HTTP, 60)["by_host"]
    agent.kill()
    result = agent.again()
    assert result["changed"] and "nobody checks the backends of web" in str(result["warnings"]), result
    agent.start()
    agent.until(lambda: not agent.healthy()["b1"])


@pytest.mark.parametrize("scheduler", ["source_hash", "connection_hash", "round_robin"])
def test_who_is_well_keeps_its_connections(agent: AgentHost, scheduler: str) -> None:
    """A backend whose service dies loses its own; nobody else's are touched, by that or by its return."""
    agent.serve({**QUICK, "type": "tcp"}, scheduler)
    agent.start()
    held = agent.balancer.hold(30)
    break_service(agent, "b1")
    agent.until(lambda: not agent.healthy()["b1"])
    mend_service(agent, "b1")
    agent.until(lambda: agent.healthy()["b1"])
    result = held.stop()
    assert result["opened"] == 30, result
    assert result["broken"] == result["by_host"].get("b1", 0) and result["moved"] == 0, result


def test_a_killed_agent_leaves_traffic_alone(agent: AgentHost) -> None:
    agent.serve(QUICK)
    agent.start()
    held = agent.balancer.hold(30)
    break_service(agent, "b3")
    agent.until(lambda: not agent.healthy()["b3"])
    rules = agent.balancer.nft("-s", "list", "ruleset")
    agent.kill()
    assert agent.balancer.nft("-s", "list", "ruleset") == rules
    met = agent.balancer.connect(HTTP, 60)
    assert met["ok"] == 60 and "b3" not in met["by_host"], met
    agent.start()
    agent.until(lambda: not agent.healthy()["b3"])
    assert agent.balancer.nft("-s", "list", "ruleset") == rules, "it begins where the last one ended"
    result = held.stop()
    assert result["moved"] == 0, result


@pytest.mark.parametrize(
    "hand",
    [
        "flush ruleset",
        "delete table netdev nft_dsr",
        "flush chain netdev nft_dsr ingress_eth0",
        "flush map netdev nft_dsr poolbackends_web",
        "flush map netdev nft_dsr slots_web",
        "delete table netdev nft_dsr; add table netdev nft_dsr",
    ],
)
def test_what_others_break_is_repaired(agent: AgentHost, hand: str) -> None:
    agent.serve(QUICK)
    agent.start()
    agent.until(lambda: bool(agent.balancer.info()["in_sync"]))
    wanted = sorted(agent.balancer.nft("-s", "list", "ruleset").replace(",", "").split())
    agent.balancer.nft("-f", "-", text=hand + "\n")
    agent.until(lambda: sorted(agent.balancer.nft("-s", "list", "ruleset").replace(",", "").split()) == wanted, 5)
    assert agent.balancer.connect(HTTP, 30)["ok"] == 30
    agent.until(lambda: "somebody else changed the rules: nft\n" in agent.printed())


def test_a_configuration_that_cannot_be_read_leaves_the_one_before_in_force(agent: AgentHost) -> None:
    agent.serve(QUICK)
    agent.start()
    good = agent.balancer.lab.read("lb", "/etc/nft-dsr/vips.json")
    agent.balancer.lab.write("lb", "/etc/nft-dsr/vips.json", good.replace('"http"', '"htp"'))
    agent.until(lambda: "the configuration is not taken, the one before stays in force" in agent.printed())
    break_service(agent, "b1")
    backends = ("list", "map", "netdev", "nft_dsr", "poolbackends_web")
    agent.until(lambda: "0x0a4d0015" not in agent.balancer.nft(*backends))
    agent.balancer.lab.write("lb", "/etc/nft-dsr/vips.json", good)
    agent.until(lambda: "new configuration; VIPs: 1" in agent.printed())


def test_when_nobody_is_healthy_everybody_serves_if_there_is_a_floor(agent: AgentHost) -> None:
    """All down means more often that the check is wrong than that the pool is gone."""
    agent.serve({**QUICK, "min_healthy": 0.5})
    agent.start()
    for host in ("b1", "b2"):
        break_service(agent, host, "reject with tcp reset", port=HTTP)
    agent.until(lambda: "health is ignored, all backends serve" in agent.printed())
    assert all(agent.healthy().values())
    met = {agent.balancer.where(port=HTTP, source_port=42000 + number) for number in range(12)}
    assert met == {"b1", "b2", "b3"}
    mend_service(agent, "b1")
    agent.until(lambda: agent.healthy() == {"b1": True, "b2": False, "b3": True})


def test_a_server_that_hangs_is_found(agent: AgentHost) -> None:
    """It takes connections and says nothing."""
    agent.serve(QUICK)
    agent.start()
    break_service(agent, "b2", "tcp flags & psh == psh drop")
    agent.until(lambda: not agent.healthy()["b2"])
    assert "no answer within" in agent.printed()


def test_the_commands_that_are_documented(agent: AgentHost, module_runner: ModuleRunner) -> None:
    """As a person types them, by the very program that the role installs."""
    text = (REPOSITORY / "docs" / "health_checks.md").read_text(encoding="utf-8")
    commands = [line.partition("#")[0].split()[1:] for line in text.splitlines() if line.startswith("$ nft-dsr ")]
    assert [words[1] for words in commands] == ["status", "check", "drain", "verify"]
    program = module_runner.folder / "nft-dsr.pyz"
    program.write_bytes(agent_archive.build())
    program.chmod(0o755)
    agent.serve(QUICK)
    agent.start()
    for words in [*commands, ["nft-dsr", "restore", "b1"], ["nft-dsr", "verify"]]:
        said = agent.balancer.lab.run("lb", [str(program), *words[1:]]).stdout
        assert said.strip() and "Traceback" not in said, words
    broken = ["check", "web", "b1"]
    break_service(agent, "b1")
    done = agent.balancer.lab.run("lb", [str(program), *broken], check=False)
    assert done.status == 1 and "connection refused" in done.stdout, done
