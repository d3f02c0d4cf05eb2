# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the command says and does, on a load balancer made of data."""

from __future__ import annotations

import asyncio
import io
import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import Any, Optional

import pytest

from ansible_collections.dsr.layer2.plugins.module_utils.agent import agent, cli, exporter
from ansible_collections.dsr.layer2.plugins.module_utils.agent.cli import Box
from ansible_collections.dsr.layer2.plugins.module_utils.agent.probe_base import Outcome, Target
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr import schedule
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.engine import LoadBalancer
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.health_check import HealthCheck
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.live import Live
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.model import parse_address, parse_vips
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.probing import probe_marks
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.resolved import ResolvedVip
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.state import StateFiles
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.nft_dsr.hosts import Host, backends, mac_of, vip

POOL = [{"address": f"10.77.0.2{number}", "name": f"b{number}"} for number in (1, 2, 3)]
THROUGH = {"type": "tcp", "interval": 30, "timeout": 20}
CHECKED = {**THROUGH, "via": "backend"}
WEB = vip("web", backends=POOL, health_check=CHECKED)
API = vip("api", address="10.77.0.101", backends=POOL[:2])
DNS = vip("dns", address="10.77.0.102", protocol="udp", ports=["53"], backends=backends(22, 24))


class Servers:
    """The backends of checks: who refuses, and who was asked what."""

    def __init__(self) -> None:
        self.refusing: set[str] = set()
        self.broken: set[str] = set()
        self.asked: list[tuple[str, HealthCheck, Target]] = []
        self.running = self.most = 0

    async def probe(self, check: HealthCheck, target: Target) -> Outcome:
        backend = str(target.backend)
        self.asked.append((backend, check, target))
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0)
        self.running -= 1
        if backend in self.broken:
            raise ZeroDivisionError
        refuses = backend in self.refusing
        return Outcome(not refuses, "connection refused" if refuses else "", 0.0025)


class Clock:
    """Time that passes in waits alone; what happens in each is given."""

    def __init__(self) -> None:
        self.now = 100.0
        self.happens: list[Callable[[], object]] = []

    def wait(self, seconds: float) -> None:
        self.now += seconds
        if not self.happens:
            raise KeyboardInterrupt
        self.happens.pop(0)()


def _nobody(say: Callable[[str], None], _metrics: Optional[exporter.Place]) -> int:
    raise AssertionError("the agent was begun")


class Balancer(Host):
    """A load balancer with a command line."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.servers = Servers()
        self.clock = Clock()

    @property
    def box(self) -> Box:
        return Box(
            load_balancer=self.load_balancer,
            files=StateFiles(str(self.folder)),
            live_file=self.live_file,
            asking=self.servers.probe,
            serve=_nobody,  # never the agent itself, which would look at the host that runs the tests
            wait=self.clock.wait,
            clock=lambda: self.clock.now,
        )

    def set(self, *vips: dict[str, Any]) -> None:
        self.load_balancer.set_vips(list(vips), True, False)

    def sent(self, vip_address: str, backend: str, packets: int) -> None:
        """Packets came to a VIP and left to a backend."""
        for name, item in self.nft.table.maps.items():
            for key, element in item.elements.items():
                if name.startswith("services") and key.startswith(f"{vip_address} "):
                    element.packets += packets
                mine = name == "backends_web" or vip_address in key
                if "backends_" in name and mine and key.endswith(f"{int(ip_address(backend)):#010x}"):
                    element.packets += packets


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(schedule, "hash_slots", lambda pool_size: 96)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)


@pytest.fixture
def balancer(tmp_path: Path) -> Balancer:
    made = Balancer(tmp_path)
    made.set(WEB, API, DNS)
    return made


class Said:
    def __init__(self, status: int, out: str, err: str) -> None:
        self.status = status
        self.out = out
        self.err = err

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


Command = Callable[..., Said]


@pytest.fixture
def command(balancer: Balancer, capsys: pytest.CaptureFixture[str]) -> Command:
    def carry_out(*argv: str, box: Optional[Box] = None) -> Said:
        capsys.readouterr()
        status = cli.main(argv, box or balancer.box)
        captured = capsys.readouterr()
        return Said(status, captured.out, captured.err)

    return carry_out


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def on_terminal(monkeypatch: pytest.MonkeyPatch, balancer: Balancer, *argv: str) -> str:
    terminal = Terminal()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", terminal)
        assert cli.main(argv, balancer.box) == 0
    return terminal.getvalue()


# -- status


def test_status(balancer: Balancer, command: Command) -> None:
    with balancer.live_file.held():
        said = command("status")
    assert (said.status, said.err) == (0, "")
    assert said.lines == [
        "agent   runs",
        "kernel  in sync",
        "",
        "  BACKEND        STATE  MAC                WEIGHT  FLOWS  PACKETS",
        "api  10.77.0.101 tcp 80 source_hash                    0        0",
        "  10.77.0.21 b1  up     02:d5:00:00:00:15       1      0        0",
        "  10.77.0.22 b2  up     02:d5:00:00:00:16       1      0        0",
        "dns  10.77.0.102 udp 53 source_hash                    0        0",
        "  10.77.0.22     up     02:d5:00:00:00:16       1      0        0",
        "  10.77.0.24     up     02:d5:00:00:00:18       1      0        0",
        "web  10.77.0.100 tcp 80 source_hash                    0        0",
        "  10.77.0.21 b1  up     02:d5:00:00:00:15       1      0        0",
        "  10.77.0.22 b2  up     02:d5:00:00:00:16       1      0        0",
        "  10.77.0.23 b3  up     02:d5:00:00:00:17       1      0        0",
    ]


def test_status_of_one_vip(command: Command) -> None:
    lines = command("status", "api").lines
    assert [line.split()[0] for line in lines[4:]] == ["api", "10.77.0.21", "10.77.0.22"]


def test_status_says_who_drained(balancer: Balancer, command: Command) -> None:
    drained = vip("web", backends=[POOL[0], {**POOL[1], "state": "drain"}, {**POOL[2], "weight": 0}])
    balancer.set(drained, vip("api", address="10.77.0.101", backends=[POOL[0], {**POOL[1], "state": "drain"}]))
    balancer.load_balancer.drain("b1", None, False, False)
    balancer.load_balancer.drain("b2", "web", False, False)
    lines = command("status").lines
    whys = [lines[at + 1].strip() for at, line in enumerate(lines) if " draining " in line]
    assert whys == [
        "drained by an operator",
        "drained by configuration",
        "drained by an operator",
        "drained by configuration and by an operator",
        "drained by configuration (weight 0)",
    ]


def test_status_of_what_the_agent_says_lasts_as_long_as_the_agent(balancer: Balancer, command: Command) -> None:
    balancer.load_balancer.reconcile(Live({"web": frozenset({parse_address("10.77.0.22", "")})}, {}))
    with balancer.live_file.held():
        assert command("status", "web").out.count("unhealthy") == 1
    said = command("status", "web").out
    assert "unhealthy" not in said and "nobody checks the backends of web" in said


def test_status_of_a_kernel_that_differs(balancer: Balancer, command: Command) -> None:
    balancer.nft.flush()
    assert "kernel  differs from what is configured:\n        the table is missing\n" in command("status").out


def test_status_in_json(balancer: Balancer, command: Command) -> None:
    document = json.loads(command("status", "web", "--json").out)
    present, vips = balancer.load_balancer.info("web")
    assert document == {"agent": False, "present": present, "vips": vips}
    with balancer.live_file.held():
        assert json.loads(command("status", "--json").out)["agent"] is True


def test_status_of_nothing(balancer: Balancer, command: Command) -> None:
    balancer.set()
    said = command("status")
    assert (said.status, said.lines[1:]) == (0, ["kernel  in sync", "", "no VIP is configured"])


def test_narrow_terminals(monkeypatch: pytest.MonkeyPatch, command: Command) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    lines = command("status").lines
    assert max(len(line) for line in lines) == 50 and "…" in lines[4]


@pytest.mark.parametrize("setting, coloured", [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_colours_on_a_terminal_alone(
    setting: dict[str, str],
    coloured: bool,
    monkeypatch: pytest.MonkeyPatch,
    balancer: Balancer,
    command: Command,
) -> None:
    for name, value in setting.items():
        monkeypatch.setenv(name, value)
    text = on_terminal(monkeypatch, balancer, "status")
    assert ("\x1b[32mup\x1b[0m" in text) is coloured
    assert ("\x1b" in text) is coloured
    assert "\x1b" not in command("status").out


def test_watching(balancer: Balancer, command: Command) -> None:
    balancer.clock.happens = [
        lambda: balancer.sent("10.77.0.100", "10.77.0.22", 3000),
        lambda: cli.main(["drain", "b2"], balancer.box),
    ]
    said = command("status", "web", "--watch", "4")
    assert (said.status, said.err) == (0, "")
    looks = [look.split("\n") for look in said.out.split("every 4 s, ")[1:]]
    assert len(looks) == 3
    rows = [next(line.split() for line in look if "10.77.0.22" in line) for look in looks]
    assert [(row[2], row[-2], row[-1]) for row in rows] == [
        ("up", "0", "-"),
        ("up", "3,000", "750"),
        ("draining", "3,000", "0"),
    ]
    heads = [next(line.split() for line in look if line.startswith("web")) for look in looks]
    assert [head[-1] for head in heads] == ["-", "750", "0"]


def test_watching_on_a_terminal_draws_over_what_was(monkeypatch: pytest.MonkeyPatch, balancer: Balancer) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("LINES", "10")
    balancer.clock.happens = [lambda: None]
    text = on_terminal(monkeypatch, balancer, "status", "--watch")
    assert text.startswith("\x1b[2J\x1b[H") and text.endswith("\x1b[J")
    looks = text.split("\x1b[H")[1:]
    assert len(looks) == 2
    for look in looks:
        lines = look.split("\n")[:-1]
        assert len(lines) == 9 and all(line.endswith("\x1b[K") for line in lines)
        assert lines[0].startswith("every 2 s")
        assert lines[-1] == "... 8 more lines; name a VIP to see it alone\x1b[K"


# -- drain, restore


def test_drain_and_restore(balancer: Balancer, command: Command) -> None:
    said = command("drain", "b2")
    assert (said.status, said.err) == (0, "")
    assert said.lines == [
        "api: 10.77.0.22 (b2) drains now: it keeps its flows and gets no new ones",
        "dns: 10.77.0.22 drains now: it keeps its flows and gets no new ones",
        "web: 10.77.0.22 (b2) drains now: it keeps its flows and gets no new ones",
    ]
    states = {row["address"]: row["state"] for row in balancer.load_balancer.info("dns")[1][0]["backends"]}
    assert states == {"10.77.0.22": "drain", "10.77.0.24": "up"}
    assert command("drain", "10.77.0.22").lines == [
        "api: 10.77.0.22 (b2) drained before",
        "dns: 10.77.0.22 drained before",
        "web: 10.77.0.22 (b2) drained before",
        "nothing changed",
    ]
    assert command("restore", "b2").lines == [
        "api: 10.77.0.22 (b2) is restored: it gets new flows again",
        "dns: 10.77.0.22 is restored: it gets new flows again",
        "web: 10.77.0.22 (b2) is restored: it gets new flows again",
    ]
    assert command("restore", "b2").lines[-2:] == ["web: 10.77.0.22 (b2) was not drained", "nothing changed"]


def test_drain_on_one_vip(balancer: Balancer, command: Command) -> None:
    assert command("drain", "b2", "--vip", "api").lines == [
        "api: 10.77.0.22 (b2) drains now: it keeps its flows and gets no new ones"
    ]
    assert [(item.vip.name, bool(item.vip.draining)) for item in balancer.load_balancer.desired()] == [
        ("api", True),
        ("dns", False),
        ("web", False),
    ]


def test_what_configuration_says_is_not_restored(balancer: Balancer, command: Command) -> None:
    balancer.set(vip("web", backends=[{**POOL[0], "state": "drain"}, {**POOL[1], "state": "down"}, POOL[2]]))
    assert command("drain", "b2").lines == [
        "web: 10.77.0.22 (b2) is down by configuration; when it is up again it drains"
    ]
    assert command("restore", "b2").lines == ["web: 10.77.0.22 (b2) is down by configuration"]
    assert command("restore", "b1").lines == [
        "web: 10.77.0.21 (b1) still drains, by configuration",
        "nothing changed",
    ]


def test_the_last_one_that_is_drained(balancer: Balancer, command: Command) -> None:
    balancer.set(vip("web", backends=POOL[:2], on_empty="reject"))
    assert command("drain", "b1").err == ""
    assert command("drain", "b2").err == "nft-dsr: web: nobody gets new flows now (on_empty: reject)\n"
    assert command("restore", "b2").err == ""


def test_a_restore_that_is_not_enough(balancer: Balancer, command: Command) -> None:
    balancer.set(vip("web", backends=[{**POOL[0], "state": "down"}, {**POOL[1], "state": "drain"}]))
    command("drain", "b2")
    said = command("restore", "b2")
    assert said.lines == ["web: 10.77.0.22 (b2) still drains, by configuration"]
    assert said.err == "nft-dsr: web: nobody gets new flows now (on_empty: drop)\n"


def test_a_drain_that_puts_the_kernel_right_says_so(balancer: Balancer, command: Command) -> None:
    command("drain", "b2")
    balancer.nft.flush()
    assert command("drain", "b2").lines[-1].startswith("nothing changed but what differed in the kernel")
    assert command("verify").status == 0


def test_the_drain_of_a_backend_that_has_left(balancer: Balancer, command: Command) -> None:
    command("drain", "10.77.0.24")
    balancer.set(API)
    balancer.load_balancer.set_vips([WEB, API], False, False)
    (balancer.folder / "overrides.json").write_text(
        '{"version": 1, "drained": [{"backend": "10.77.0.24", "vip": null}]}', encoding="utf-8"
    )
    assert command("restore", "10.77.0.24").lines == ["10.77.0.24 is a backend of no VIP (any more)"]
    assert "10.77.0.24" not in (balancer.folder / "overrides.json").read_text(encoding="utf-8")


# -- check


class Checked(LoadBalancer):
    """One that is to serve these VIPs, and whether its kernel does is told."""

    def __init__(self, in_sync: bool, *vips: dict[str, Any]) -> None:
        super().__init__()
        self._in_sync = in_sync
        self._items = [
            ResolvedVip(item, "eth0", "eth0", {server.address: mac_of(str(server.address)) for server in item.backends})
            for item in parse_vips(list(vips))
        ]

    def desired(self) -> list[ResolvedVip]:
        return self._items

    def info(self, name: Any = None) -> tuple[bool, list[dict[str, Any]]]:
        return True, [{"in_sync": self._in_sync} for item in self._items if name in (None, item.vip.name)]


def through(balancer: Balancer, *vips: dict[str, Any], in_sync: bool = True) -> Box:
    """A host whose VIPs are checked through themselves."""
    web = {**WEB, "health_check": THROUGH}
    return replace(balancer.box, load_balancer=Checked(in_sync, *(vips or (web, API, DNS))))


def test_checks(balancer: Balancer, command: Command) -> None:
    said = command("check", box=through(balancer))
    assert (said.status, said.err) == (0, "")
    assert said.lines == [
        "api: no health check is configured",
        "dns: no health check is configured",
        "web: tcp: a connection on port 80, within 20 s",
        "  10.77.0.21 (b1): through the VIP 10.77.0.100 by 02:d5:00:00:00:15: ok, 2.5 ms",
        "  10.77.0.22 (b2): through the VIP 10.77.0.100 by 02:d5:00:00:00:16: ok, 2.5 ms",
        "  10.77.0.23 (b3): through the VIP 10.77.0.100 by 02:d5:00:00:00:17: ok, 2.5 ms",
    ]
    assert [asked[0] for asked in balancer.servers.asked] == ["10.77.0.21", "10.77.0.22", "10.77.0.23"]


def test_a_check_that_fails(balancer: Balancer, command: Command) -> None:
    balancer.servers.refusing.add("10.77.0.22")
    said = command("check", "web")
    assert said.status == 1
    assert [line.split(": ", 2)[2] for line in said.lines[1:]] == [
        "ok, 2.5 ms",
        "FAILED, 2.5 ms: connection refused",
        "ok, 2.5 ms",
    ]
    assert command("check", "web", "b1").status == 0
    assert command("check", "web", "10.77.0.22").status == 1
    assert command("check", "api").status == 0


def _alike() -> tuple[str, str]:
    """Two addresses that would have the same mark if each were alone."""
    seen: dict[int, IPv4Address] = {}
    for number in range(10000):
        address = IPv4Address("10.77.16.0") + number
        mark = probe_marks([address])[address]
        if mark in seen:
            return str(seen[mark]), str(address)
        seen[mark] = address
    raise AssertionError("no two addresses hash alike")


def test_a_check_of_one_backend_asks_nobody_else_and_with_the_same_mark(balancer: Balancer, command: Command) -> None:
    first, second = _alike()
    box = through(
        balancer,
        {**WEB, "address": second, "health_check": THROUGH},
        vip("api", address=first, backends=POOL[:2], health_check=THROUGH),
    )
    command("check", box=box)
    marks = {(asked[2].vip, asked[0]): asked[2].mark for asked in balancer.servers.asked}
    balancer.servers.asked.clear()
    said = command("check", "web", "b2", box=box)
    assert len(said.lines) == 2
    assert [asked[0] for asked in balancer.servers.asked] == ["10.77.0.22"]
    target = balancer.servers.asked[0][2]
    assert target.vip == IPv4Address(second)
    assert target.mark == marks[target.vip, "10.77.0.22"] != 0
    assert target.mark not in probe_marks([target.vip]).values()


def test_who_is_not_asked(balancer: Balancer, command: Command) -> None:
    down = vip("web", backends=[POOL[0], {**POOL[1], "state": "down"}], health_check=CHECKED)
    balancer.set(down)
    said = command("check")
    assert (said.status, said.lines[2]) == (0, "  10.77.0.22 (b2): not asked, it is down by configuration")
    balancer.network.silence("10.77.0.29")
    balancer.set(vip("lax", require_mac=False, backends=backends(23, 29), health_check=CHECKED))
    said = command("check")
    assert (said.status, said.lines[2]) == (1, "  10.77.0.29: not asked, no MAC known")


def test_other_ways_of_checks(balancer: Balancer, command: Command) -> None:
    balancer.set(vip("web", backends=POOL[:1], health_check={**CHECKED, "via": "backend"}))
    balancer.nft.flush()  # which is of no concern then
    said = command("check")
    assert (said.lines[1:], said.err) == (["  10.77.0.21 (b1): at its own address: ok, 2.5 ms"], "")


def test_a_way_through_the_vip_that_the_kernel_does_not_have(balancer: Balancer, command: Command) -> None:
    box = through(balancer, in_sync=False)
    said = command("check", "web", box=box)
    assert said.err.startswith("nft-dsr: the kernel differs from what is configured (nft-dsr verify")
    assert (said.status, len(said.lines)) == (0, 4)
    assert command("check", "api", box=box).err == ""


def test_a_backend_that_moved_is_checked_where_it_is(balancer: Balancer, command: Command) -> None:
    address = parse_address("10.77.0.22", "")
    with balancer.live_file.held():
        balancer.live_file.publish(Live({}, {address: "02:00:00:00:00:99"}))
        said = command("check", "web", "b2", box=through(balancer))
    assert said.lines[1] == "  10.77.0.22 (b2): through the VIP 10.77.0.100 by 02:00:00:00:00:99: ok, 2.5 ms"
    assert mac_of("10.77.0.22") in command("check", "web", "b2", box=through(balancer)).lines[1]


def test_a_probe_with_a_defect_does_not_end_the_others(balancer: Balancer, command: Command) -> None:
    balancer.servers.broken.add("10.77.0.21")
    said = command("check", "web")
    assert said.status == 1
    assert "could not be asked, 0.0 ms: the check itself failed: ZeroDivisionError()" in said.lines[1]
    assert said.lines[2].endswith("ok, 2.5 ms")


def test_many_checks_are_carried_out_at_once_but_not_all(balancer: Balancer, command: Command) -> None:
    balancer.set(vip("web", backends=backends(*range(110, 230)), health_check=CHECKED))
    assert len(command("check").lines) == 121
    assert balancer.servers.most == 64


def test_what_a_server_says_can_be_printed_anywhere(balancer: Balancer, monkeypatch: pytest.MonkeyPatch) -> None:
    async def probe(check: HealthCheck, target: Target) -> Outcome:
        return Outcome(False, "server said 'Grüße'", 0.0)

    raw = io.BytesIO()
    narrow = io.TextIOWrapper(raw, encoding="ascii")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", narrow)
        assert cli.main(["check", "web"], replace(balancer.box, asking=probe)) == 1
    assert b"server said 'Gr??e'" in raw.getvalue()


# -- verify


def test_verify(balancer: Balancer, command: Command) -> None:
    said = command("verify")
    assert (said.status, said.lines, said.err) == (0, ["in sync: the kernel has what is configured"], "")
    pool = next(name for name, item in balancer.nft.table.maps.items() if name.startswith("slots") and item.elements)
    balancer.nft.load(f"flush map netdev nft_dsr {pool}\nadd map netdev nft_dsr other {{ type mark : mark; }}\n")
    said = command("verify")
    assert (said.status, said.err) == (1, "")
    assert said.lines == ["map other: not wanted", f"map {pool}: 96 of 96 elements differ"]
    balancer.nft.flush()
    said = command("verify")
    assert (said.status, said.lines, said.err) == (1, ["the table is missing"], "")


def test_verify_of_a_nic_that_is_gone(balancer: Balancer, command: Command) -> None:
    del balancer.network.links["eth0"]
    said = command("verify")
    assert said.status == 1 and "'eth0', which this host does not have" in said.out


# -- run, errors


def test_run_is_the_agent(balancer: Balancer, monkeypatch: pytest.MonkeyPatch) -> None:
    came = []

    def serve(say: Callable[[str], None], _metrics: Optional[exporter.Place]) -> int:
        say("began")
        came.append(raw.getvalue())
        return 1

    assert Box.serve is agent.main
    raw = io.BytesIO()
    journal = io.TextIOWrapper(raw, encoding="utf-8")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", journal)
        assert cli.main(["run"], replace(balancer.box, serve=serve)) == 1
    assert came == [b"began\n"], "a line is there as soon as it is said"


@pytest.mark.parametrize(
    ("words", "place"),
    [((), None), (("--metrics", ""), None), (("--metrics", "[::1]:9817"), exporter.Place("::1", 9817))],
)
def test_the_agent_hears_where_metrics_are_wanted(
    words: tuple[str, ...], place: Optional[exporter.Place], balancer: Balancer
) -> None:
    heard = []

    def serve(_say: Callable[[str], None], metrics: Optional[exporter.Place]) -> int:
        heard.append(metrics)
        return 0

    assert cli.main(["run", *words], replace(balancer.box, serve=serve)) == 0
    assert heard == [place]


def test_metrics_that_can_be_nowhere_are_no_reason_to_leave_backends_unchecked(
    balancer: Balancer, capsys: pytest.CaptureFixture[str]
) -> None:
    heard = []

    def serve(_say: Callable[[str], None], metrics: Optional[exporter.Place]) -> int:
        heard.append(metrics)
        return 0

    assert cli.main(["run", "--metrics", "localhost"], replace(balancer.box, serve=serve)) == 0
    assert heard == [None]
    assert capsys.readouterr().err == (
        "nft-dsr: --metrics: 'localhost' is no address with a port, such as 127.0.0.1:9817 or [::1]:9817; "
        "there are no metrics\n"
    )


@pytest.mark.parametrize(
    "argv, said",
    [
        ("status nope", "VIP: there is no 'nope'; there are: api, dns, web"),
        ("status nope --watch", "VIP: there is no 'nope'; there are: api, dns, web"),
        ("check nope", "VIP: there is no 'nope'; there are: api, dns, web"),
        (
            "check api b3",
            "BACKEND: 'b3' is not one of the VIP 'api'; there are: 10.77.0.21 (b1), 10.77.0.22 (b2)",
        ),
        ("drain b1 --vip nope", "vip: there is no VIP 'nope'; there are: api, dns, web"),
        (
            "drain b9",
            "backend: 'b9' is not a backend of any VIP; there are: 10.77.0.21 (b1), 10.77.0.22, 10.77.0.22 (b2), "
            "10.77.0.23 (b3), 10.77.0.24",
        ),
    ],
)
def test_what_is_not_there(argv: str, said: str, command: Command) -> None:
    answer = command(*argv.split())
    assert (answer.status, answer.out, answer.err) == (2, "", f"nft-dsr: {said}\n")


@pytest.mark.parametrize("argv", ["run", "status", "status --watch", "drain b1", "restore b1", "check", "verify"])
def test_only_root(argv: str, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr(cli, "_CAP_NET_ADMIN", 63)  # nobody has it
    said = command(*argv.split())
    assert (said.status, said.out) == (2, "")
    assert said.err == "nft-dsr: only root can read and change the kernel's rules; run it with sudo\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="somebody has to have a capability")
def test_the_agent_may_be_another_user_who_may_change_rules(
    balancer: Balancer, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr(cli, "_CAP_NET_ADMIN", 0)  # CAP_CHOWN, which root has everywhere
    with pytest.raises(AssertionError, match="the agent was begun"):
        command("run")
    assert command("status").status == 2


@pytest.mark.parametrize("argv", ["status", "drain b1", "check", "verify"])
def test_files_that_cannot_be_read(argv: str, balancer: Balancer, command: Command) -> None:
    (balancer.folder / "vips.json").write_text("{", encoding="utf-8")
    said = command(*argv.split())
    assert (said.status, said.out) == (2, "")
    assert "vips.json: is not JSON" in said.err and "Traceback" not in said.err


@pytest.mark.parametrize(
    "argv, said",
    [
        ("", "COMMAND"),
        ("status --watch web", "'web' is not a number of seconds (0.1 to 3600); a VIP goes before it"),
        ("status --watch nan", "'nan' is not a number of seconds"),
        ("status --watch 0", "'0' is not a number of seconds"),
        ("status --watch --json", "not allowed with argument"),
        ("drain", "BACKEND"),
    ],
)
def test_commands_that_are_none(argv: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(argv.split())
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("argv", ["", "run", "status", "drain", "restore", "check", "verify"])
def test_help(argv: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([*argv.split(), "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert all(len(line) <= 80 for line in text.splitlines()) and "nft-dsr" in text


def test_an_interrupt_is_no_traceback(balancer: Balancer, command: Command) -> None:
    async def probe(check: HealthCheck, target: Target) -> Outcome:
        raise KeyboardInterrupt

    assert command("check", box=replace(balancer.box, asking=probe)).status == 130


def test_a_reader_that_has_seen_enough(balancer: Balancer, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", encoding="utf-8") as pipe, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", pipe)
        assert cli.main(["status"], balancer.box) == 130


def test_output_that_cannot_be_kept(
    balancer: Balancer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with open("/dev/full", "w", encoding="utf-8") as full, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", full)
        assert cli.main(["status"], balancer.box) == 2
    assert "No space left on device" in capsys.readouterr().err
