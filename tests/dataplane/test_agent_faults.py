# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of every kind against the agent's promises: how soon they are found, and whom they touch.

Each test prints the figure that it measured (pytest -s shows it, and reports have it as a property).
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Callable

import pytest
from agent_host import AgentHost, break_service
from balancer import HTTP, LINES, WEB, Balancer, clean
from lab import Lab
from lab.modules import ModuleRunner

INTERVAL, FALL = 0.2, 3
CHECK = {"type": "http", "interval": INTERVAL, "timeout": 0.15, "rise": 2, "fall": FALL}
PROMISED = INTERVAL * FALL + 0.1
SLOW = 8081

_SLOW_SERVER = """\
import asyncio, sys

async def answer(reader, writer):
    await reader.readuntil(b"\\r\\n\\r\\n")
    await asyncio.sleep(float(open("/tmp/delay").read()))
    writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n")
    writer.close()

async def main():
    server = await asyncio.start_server(answer, "0.0.0.0", int(sys.argv[1]))
    print("READY", flush=True)
    await server.serve_forever()

asyncio.run(main())
"""

# nft of somebody else that never rests, on a table of its own
_BUSY = """\
import subprocess, time
rules = "\\n".join(f"add element inet other numbers {{ {number} }}" for number in range(2000))
longest = count = 0
try:
    while True:
        begun = time.monotonic()
        text = "add table inet other; add set inet other numbers { type mark; }; flush set inet other numbers"
        text += "\\n" + rules
        subprocess.run(["nft", "-f", "-"], input=text, text=True, check=True)
        longest = max(longest, time.monotonic() - begun)
        count += 1
        print(f"{count} {longest:.3f}", flush=True)
        if count == 1:
            print("READY", flush=True)
finally:
    subprocess.run(["nft", "delete", "table", "inet", "other"])
"""


@pytest.fixture
def agent(balancer: Balancer, fresh_lab: Lab, module_runner: ModuleRunner) -> Iterator[AgentHost]:
    yield AgentHost(balancer, module_runner)


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """Say what was measured."""

    def say(what: str, value: object) -> None:
        record_property(what, value)
        print(f"\nFIGURE {what}: {value}")

    return say


def await_said(agent: AgentHost, *texts: str, seconds: float = 10.0) -> float:
    """Wait until the agent has printed all of this, in this order; the time at which it was seen."""
    limit = time.monotonic() + seconds
    while True:
        now = time.monotonic()
        printed = agent.printed()
        at = 0
        for text in texts:
            at = printed.find(text, at) + 1
            if not at:
                break
        else:
            return now
        assert now < limit, f"it did not say {texts}, but: {printed}"
        time.sleep(0.002)


def await_out(agent: AgentHost, host: str = "b1") -> float:
    """Wait until a backend is out of service, in the kernel; the time at which that was seen."""
    return await_said(agent, f"({host}) is unhealthy: ", "changed: ")


def settle(agent: AgentHost) -> None:
    """All backends have been asked, and what the beginning changed was changed."""
    agent.until(lambda: bool(agent.balancer.info()["in_sync"]))


def signal_all(lab: Lab, host: str, number: int) -> None:
    """Send a signal to all that runs on a host, whose processes are in a space of their own."""
    lab.run(host, ["python3", "-c", f"import os; os.kill(-1, {number})"])


FAULTS: dict[str, Callable[[Lab], None]] = {
    "the service is killed": lambda lab: signal_all(lab, "b1", signal.SIGKILL),
    "the service is stopped, and the kernel takes connections": lambda lab: signal_all(lab, "b1", signal.SIGSTOP),
    "the link is down": lambda lab: lab.link_down("b1"),
    "the cable is out": lambda lab: lab.unplug("b1"),
    "the host is gone": lambda lab: lab.remove_host("b1"),
    "the VIP is gone": lambda lab: lab.ip("b1", f"address delete {WEB}/32 dev lo"),
    "the NIC is gone": lambda lab: lab.ip("b1", "link delete eth0"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_in_time_and_touches_nobody_else(
    agent: AgentHost, fault: str, figure: Callable[..., None]
) -> None:
    agent.serve(CHECK)
    agent.start()
    settle(agent)
    held = agent.balancer.hold(30, LINES)
    FAULTS[fault](agent.balancer.lab)
    begun = time.monotonic()
    took = await_out(agent) - begun
    figure(fault, f"out of service after {took:.3f} s of {PROMISED:.1f}")
    assert took <= PROMISED
    met = agent.balancer.connect(HTTP, 60)
    assert met["ok"] == 60 and "b1" not in met["by_host"], met
    result = held.stop()
    assert result["opened"] == 30 and result["by_host"]["b1"] < 30, result
    assert set(result["broken_by_host"]) <= {"b1"} and result["moved"] == 0, result
    assert result["lines"] > 300, result


@contextmanager
def slow_servers(lab: Lab, delay: float) -> Iterator[None]:
    """On all backends one whose answers take as long as a file says."""
    started = []
    for host in ("b1", "b2", "b3"):
        lab.write(host, "/tmp/delay", "0")
        started.append(lab.popen(host, ["python3", "-c", _SLOW_SERVER, str(SLOW)]))
    try:
        for running in started:
            running.wait_for("READY")
        lab.write("b1", "/tmp/delay", str(delay))
        yield
    finally:
        for running in started:
            running.close()


def test_answers_that_come_too_late_are_none(agent: AgentHost, figure: Callable[..., None]) -> None:
    """And those that come just in time are answers."""
    lab = agent.balancer.lab
    agent.balancer.serve("connection_hash", ports=(LINES, HTTP, SLOW), health_check={**CHECK, "port": SLOW})
    with slow_servers(lab, 0.1):
        agent.start()
        settle(agent)
        held = agent.balancer.hold(30, LINES)
        time.sleep(20 * INTERVAL)  # nothing is to happen
        assert "unhealthy" not in agent.printed() and all(agent.healthy().values())
        lab.write("b1", "/tmp/delay", "0.25")
        begun = time.monotonic()
        took = await_out(agent) - begun
        figure("answers after the timeout", f"out of service after {took:.3f} s of {PROMISED:.1f}")
        assert took <= PROMISED
        met = agent.balancer.connect(HTTP, 60)
        assert met["ok"] == 60 and "b1" not in met["by_host"], met
        result = held.stop()
    assert set(result["broken_by_host"]) <= {"b1"} and result["moved"] == 0, result


def test_an_agent_that_is_killed_loses_nothing(agent: AgentHost) -> None:
    """Neither a connection, nor a rule, nor what it knows."""
    agent.serve(CHECK, "round_robin")
    agent.start()
    settle(agent)
    held = agent.balancer.hold(40, LINES)
    rules = agent.balancer.nft("-s", "list", "chain", "netdev", "nft_dsr", "ingress_eth0")
    number = agent.balancer.flows()
    agent.kill()
    time.sleep(1)  # of traffic
    agent.start()
    settle(agent)
    assert agent.balancer.nft("-s", "list", "chain", "netdev", "nft_dsr", "ingress_eth0") == rules
    assert "changed: " not in agent.printed() and agent.balancer.flows() == number
    clean(held.stop())


def test_somebody_elses_transactions_delay_nothing_for_longer_than_they_take(
    agent: AgentHost, figure: Callable[..., None]
) -> None:
    """Each of them makes the agent compare the table with what it should be, which is to leave it time for its own."""
    agent.serve(CHECK)
    agent.start()
    settle(agent)
    with agent.balancer.lab.popen("lb", ["python3", "-u", "-c", _BUSY]) as busy:
        busy.wait_for("READY")
        break_service(agent, "b1")
        begun = time.monotonic()
        took = await_out(agent) - begun
        count, longest = busy.printed().replace("READY", "").split()[-2:]
    figure(
        "busy nft", f"out of service after {took:.3f} s; {count} transactions of others, the longest took {longest} s"
    )
    assert took <= PROMISED + float(longest)
    assert int(count) >= 3


# -- a table that somebody deletes, with flows alive


def delete_table(agent: AgentHost) -> float:
    """As an accident does; how long it was gone, at most."""
    begun = time.monotonic()
    agent.balancer.nft("delete", "table", "netdev", "nft_dsr")
    await_said(agent, "changed: ")
    return time.monotonic() - begun


def without_own_address(agent: AgentHost) -> None:
    """The load balancer does not hold the VIP, as where a router sends it there: its own stack does not reset flows."""
    lab = agent.balancer.lab
    lab.ip("lb", f"address delete {WEB}/32 dev eth0")
    lab.ip("client", f"neighbour replace {WEB} lladdr {lab.hosts['lb'].mac} dev eth0 nud permanent")


def test_hash_flows_outlive_the_table(agent: AgentHost, figure: Callable[..., None]) -> None:
    """What is sent while it is gone is sent again."""
    agent.serve(CHECK)
    without_own_address(agent)
    agent.start()
    settle(agent)
    held = agent.balancer.hold(100, LINES)
    gone = delete_table(agent)
    time.sleep(1)  # of traffic
    result = held.stop()
    figure("hash flows, table deleted", f"back after {gone:.3f} s, {result['broken']} of 100 broken")
    assert gone < 1
    clean(result)


def test_tracked_flows_go_by_the_hash_when_their_table_was_gone(agent: AgentHost, figure: Callable[..., None]) -> None:
    """Each by the same from then on. Those whose backend is another by that are broken, and no others."""
    agent.serve(CHECK, "round_robin")
    without_own_address(agent)
    agent.start()
    settle(agent)
    ports = range(42000, 42012)
    before = {port: agent.balancer.where(flags="S", source_port=port) for port in ports}
    assert {port: agent.balancer.where(flags="A", source_port=port) for port in ports} == before
    held = agent.balancer.hold(100, LINES)
    delete_table(agent)
    after = {port: agent.balancer.where(flags="A", source_port=port) for port in ports}
    assert set(after.values()) == {"b1", "b2", "b3"}
    for _again in range(2):
        assert {port: agent.balancer.where(flags="A", source_port=port) for port in ports} == after
    result = held.stop()
    kept = sum(before[port] == after[port] for port in ports)
    figure(
        "tracked flows, table deleted",
        f"{100 - result['broken']} of 100 connections and {kept} of {len(ports)} crafted flows keep their backend",
    )
    assert result["opened"] == 100 and result["moved"] == 0, result
    assert 10 <= 100 - result["broken"] <= 60, "a third of them, of three backends"
