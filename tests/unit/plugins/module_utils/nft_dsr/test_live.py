# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an agent published, and what runs of modules make of it."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import Any, Optional

import pytest

from ansible_collections.dsr.layer2.plugins.module_utils.common.command import Completed
from ansible_collections.dsr.layer2.plugins.module_utils.common.errors import CommandError, ConfigError, HostError
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr import model
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.engine import Result
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.failing import Failing
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.live import Live, LiveFile
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.resolved import ResolvedVip
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.nft_dsr.hosts import Host, backends, mac_of, vip
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.nft_dsr.memory_nft import MemoryNft

pytestmark = pytest.mark.usefixtures("small_tables")

B1, B2 = IPv4Address("10.77.0.21"), IPv4Address("10.77.0.22")
SIX = ip_address("fd00:77::21")
MOVED = "02:00:00:00:00:99"
SINCE = "2026-11-23T16:00:00Z"
SAID = Live(
    {"web": frozenset([B1, SIX])},
    {B2: MOVED},
    {"web": {B1: Failing("connection refused", SINCE)}, "other": {B2: Failing("", SINCE)}},
    frozenset(["other"]),
)
CHECK = {"type": "tcp"}
WEB = vip(health_check=CHECK)
OTHER = vip("other", ports=["81"])


@pytest.fixture
def live_file(tmp_path: Path) -> LiveFile:
    return LiveFile(str(tmp_path / "run" / "state.json"), str(tmp_path / "run" / "agent.lock"))


def publish_text(folder: Path, text: str) -> None:
    path = folder / "run" / "state.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


# -- the lock


def test_an_agent_is_seen_while_it_runs(live_file: LiveFile, tmp_path: Path) -> None:
    other = LiveFile(str(tmp_path / "run" / "state.json"), str(tmp_path / "run" / "agent.lock"))
    assert not other.agent_runs() and not (tmp_path / "run").exists(), "to look leaves nothing behind"
    with live_file.held():
        assert other.agent_runs() and live_file.agent_runs(), "also by who it is"
        refused = pytest.raises(HostError, match=r"another agent runs on this host \(.*agent.lock is locked\)")
        with refused, other.held():
            raise AssertionError("there are two")
        assert other.agent_runs(), "who was refused has not let go of another's lock"
    assert not other.agent_runs()
    with other.held():
        assert live_file.agent_runs()


def test_an_agent_of_another_process_is_seen_until_it_dies(live_file: LiveFile, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    holds = (
        "import fcntl, os, sys; lock = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600); "
        "fcntl.flock(lock, fcntl.LOCK_EX); print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", holds, str(tmp_path / "run" / "agent.lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == b"held\n"
            assert live_file.agent_runs()
        finally:
            process.kill()
    assert not live_file.agent_runs()


def test_a_lock_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    live_file = LiveFile(lock_path=str(tmp_path / "file" / "agent.lock"))
    with pytest.raises(HostError, match=r"agent\.lock: cannot be locked: "), live_file.held():
        raise AssertionError("it cannot be held")


def test_a_look_does_not_keep_an_agent_from_starting(live_file: LiveFile, tmp_path: Path) -> None:
    """Nor does a process that a look has begun inherit anything."""
    with live_file.held():
        pass
    before = len(os.listdir("/proc/self/fd"))
    assert not live_file.agent_runs()
    assert len(os.listdir("/proc/self/fd")) == before
    descriptor = os.open(tmp_path / "run" / "agent.lock", os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(descriptor)


def test_an_agent_may_start_while_somebody_looks(live_file: LiveFile, tmp_path: Path) -> None:
    """A look holds the lock for a moment; this one is slow."""
    with live_file.held():
        pass
    descriptor = os.open(tmp_path / "run" / "agent.lock", os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    timer = threading.Timer(0.2, os.close, (descriptor,))
    timer.start()
    try:
        with live_file.held():
            assert live_file.agent_runs()
    finally:
        timer.join()


# -- the file


def test_what_is_published_is_read(live_file: LiveFile, tmp_path: Path) -> None:
    live_file.publish(SAID)
    path = tmp_path / "run" / "state.json"
    assert json.loads(path.read_text()) == {
        "version": 1,
        "unhealthy": {"web": ["10.77.0.21", "fd00:77::21"]},
        "macs": {"10.77.0.22": MOVED},
        "failing": {
            "other": {"10.77.0.22": {"cause": "", "since": SINCE}},
            "web": {"10.77.0.21": {"cause": "connection refused", "since": SINCE}},
        },
        "ignored": ["other"],
    }
    assert path.stat().st_mode & 0o777 == 0o644
    assert live_file.read_last() == SAID
    assert live_file.read() == Live(), "nobody stands behind it"
    with live_file.held():
        assert live_file.read() == SAID
        live_file.publish(Live({"web": frozenset()}))
        assert live_file.read() == Live(), "of a VIP whose backends are healthy nothing is said"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "7",
        '"version"',
        "\x00\xff",
        "[" * 100_000,
        "{}",
        '{"unhealthy": {"web": ["10.77.0.21"]}, "macs": {}}',
        '{"version": 0, "unhealthy": {"web": ["10.77.0.21"]}, "macs": {}}',
        '{"version": 2, "unhealthy": {"web": ["10.77.0.21"]}, "macs": {}}',
        '{"version": 1, "unhealthy": {"web": ["10.77.0.21"]}}',
        '{"version": 1, "macs": {}}',
        '{"version": 1, "unhealthy": {"web": ["10.77.0.300"]}, "macs": {}}',
        '{"version": 1, "unhealthy": {"web": "10.77.0.21"}, "macs": {}}',
        '{"version": 1, "unhealthy": {"web": [7, null]}, "macs": {}}',
        '{"version": 1, "unhealthy": {"we b": []}, "macs": {}}',
        '{"version": 1, "unhealthy": ["web"], "macs": {}}',
        '{"version": 1, "unhealthy": {"web": ["10.77.0.21"]}, "macs": {"10.77.0.22": "no MAC"}}',
        '{"version": 1, "unhealthy": {"web": ["10.77.0.21"]}, "macs": {"10.77.0.22": 7}}',
    ],
)
def test_what_cannot_be_understood_says_nothing(live_file: LiveFile, tmp_path: Path, text: str) -> None:
    publish_text(tmp_path, text)
    with live_file.held():
        assert live_file.read() == live_file.read_last() == Live()


@pytest.mark.parametrize(
    "text",
    [
        "",
        ', "failing": null, "ignored": null',
        ', "failing": ["web"], "ignored": {"web": true}',
        ', "failing": {"web": ["10.77.0.21"], "we b": {"10.77.0.21": {}}}, "ignored": ["we b", 7, null]',
        ', "failing": {"web": {"10.77.0.21": "refused", "10.77.0.300": {"cause": "", "since": "%(since)s"}}}',
        ', "failing": {"web": {"10.77.0.21": {"cause": 7, "since": "%(since)s"}}}',
        ', "failing": {"web": {"10.77.0.21": {"cause": "", "since": "%(since)s\\n"}}}',
        ', "failing": {"web": {"10.77.0.21": {"cause": ""}}}',
    ],
)
def test_of_what_is_for_people_the_rest_does_not_depend(live_file: LiveFile, tmp_path: Path, text: str) -> None:
    """An agent of an older version does not have it at all."""
    head = '{"version": 1, "unhealthy": {"web": ["10.77.0.21"]}, "macs": {}'
    publish_text(tmp_path, f"{head}{text % {'since': SINCE}}}}")
    assert live_file.read_last() == Live({"web": frozenset([B1])})


def test_information_tells_why(host: Host) -> None:
    run(host)
    why = {"web": {B1: Failing("connection refused", SINCE)}, "other": {B1: Failing("of a check that is gone", SINCE)}}

    def told() -> list[Any]:
        found = sorted(host.load_balancer.info()[1], key=lambda item: str(item["name"]), reverse=True)
        return [[item["health_ignored"], *((row["cause"], row["since"]) for row in item["backends"])] for item in found]

    none = (None, None)
    with host.live_file.held():
        host.load_balancer.reconcile(Live({"web": frozenset([B1])}, failing=why))
        assert told() == [[False, ("connection refused", SINCE), none, none], [None, none, none, none]]
        host.load_balancer.reconcile(Live(failing=why, ignored=frozenset(["web", "other"])))
        assert told() == [[True, ("connection refused", SINCE), none, none], [None, none, none, none]]
        assert not run(host).changed
    assert told() == [[None, none, none, none]] * 2


def test_what_is_no_text_says_nothing(live_file: LiveFile, tmp_path: Path) -> None:
    publish_text(tmp_path, "")
    (tmp_path / "run" / "state.json").write_bytes(b"\xff\xfe{}")
    assert live_file.read_last() == Live()
    (tmp_path / "run" / "state.json").unlink()
    assert live_file.read_last() == Live()
    (tmp_path / "run" / "state.json").mkdir()
    assert live_file.read_last() == Live()


# -- a VIP as it is served


def served(options: dict[str, Any], live: Live) -> tuple[ResolvedVip, ResolvedVip]:
    """A VIP before and after what the agent found out."""
    parsed = model.parse_vip(options, "")
    macs = {backend.address: backend.mac or mac_of(str(backend.address)) for backend in parsed.backends}
    item = ResolvedVip(parsed, "eth0", "eth0", macs)
    return item, live.applied_to(item)


def test_an_unhealthy_backend_gets_nothing() -> None:
    before, after = served(WEB, SAID)
    assert after.unhealthy == {B1, SIX} and before.takers[0].address == B1
    assert B1 not in [backend.address for backend in after.takers]
    assert [after.usable(backend) for backend in after.vip.backends] == [False, True, True]
    assert after.could_serve


def test_a_vip_that_nothing_is_said_of_is_as_it_was() -> None:
    before, after = served(OTHER, Live({"web": frozenset([B1])}))
    assert after is before


def test_a_check_that_nobody_asks_for_any_more_says_nothing() -> None:
    before, after = served(vip(), Live({"web": frozenset([B1])}))
    assert after is before
    _before, after = served(vip(), SAID)
    assert after.unhealthy == frozenset() and after.macs[B2] == MOVED


def test_a_mac_that_was_pinned_stays() -> None:
    """One that was learnt follows its backend; of whom the VIP does not have nothing is taken."""
    pinned = [*backends(21), *backends(22, mac="02:aa:00:00:00:16")]
    before, after = served(vip(backends=pinned), Live({}, {B1: MOVED, B2: MOVED, IPv4Address("10.77.0.9"): MOVED}))
    assert after.macs == {**before.macs, B1: MOVED}


# -- runs of modules


def run(host: Host, *vips: Any, check: bool = False) -> Result:
    return host.load_balancer.set_vips(list(vips or (WEB, OTHER)), True, check)


def loaded(host: Host, name: str = "web", nft: Optional[MemoryNft] = None) -> set[str]:
    """The backends that packets for a VIP go to."""
    table = (nft or host.nft).table
    address = "10.77.0.100"
    found: set[str] = set()
    for kind in (f"backends_{name}", f"poolbackends_{name}"):
        if kind in table.maps:
            keys = [key.split(" . ") for key in table.maps[kind].elements]
            found = {key[-1] for key in keys if key[:-1] in ([], [address])}
    return {str(ip_address(int(key, 16))) for key in found}


@pytest.fixture
def agent(host: Host) -> Iterator[Host]:
    """A host with a VIP that is checked, another, and an agent that has something to say of one backend."""
    run(host)
    with host.live_file.held():
        host.load_balancer.reconcile(Live({"web": frozenset([B1])}))
        yield host


def test_a_run_in_the_middle_of_a_failure_changes_nothing(agent: Host) -> None:
    assert loaded(agent) == {"10.77.0.22", "10.77.0.23"}
    before, transactions = agent.everything(), len(agent.nft.transactions)
    for forgetful in (False, True, False):
        agent.forgetful = forgetful
        for check in (True, False):
            result = run(agent, check=check)
            assert (result.changed, result.commands, result.diff, result.warnings) == (False, [], [], [])
    assert agent.everything() == before and len(agent.nft.transactions) == transactions


def test_only_the_vip_that_is_checked_loses_the_backend(agent: Host) -> None:
    assert loaded(agent, "other") == {"10.77.0.21", "10.77.0.22", "10.77.0.23"}


def test_a_change_of_something_else_leaves_the_unhealthy_out(agent: Host) -> None:
    result = run(agent, {**WEB, "deny_sources": ["192.0.2.0/24"]}, OTHER)
    assert result.changed and loaded(agent) == {"10.77.0.22", "10.77.0.23"}
    assert agent.load_balancer.remove_vip("other", False).changed and loaded(agent) == {"10.77.0.22", "10.77.0.23"}
    assert agent.load_balancer.drain("10.77.0.23", None, False, False)[0].changed
    assert loaded(agent) == {"10.77.0.22", "10.77.0.23"}, "who drains keeps its flows"


def test_a_check_that_goes_brings_everybody_back(agent: Host) -> None:
    assert run(agent, vip(), OTHER).changed
    assert loaded(agent) == {"10.77.0.21", "10.77.0.22", "10.77.0.23"}


def test_a_boot_begins_with_everybody(agent: Host) -> None:
    """Nobody knows who is healthy then."""
    assert run(agent, {**WEB, "deny_sources": ["192.0.2.0/24"]}, OTHER).changed
    booted = MemoryNft()
    booted.load(agent.files()["ruleset.nft"])
    assert loaded(agent, nft=booted) == {"10.77.0.21", "10.77.0.22", "10.77.0.23"}
    assert set(booted.table.maps) == set(agent.nft.table.maps)
    assert {name: chain.rules for name, chain in booted.table.chains.items()} == {
        name: chain.rules for name, chain in agent.nft.table.chains.items()
    }


def test_without_an_agent_everybody_is_back(host: Host) -> None:
    """What it found out is nobody's knowledge any more. And somebody has to be told that nobody checks."""
    run(host)
    with host.live_file.held():
        host.load_balancer.reconcile(Live({"web": frozenset([B1])}))
    result = run(host)
    assert result.changed and result.warnings == [
        "nobody checks the backends of web: the agent (nft-dsr-agent.service) does not run; start it, or install it "
        "with 'load_balancer_agent: true'"
    ]
    assert loaded(host) == {"10.77.0.21", "10.77.0.22", "10.77.0.23"}
    assert not run(host).changed
    assert run(host, vip(), OTHER).warnings == [], "what is not checked needs no agent"


def test_information_tells_who_is_healthy(host: Host) -> None:
    def healthy() -> dict[str, list[Optional[bool]]]:
        _present, found = host.load_balancer.info()
        assert all(item["in_sync"] for item in found), found
        return {item["name"]: [backend["healthy"] for backend in item["backends"]] for item in found}

    run(host)
    with host.live_file.held():
        assert healthy() == {"web": [True, True, True], "other": [None, None, None]}
        host.load_balancer.reconcile(Live({"web": frozenset([B1])}))
        assert healthy() == {"web": [False, True, True], "other": [None, None, None]}
        host.load_balancer.reconcile(Live())
    assert healthy() == {"web": [None] * 3, "other": [None] * 3}, "without an agent nobody knows"


# -- backends that the agent has followed


@pytest.fixture
def moved(host: Host) -> Iterator[Host]:
    """A host of which a backend has moved, and an agent that has followed it."""
    run(host)
    host.network.answers[str(B1)] = frozenset({MOVED})
    with host.live_file.held():
        host.load_balancer.reconcile(Live({}, {B1: MOVED}))
        yield host


def macs_of(host: Host, name: str = "web") -> dict[str, str]:
    vips = json.loads(host.files()["vips.json"])["vips"]
    return dict(next(item for item in vips if item["name"] == name)["resolved"]["macs"])


def test_a_run_after_a_move_changes_nothing(moved: Host) -> None:
    before, transactions = moved.everything(), len(moved.nft.transactions)
    for forgetful in (False, True):
        moved.forgetful = forgetful
        for check in (True, False):
            result = run(moved, check=check)
            assert (result.changed, result.commands, result.diff, result.warnings) == (False, [], [], [])
        assert not moved.load_balancer.set_vip(WEB, False).changed
    assert moved.everything() == before and len(moved.nft.transactions) == transactions
    assert macs_of(moved)[str(B1)] == mac_of(str(B1))


def test_without_the_agent_the_move_is_written_down(host: Host) -> None:
    run(host)
    host.network.answers[str(B1)] = frozenset({MOVED})
    host.live_file.publish(Live({}, {B1: MOVED}))
    assert run(host).changed and macs_of(host)[str(B1)] == MOVED
    assert not run(host).changed


def test_a_third_mac_is_news(moved: Host) -> None:
    third = "02:00:00:00:00:97"
    moved.network.answers[str(B1)] = frozenset({third})
    assert run(moved).changed and macs_of(moved)[str(B1)] == third


def test_a_vip_that_is_new_to_the_backend_writes_down_where_it_is(moved: Host) -> None:
    more = vip("more", ports=["82"], backends=backends(21))
    result = run(moved, WEB, OTHER, more)
    assert result.changed and macs_of(moved, "more") == {str(B1): MOVED}
    assert macs_of(moved)[str(B1)] == mac_of(str(B1))
    assert not run(moved, WEB, OTHER, more).changed


def test_a_backend_that_is_new_to_a_vip_is_written_down_where_it_is(host: Host) -> None:
    few = {**OTHER, "backends": backends(22)}
    run(host, WEB, few)
    host.network.answers[str(B1)] = frozenset({MOVED})
    with host.live_file.held():
        host.load_balancer.reconcile(Live({}, {B1: MOVED}))
        assert run(host, WEB, {**OTHER, "backends": backends(21, 22)}).changed
    assert macs_of(host, "other")[str(B1)] == MOVED and macs_of(host)[str(B1)] == mac_of(str(B1))


def test_another_change_of_the_vip_leaves_the_mac_alone(moved: Host) -> None:
    result = run(moved, {**WEB, "deny_sources": ["192.0.2.0/24"]}, OTHER)
    assert result.changed and macs_of(moved)[str(B1)] == mac_of(str(B1))
    assert MOVED in moved.nft.table.maps["stations_all"].elements


def test_where_two_answer_the_agent_knows_which(moved: Host) -> None:
    """Although none of them is the one that was configured."""
    moved.network.answers[str(B1)] = frozenset({MOVED, "02:00:00:00:00:97"})
    result = run(moved)
    assert not result.changed and f"it stays at {MOVED}" in result.warnings[0]


def test_who_falls_silent_after_a_move_stays_there(moved: Host) -> None:
    moved.network.silence(str(B1))
    result = run(moved)
    assert not result.changed and f"it keeps the MAC address {MOVED} that it had" in result.warnings[0]


def test_a_backend_that_is_pinned_after_a_move_is_where_the_user_says(moved: Host) -> None:
    pinned = {**WEB, "backends": [*backends(21, mac=MOVED), *backends(22, 23)]}
    assert run(moved, pinned, OTHER).changed and macs_of(moved)[str(B1)] == MOVED
    assert not run(moved, pinned, OTHER).changed


def test_a_backend_that_came_in_later_stays_the_agents(host: Host) -> None:
    web = vip(require_mac=False)
    host.network.silence(str(B1))
    run(host, web)
    assert str(B1) not in macs_of(host)
    host.network.answers.clear()
    with host.live_file.held():
        host.load_balancer.reconcile(Live({}, {B1: mac_of(str(B1))}))
        assert str(B1) in loaded(host)
        result = run(host, web)
        assert (result.changed, result.warnings) == (False, [])
    assert run(host, web).changed and macs_of(host)[str(B1)] == mac_of(str(B1))


# -- NICs that are gone


FAR = vip("far", address="10.78.0.100", scheduler="round_robin", backends=[{"address": "10.78.0.24"}])


@pytest.mark.parametrize("forgetful", [False, True])
def test_a_nic_that_is_gone_takes_only_its_own_vips_along(host: Host, forgetful: bool) -> None:
    run(host, WEB, FAR)
    host.forgetful = forgetful
    whole = host.nft.table.contents()
    host.nft.load("add element netdev nft_dsr flows_far { 172818442 . 4000 . 80 timeout 60s : 0x0a4e0018 }")
    mac = host.network.links.pop("eth1")
    with host.live_file.held():
        reconcile = host.load_balancer.reconcile
        assert reconcile(Live({"web": frozenset([B1])}))[0]
        assert loaded(host) == {"10.77.0.22", "10.77.0.23"}
        assert not any("eth1" in name for name in (*host.nft.table.chains, *host.nft.table.maps))
        assert {name for name in host.nft.table.maps if "far" in name} == {"flows_far", "closing_far"}
        assert reconcile(Live({"web": frozenset([B1])}))[:2] == ([], None if forgetful else host.nft.generation)
        with pytest.raises(HostError, match="'far' uses the interface 'eth1', which this host does not have"):
            host.load_balancer.drain("10.77.0.21", None, False, False)
        host.network.links["eth1"] = mac
        host.network.renumber("eth1")
        reconcile(Live())
        assert len(host.nft.table.maps["flows_far"].elements) == 1, "its flows come home"
        host.nft.load("flush map netdev nft_dsr flows_far")
        assert host.nft.table.contents() == whole
        assert reconcile(Live())[0] == []


def test_the_only_nic_goes_and_comes_back(host: Host) -> None:
    run(host, FAR)
    host.nft.load("add element netdev nft_dsr flows_far { 172818442 . 4000 . 80 timeout 60s : 0x0a4e0018 }")
    whole = host.nft.table.contents()
    mac = host.network.links.pop("eth1")
    with host.live_file.held():
        host.load_balancer.reconcile(Live())
        assert not host.nft.table.chains and set(host.nft.table.maps) == {"flows_far", "closing_far"}
        assert host.load_balancer.reconcile(Live())[0] == []
        host.network.links["eth1"] = mac
        host.load_balancer.reconcile(Live())
        assert host.nft.table.contents() == whole


# -- what the agent calls


def test_reconciling_repairs_and_publishes(agent: Host) -> None:
    live = Live({"web": frozenset([B2])}, {B1: MOVED})
    reasons, generation, _served, _names = agent.load_balancer.reconcile(live)
    assert reasons and generation == agent.nft.generation
    assert agent.live_file.read() == live and loaded(agent) == {"10.77.0.21", "10.77.0.23"}
    assert f"{MOVED} . 10.77.0.100" in agent.nft.table.maps["answers_eth0"].elements
    assert mac_of("10.77.0.21") not in agent.nft.table.maps["stations_all"].elements
    assert agent.load_balancer.reconcile(live)[:2] == ([], agent.nft.generation)
    wanted = agent.nft.table.contents()
    for damage in (
        "flush chain netdev nft_dsr ingress_eth0",
        "flush chain netdev nft_dsr egress_eth0",
        "flush map netdev nft_dsr probes_eth0",
        "flush map netdev nft_dsr slots_other",
        "delete table netdev nft_dsr",
    ):
        agent.nft.load(damage)
        assert agent.load_balancer.reconcile(live)[0], damage
        assert agent.nft.table.contents() == wanted
    assert not run(agent).changed


def test_reconciling_writes_none_of_the_files_that_last(agent: Host) -> None:
    before = agent.files()
    agent.load_balancer.reconcile(Live({"web": frozenset([B2])}))
    assert agent.files() == before


def test_health_changes_no_rule(agent: Host) -> None:
    """Not even when nobody is left: elements alone, which takes as long with a thousand VIPs."""
    for live in (Live(), Live({"web": frozenset(IPv4Address(f"10.77.0.{n}") for n in (21, 22, 23))}), Live()):
        agent.nft.transactions.clear()
        agent.load_balancer.reconcile(live)
        lines = [line for text in agent.nft.transactions for line in text.splitlines()]
        assert lines and all(" element " in line for line in lines), lines


def test_what_is_wanted_is_told_with_what_was_drained(agent: Host) -> None:
    agent.load_balancer.drain("10.77.0.21", "web", False, False)
    web = next(item for item in agent.load_balancer.desired() if item.vip.name == "web")
    assert [backend.draining for backend in web.vip.backends] == [True, False, False]
    assert web.unhealthy == frozenset(), "what the agent found out is its own knowledge"


def test_nothing_is_published_where_it_is_not_known_what_is_wanted(agent: Host) -> None:
    (agent.folder / "vips.json").write_text("no JSON")
    before = agent.nft.table.contents()
    with pytest.raises(HostError, match=r"vips\.json"):
        agent.load_balancer.reconcile(Live({"web": frozenset([B2])}))
    assert agent.nft.table.contents() == before
    assert agent.live_file.read() == Live({"web": frozenset([B1])})


def test_a_transaction_that_is_refused_is_an_error(agent: Host) -> None:
    agent.nft.refuse = "Device or resource busy"
    with pytest.raises(CommandError, match="Device or resource busy"):
        agent.load_balancer.reconcile(Live())
    agent.nft.refuse = ""
    assert agent.load_balancer.reconcile(Live())[0]
    assert loaded(agent) == {"10.77.0.21", "10.77.0.22", "10.77.0.23"}


class _Meddler(MemoryNft):
    """An nft after whose next transaction somebody else has theirs, before anybody can look."""

    meddles = ""

    def __call__(self, argv: Sequence[str], stdin: Optional[str] = None) -> Completed:
        done = super().__call__(argv, stdin)
        if self.meddles and list(argv[1:]) == ["-f", "-"]:
            text, self.meddles = self.meddles, ""
            self.load(text)
        return done


def test_what_somebody_does_right_after_a_repair_is_seen(host: Host) -> None:
    host.nft = meddler = _Meddler()
    run(host)
    with host.live_file.held():
        meddler.meddles = "flush map netdev nft_dsr slots_other"
        _reasons, generation, *_others = host.load_balancer.reconcile(Live({"web": frozenset([B1])}))
        assert generation != meddler.generation
        assert host.load_balancer.reconcile(Live({"web": frozenset([B1])}))[0]


# -- a host without an egress hook


def test_a_host_without_an_egress_hook_has_no_check_through_the_vip(host: Host) -> None:
    host.nft.egress = False
    before = host.everything()
    with pytest.raises(ConfigError) as caught:
        run(host, vip(), vip("checked", ports=["81"], health_check=CHECK))
    assert str(caught.value) == (
        "vips[1].health_check.via: this host's kernel or nft has no egress hook, which a check through the VIP takes "
        "(Linux 5.16); use 'via: backend'"
    )
    assert host.everything() == before
    for check in ({**CHECK, "via": "backend"}, {"type": "exec", "command": ["/bin/true"]}):
        run(host, vip(health_check=check))
        assert not any(chain.hook == "egress" for chain in host.nft.table.chains.values())
