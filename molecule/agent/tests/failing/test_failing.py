# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the agent makes of failures: of a service, of a VIP that is lost, of its own, of the rules."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest

from ansible_collections.dsr.layer2.molecule.resources.scenario import Machine, Scenario

LAB = Scenario.running()
LB, CLIENT = LAB.lb, LAB.client
FIRST, SECOND, THIRD = LAB.backends
NAMES = {backend.name for backend in LAB.backends}
UNIT = "nft-dsr-agent.service"
PROJECT = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])
CONFIGURATION = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "ansible.cfg"
SOON = 10.0  # seconds within which something has to come about; it takes two or three


def until(true: Callable[[], bool], what: str) -> None:
    """Ask again until it is true. Each question takes its time, so that there is no need to wait in between."""
    limit = time.monotonic() + SOON
    while not true():
        if time.monotonic() > limit:
            raise AssertionError(f"not within {SOON:g} s: {what}\n{LB.run('journalctl', '-n', '20', '-u', UNIT)}")


def out_of_service() -> dict[str, set[str]]:
    """The backends of each VIP that fail their check. The rules are as it says: the agent has brought them to it."""
    found = {}
    for vip in LB.json("nft-dsr", "status", "--json")["vips"]:
        assert vip["in_sync"], vip["differences"]
        found[vip["name"]] = {backend["name"] for backend in vip["backends"] if not backend["healthy"]}
    return found


def await_out_of_service(**failing: Machine) -> None:
    """These VIPs are without these backends, and nothing else fails."""
    wanted = {name: {failing[name].name} if name in failing else set() for name in LAB.vips}
    until(lambda: out_of_service() == wanted, f"out of service is to be {failing or 'none'}")


def answering(vip: str) -> set[str]:
    """Who answers new connections, none of which fails."""
    settings = LAB.vips[vip]
    udp = ["--protocol", "udp"] if settings.get("protocol") == "udp" else []
    options = ["--count", "60", "--concurrency", "3", *udp]
    report = CLIENT.connect(settings["address"], int(settings["ports"][0]), *options)
    assert (report["ok"], report["failed"]) == (60, 0), report
    return set(report["by_host"])


@contextlib.contextmanager
def stopped(backend: Machine, service: str) -> Iterator[None]:
    backend.run("systemctl", "stop", service)
    try:
        yield
    finally:
        backend.run("systemctl", "start", service)


@contextlib.contextmanager
def without_address(backend: Machine, address: str) -> Iterator[None]:
    backend.run("ip", "address", "del", f"{address}/32", "dev", "lo")
    try:
        yield
    finally:
        backend.run("ip", "address", "add", f"{address}/32", "dev", "lo")


def apply_site(**variables: str) -> tuple[dict[str, int], str]:
    """Run the playbook; how many changes it made on each host, and what it said."""
    environment = {**os.environ, "ANSIBLE_CONFIG": str(CONFIGURATION), "ANSIBLE_NOCOLOR": "1"}
    environment.pop("ANSIBLE_FORCE_COLOR", None)
    inventory = Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"]) / "inventory/hosts.yml"
    command = ["ansible-playbook", "--inventory", str(inventory), str(PROJECT / "playbooks/site.yml")]
    for name, value in {"dsr_verify": "false", **variables}.items():
        command += ["--extra-vars", f"{name}={value}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    changes = re.findall(r"^(\S+) .*changed=(\d+)", done.stdout, re.MULTILINE)
    assert done.returncode in (0, 2) and changes, done.stdout + done.stderr
    return {host: int(number) for host, number in changes}, done.stdout + done.stderr


def kill_agent() -> int:
    """Without a chance to say anything; how often systemd had started it again before."""
    before = int(LB.run("systemctl", "show", "--property=NRestarts", "--value", UNIT))
    LB.run("systemctl", "kill", "--signal=KILL", UNIT)
    return before


def await_agent(restarts: int) -> None:
    """It runs again, and is a later one."""
    wanted = {f"NRestarts={restarts}", "ActiveState=active"}
    shown = ("systemctl", "show", "--property=NRestarts,ActiveState", UNIT)
    until(lambda: set(LB.run(*shown).split()) == wanted, f"{UNIT} is to run")


@pytest.fixture(autouse=True)
def _all_well() -> None:
    """Every test begins with all backends in service."""
    await_out_of_service()


def test_agent_is_installed() -> None:
    unit = LB.host.service(UNIT)
    assert unit.is_enabled
    assert unit.is_running
    program = LB.host.file("/usr/local/lib/nft-dsr/nft-dsr.pyz")
    assert (program.user, program.group, program.mode) == ("root", "root", 0o755)
    assert LB.host.file("/usr/local/sbin/nft-dsr").linked_to == program.path


def test_agent_is_nobody_else() -> None:
    """A user of its own, who may change rules and ping, and nothing else."""
    pid = LB.run("systemctl", "show", "--property=MainPID", "--value", UNIT).strip()
    status = dict(line.split(":\t", 1) for line in LB.run("cat", f"/proc/{pid}/status").splitlines() if ":\t" in line)
    number = LB.run("id", "--user", "nft-dsr").strip()
    assert status["Uid"].split() == [number] * 4 and number != "0"
    assert {int(status[name], 16) for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {1 << 12 | 1 << 13}
    assert status["NoNewPrivs"] == "1"
    owners = {}
    for line in LB.run(
        "stat", "--format=%n %U %G %a", "/run/nft-dsr", *LB.run("find", "/run/nft-dsr").split()[1:]
    ).splitlines():
        name, *rest = line.split()
        owners[name] = " ".join(rest)
    assert owners.pop("/run/nft-dsr") == "root root 755"
    assert owners.pop("/run/nft-dsr/lock") == "root nft-dsr 640"
    assert owners.pop("/run/nft-dsr/seen.json", "root root 644") == "root root 644"
    assert owners.pop("/run/nft-dsr/agent") == "nft-dsr nft-dsr 755"
    assert owners.pop("/run/nft-dsr/agent/state.json") == "nft-dsr nft-dsr 644"
    assert all(name.startswith("/run/nft-dsr/agent/") and "nft-dsr nft-dsr" in owner for name, owner in owners.items())


def test_agent_is_confined() -> None:
    said = LB.run("systemd-analyze", "security", "--no-pager", UNIT).splitlines()[-1]
    print(said)
    assert float(re.findall(r": (\d+\.\d+)", said)[0]) <= 2.0, said


def test_turns_of_least_connections_are_given_out() -> None:
    """By a user that may do that, and no other program has to run for it."""

    def turns() -> str:
        return LB.run("nft", "list", "map", "netdev", "nft_dsr", "turns_least")

    before = turns()

    def given_out() -> bool:
        assert answering("least") == NAMES
        return turns() != before

    until(given_out, "turns are to be given out")
    journal = LB.run("journalctl", "--no-pager", "-o", "cat", "-u", UNIT)
    assert "cannot be steered" not in journal
    assert {vip["in_sync"] for vip in LB.json("nft-dsr", "status", "--json")["vips"]} == {True}


@pytest.mark.parametrize("vip", ["web", "echo"])
def test_all_serve_while_all_is_well(vip: str) -> None:
    assert answering(vip) == NAMES


def test_a_service_that_fails_and_comes_back() -> None:
    """Ansible in the middle of it changes nothing, and a new agent knows what the old one knew."""
    rest = NAMES - {FIRST.name}
    with stopped(FIRST, "answers.service"):
        await_out_of_service(web=FIRST)
        assert answering("web") == rest

        changes, said = apply_site()
        assert {host for host, number in changes.items() if not number} >= {LB.name, *NAMES}, said
        assert "failed=1" not in said
        assert answering("web") == rest

        restarts = kill_agent()
        assert answering("web") == rest
        await_agent(restarts + 1)
        await_out_of_service(web=FIRST)
        assert answering("web") == rest
    await_out_of_service()
    assert answering("web") == NAMES


def test_metrics_have_every_backend() -> None:
    """In the sandbox of the agent, which may ask the kernel for its counters."""
    answering("web")
    asked = (
        "import urllib.request; "
        "print(urllib.request.urlopen('http://127.0.0.1:9817/metrics', timeout=10).read().decode())"
    )

    def up() -> set[tuple[str, str]]:
        page = LB.run("python3", "-c", asked)
        assert 'nft_dsr_collector_success{collector="counters"} 1.0' in page, page
        assert re.search(r'^nft_dsr_vip_packets_total{vip="web"} [1-9]', page, re.MULTILINE), page
        found = re.findall(r"^nft_dsr_backend_up\{(.*)\} 1\.0$", page, re.MULTILINE)
        labels = [dict(re.findall(r'(\w+)="(.*?)"', text)) for text in found]
        return {(label["vip"], label["name"]) for label in labels}

    wanted = {(vip, name) for vip in LAB.vips for name in NAMES}
    until(lambda: up() == wanted, "all backends are up")
    with stopped(FIRST, "answers.service"):
        until(lambda: up() == wanted - {("web", FIRST.name)}, "one is not")


def test_a_command_that_fails_and_succeeds_again() -> None:
    """Commands run in the sandbox of the agent, and may use the network."""
    with stopped(SECOND, "files.service"):
        await_out_of_service(files=SECOND)
    await_out_of_service()


@pytest.mark.parametrize("vip", ["web", "echo"])
def test_a_backend_that_loses_the_vip(vip: str) -> None:
    """Its service is as well as ever, at its own address."""
    with without_address(THIRD, LAB.vips[vip]["address"]):
        await_out_of_service(**{vip: THIRD})
        assert answering(vip) == NAMES - {THIRD.name}
    await_out_of_service()
    assert answering(vip) == NAMES


def test_traffic_flows_without_the_agent() -> None:
    restarts = kill_agent()
    assert answering("web") == NAMES
    await_agent(restarts + 1)
    assert answering("web") == NAMES


def test_rules_that_somebody_removes_come_back() -> None:
    LB.run("nft", "delete", "table", "netdev", "nft_dsr")
    until(lambda: LB.host.run("nft list table netdev nft_dsr").rc == 0, "the table is to be there")
    assert answering("web") == NAMES


def test_who_stops_the_rules_stops_the_agent() -> None:
    """And who starts them again has both."""
    LB.run("systemctl", "stop", "nft-dsr.service")
    assert not LB.host.service(UNIT).is_running
    assert LB.host.run("nft list table netdev nft_dsr").rc != 0
    LB.run("systemctl", "start", "nft-dsr.service")
    until(lambda: bool(LB.host.service(UNIT).is_running), f"{UNIT} is to run")
    assert answering("web") == NAMES


def test_checks_that_nobody_would_carry_out_are_refused() -> None:
    """Before anything is changed."""
    changes, said = apply_site(load_balancer_agent="false")
    assert not any(changes.values()), said
    words = " ".join(said.split())
    assert f"health_check of the VIPs {', '.join(LAB.vips)} has no effect" in words
    assert "Set load_balancer_agent: true" in words
    assert LB.host.service(UNIT).is_running
