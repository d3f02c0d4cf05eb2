# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Least connections: real connections come and go, and the agent's turns are held against the exact algorithm."""

from __future__ import annotations

import heapq
import statistics
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pytest
from agent_host import AgentHost
from balancer import HTTP, LINES, WEB, WEB6, Balancer, pool
from lab import Lab
from lab.modules import ModuleRunner
from lab.traffic.coming import arrivals

LOAD: dict[str, Any] = {"rate": 150, "life": 1.5, "seconds": 9}
BEGAN = "began; VIPs: 1, checked: 0, checks: 0"
WARM = 4.0  # seconds until the state does not depend on the beginning any more
CHECK = {"type": "http", "port": HTTP, "interval": 0.4, "timeout": 0.3, "rise": 2, "fall": 2}


class Spread(NamedTuple):
    """Of open connections for the weight, in parts of their mean over the backends; means over time."""

    deviation: float
    fullest: float

    def __str__(self) -> str:
        return f"{self.deviation:.1%} / {self.fullest:.1%}"


def spread(samples: list[tuple[float, dict[str, int]]], weights: Mapping[str, int]) -> Spread:
    found = []
    for at, opened in samples:
        if at < WARM:
            continue
        full = [opened.get(host, 0) / weight for host, weight in weights.items()]
        mean = statistics.fmean(full)
        found.append((statistics.pstdev(full) / mean, max(full) / mean - 1))
    return Spread(*(statistics.fmean(column) for column in zip(*found)))


def exact(weights: Mapping[str, int], slow: Mapping[str, float], seed: int = 1) -> Spread:
    """The same connections by an algorithm that sees every packet."""
    opened = dict.fromkeys(weights, 0)
    ends: list[tuple[float, str]] = []
    samples = []
    sampled = 0.0
    for arrival in arrivals(seed, **LOAD):
        while ends and ends[0][0] <= arrival.at:
            opened[heapq.heappop(ends)[1]] -= 1
        host = min(weights, key=lambda host: ((opened[host] + 1) / weights[host], host))
        opened[host] += 1
        heapq.heappush(ends, (arrival.at + arrival.life * slow.get(host, 1), host))
        if arrival.at >= sampled:
            samples.append((arrival.at, dict(opened)))
            sampled += 0.05
    return spread(samples, weights)


@pytest.fixture
def agent(balancer: Balancer, fresh_lab: Lab, module_runner: ModuleRunner) -> Iterator[AgentHost]:
    yield AgentHost(balancer, module_runner)


def serve(agent: AgentHost, scheduler: str = "least_connections", **options: Any) -> None:
    agent.balancer.serve(scheduler, ports=(HTTP, LINES), **options)
    agent.start("began; VIPs: 1, checked: 1, checks: 3" if "health_check" in options else BEGAN)


def come(agent: AgentHost, *arguments: object, **changes: Any) -> Any:
    options = {**LOAD, **changes}
    address = WEB if agent.balancer.version == 4 else WEB6
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    return agent.balancer.lab.start_traffic("client", "come", address, LINES, *words, *arguments)


def until_turns_change(agent: AgentHost) -> None:
    """Until the agent has given some out anew."""
    given = agent.balancer.nft("list", "map", "netdev", "nft_dsr", "turns_web")
    agent.until(lambda: agent.balancer.nft("list", "map", "netdev", "nft_dsr", "turns_web") != given)


@pytest.mark.parametrize(
    ("scheduler", "weights", "slow", "version"),
    [
        ("least_connections", {"b1": 1, "b2": 1, "b3": 1}, {}, 4),
        ("least_connections", {"b1": 1, "b2": 1, "b3": 1}, {"b1": 6.0}, 4),
        ("least_connections", {"b1": 1, "b2": 1, "b3": 1}, {"b2": 6.0}, 6),
        ("weighted_least_connections", {"b1": 10, "b2": 1, "b3": 1}, {}, 4),
    ],
    ids=["equal", "one slow", "one slow, IPv6", "weights 10:1"],
)
def test_connections_are_spread_as_by_the_exact_algorithm(
    agent: AgentHost,
    scheduler: str,
    weights: dict[str, int],
    slow: dict[str, float],
    version: int,
    record_property: Any,
) -> None:
    weighted = {host: {"weight": weight} for host, weight in weights.items()}
    serve(agent, scheduler, version=version, backends=pool(version, **weighted))
    load = come(agent, *(f"--slow={host}={times}" for host, times in slow.items()))
    met = load.wait_for("DONE", timeout=60).stop()
    assert met["came"] > 0.9 * LOAD["rate"] * LOAD["seconds"] and not met["errors"], met
    ours, best = spread(met["samples"], weights), exact(weights, slow)
    record_property("spread", f"{ours}, exact: {best}")
    print(f"{scheduler} {weights} {slow}: {ours}, exact: {best}, latest {met['latest']}")
    few = 12 / (LOAD["rate"] * LOAD["life"])  # a backend of weight 1 beside one of 10 has a dozen
    allowed = 0.08 if max(weights.values()) == 1 else few * 3
    assert ours.deviation <= best.deviation + allowed, (ours, best)


_WRITES = """\
import sys
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.batch import generation, give_turns
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.elements import elements
number = generation() + int(sys.argv[1])
try:
    turns = {0: (True, 0xa4d0016), 1: (True, None), 255: (False, 0xa4d0017)}
    assert give_turns({sys.argv[2]: turns}, number) == generation()
except Exception as error:
    print(type(error).__name__, error)
number = lambda data: int.from_bytes(data, sys.byteorder)
owners = {number(row.key): number(row.value) for row in elements("turns_web")}
print(*(hex(owners.get(turn, 0)) for turn in (0, 1, 255)))
"""


def test_the_kernel_takes_turns_whole_and_at_their_time_or_not_at_all(
    balancer: Balancer, module_runner: ModuleRunner
) -> None:
    """The messages that no nft wrote: taken, overtaken, for a map that is not there, and of turns that are not."""
    balancer.serve("least_connections")
    balancer.nft("delete element netdev nft_dsr turns_web { 255 }")
    before = balancer.nft("list", "map", "netdev", "nft_dsr", "turns_web")

    def write(off: int, name: str = "turns_web") -> list[str]:
        argv = ["/usr/bin/env", f"PYTHONPATH={module_runner.folder}", "/usr/bin/python3", "-c", _WRITES, str(off), name]
        return balancer.lab.run("lb", argv).stdout.splitlines()

    untouched = write(-1)
    assert untouched[0] == "Overtaken another transaction came first"
    assert write(0, "turns_api")[0].endswith("does not take turns: No such file or directory")
    assert balancer.nft("list", "map", "netdev", "nft_dsr", "turns_web") == before
    assert write(0) == ["0xa4d0016 0x0 0xa4d0017"]
    assert write(0)[0].endswith("does not take turns: No such file or directory"), "turn 1 is nobody's"
    assert "0x0a4d0017" in balancer.nft("get", "element", "netdev", "nft_dsr", "turns_web", "{ 255 }")


def test_a_run_of_ansible_finds_nothing_to_change(agent: AgentHost) -> None:
    """While turns are given out anew all the time, also where the kernel is asked for everything."""
    serve(agent)
    load = come(agent, "--slow=b1=8")
    until_turns_change(agent)
    for _run in range(3):
        result = agent.again()
        assert not result["changed"] and "warnings" not in result, result
        assert agent.balancer.info()["in_sync"]
        agent.balancer.forget()
    assert "changed:" not in agent.printed()
    load.stop()


def test_without_an_agent_connections_come_in_turns(agent: AgentHost) -> None:
    """Which is said; and what an agent left is put in order."""
    result = agent.balancer.serve("weighted_least_connections", backends=pool(b1={"weight": 4}))
    assert "nobody counts connections for web" in str(result["warnings"])
    met = [agent.balancer.where(port=HTTP, source_port=42000 + number) for number in range(12)]
    assert sorted(met) == ["b1"] * 8 + ["b2"] * 2 + ["b3"] * 2
    agent.start(BEGAN)
    load = come(agent, "--slow=b1=8")
    until_turns_change(agent)
    load.stop()
    agent.kill()
    assert agent.again()["changed"]
    assert not agent.again()["changed"]


def test_who_fails_or_drains_gets_no_turn_and_nobody_else_loses_a_connection(agent: AgentHost) -> None:
    serve(agent, health_check=CHECK)
    held = agent.balancer.hold(30)
    load = come(agent, seconds=30)
    agent.break_service("b1")
    agent.until(lambda: not agent.healthy()["b1"])
    assert "0x0a4d0015" not in agent.balancer.nft("list", "map", "netdev", "nft_dsr", "turns_web")
    agent.mend_service("b1")
    agent.until(lambda: agent.healthy()["b1"])
    agent.until(lambda: "0x0a4d0015" in agent.balancer.nft("list", "map", "netdev", "nft_dsr", "turns_web"))
    agent.balancer.module.ok("lb", "nft_dsr_drain", {"backend": "b2", "state": "drained"})
    assert "0x0a4d0016" not in agent.balancer.nft("list", "map", "netdev", "nft_dsr", "turns_web")
    load.stop()
    result = held.stop()
    assert result["broken"] == result["broken_by_host"].get("b1", 0), result


def test_one_that_joins_starts_slowly(agent: AgentHost) -> None:
    """The exact algorithm would give it every connection until it is level."""
    serve(agent, backends=pool(b3=None))
    load = come(agent, seconds=30)
    agent.until(lambda: sum(agent.flows_by_mark().values()) > 150)
    before = agent.flows_by_mark()
    arguments = {"name": "web", "address": WEB, "ports": [str(HTTP), str(LINES)], "scheduler": "least_connections"}
    agent.balancer.module.ok("lb", "nft_dsr_vip", {**arguments, "backends": pool()})
    met: dict[str, int] = {}

    def has_some() -> bool:
        met.update(agent.flows_by_mark())
        return met.get("b3", 0) >= 2

    took = agent.until(has_some)
    assert took < 5 and met["b3"] < before["b1"] / 2, (before, met)
    load.stop()


def test_it_goes_on_after_the_rules_were_removed(agent: AgentHost) -> None:
    serve(agent)
    load = come(agent, "--slow=b1=6", seconds=40)
    agent.until(lambda: sum(agent.flows_by_mark().values()) > 150)
    agent.balancer.nft("flush ruleset")
    agent.until(lambda: "turns_web" in agent.balancer.nft("list ruleset"), 5)
    until_turns_change(agent)
    load.stop()
    assert "cannot be steered" not in agent.printed()


def test_it_goes_on_where_the_last_agent_ended(agent: AgentHost) -> None:
    """A dead agent changes nothing, and the next one breaks nothing."""
    serve(agent)
    load = come(agent, "--slow=b1=6", seconds=40)
    agent.until(lambda: sum(agent.flows_by_mark().values()) > 150)
    held = agent.balancer.hold(30)
    agent.kill()
    rules = agent.balancer.nft("-s", "-t", "list", "ruleset")
    agent.start(BEGAN)
    until_turns_change(agent)
    assert agent.balancer.nft("-s", "-t", "list", "ruleset") == rules
    load.stop()
    result = held.stop()
    assert result["broken"] == result["moved"] == 0, result
