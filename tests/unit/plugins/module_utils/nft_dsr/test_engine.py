# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole runs on a load balancer made of data: what they change, what they leave, what they say."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from ansible_collections.dsr.layer2.plugins.module_utils.common.errors import CommandError, ConfigError, HostError
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.engine import Result
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.nft_dsr.hosts import (
    OWN,
    Host,
    backends,
    backends6,
    mac_of,
    vip,
    vip6,
)
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.nft_dsr.memory_nft import MemoryNft
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.nft_dsr.strategies import vips_options

pytestmark = pytest.mark.usefixtures("small_tables")

NAMED = [{"address": f"10.77.0.{20 + number}", "name": f"b{number}"} for number in (1, 2, 3)]
WEB = vip("web", backends=NAMED)
API = vip("api", address="10.77.0.101", scheduler="round_robin", backends=NAMED)
DNS = vip("dns", address="10.77.0.102", protocol="udp", ports=["53", "5300-5400"], backends=NAMED)
FLOW = "172818442 . 4000 . 80"  # client 10.77.0.10, from port 4000 to port 80
ERRORS = (ConfigError, HostError)


def set_vips(host: Host, *vips: Any, purge: bool = False, check: bool = False) -> Result:
    return host.load_balancer.set_vips(list(vips), purge, check)


def drain(host: Host, backend: Any, on: Any = None, restore: bool = False, check: bool = False) -> Result:
    return host.load_balancer.drain(backend, on, restore, check)[0]


def states(host: Host, name: str = "web") -> dict[str, str]:
    _present, found = host.load_balancer.info(name)
    return {backend["name"]: backend["state"] for backend in found[0]["backends"]}


@pytest.fixture
def serving(host: Host) -> Host:
    """A load balancer with three VIPs."""
    set_vips(host, WEB, API, DNS)
    return host


# -- a run and the next


def test_a_first_run_makes_everything(host: Host) -> None:
    result = set_vips(host, WEB)
    assert result.changed and result.warnings == []
    assert result.vips == [
        {
            **WEB,
            "interface": "eth0",
            "backend_interface": "eth0",
            "protocol": "tcp",
            "scheduler": "source_hash",
            "persistence_timeout": 0,
            "flow_table": {"size": 1048576, "timeouts": {"syn": 60, "established": 900, "closing": 60}},
            "require_mac": True,
            "on_empty": "drop",
            "allow_sources": None,
            "deny_sources": None,
            "new_flows_per_source": None,
            "health_check": None,
            "backends": [
                {**backend, "mac": mac_of(backend["address"]), "weight": 1, "state": "up", "backup": False}
                for backend in NAMED
            ],
        }
    ]
    assert host.nft.transactions == ["".join(f"{command}\n" for command in result.commands)]
    assert set(host.files()) == {"vips.json", "ruleset.nft"}
    assert host.files()["ruleset.nft"].endswith(result.ruleset)
    assert f"ether saddr set {OWN['eth0']}" in result.ruleset
    assert json.loads(host.files()["vips.json"])["vips"][0]["resolved"] == {
        "interface": "eth0",
        "backend_interface": "eth0",
        "macs": {backend["address"]: mac_of(backend["address"]) for backend in NAMED},
    }


def test_a_second_run_changes_nothing(serving: Host) -> None:
    before = serving.everything()
    inodes = {path.name: path.stat().st_ino for path in serving.folder.iterdir()}
    result = set_vips(serving, WEB, API, DNS)
    assert (result.changed, result.commands, result.diff, result.warnings) == (False, [], [], [])
    assert serving.everything() == before and len(serving.nft.transactions) == 1
    assert {path.name: path.stat().st_ino for path in serving.folder.iterdir()} == inodes, "not even written again"
    assert result.ruleset


Act = Callable[[Host, bool], Result]
WEB_LESS = {**WEB, "backends": NAMED[:2]}


def _drift(host: Host) -> None:
    host.nft.load("flush chain netdev nft_dsr pool_web\ndelete element netdev nft_dsr backends_api { 0x0a4d0015 }")


ACTS: dict[str, tuple[Act, Callable[[Host], Any]]] = {
    # name: (what is done, what was done before)
    "nothing": (lambda host, check: set_vips(host, WEB, API, DNS, check=check), lambda host: None),
    "another VIP": (lambda host, check: set_vips(host, vip("x", ports=["81"]), check=check), lambda host: None),
    "a backend less": (lambda host, check: set_vips(host, WEB_LESS, check=check), lambda host: None),
    "one VIP": (lambda host, check: host.load_balancer.set_vip(WEB_LESS, check), lambda host: None),
    "purge": (lambda host, check: set_vips(host, WEB, purge=True, check=check), lambda host: None),
    "purge everything": (lambda host, check: set_vips(host, purge=True, check=check), lambda host: None),
    "remove": (lambda host, check: host.load_balancer.remove_vip("api", check), lambda host: None),
    "remove what is not there": (lambda host, check: host.load_balancer.remove_vip("x", check), lambda host: None),
    "drain": (lambda host, check: drain(host, "b1", check=check), lambda host: None),
    "drain on one VIP": (lambda host, check: drain(host, "b1", "dns", check=check), lambda host: None),
    "restore": (lambda host, check: drain(host, "b1", restore=True, check=check), lambda host: drain(host, "b1")),
    "drift": (lambda host, check: set_vips(host, WEB, API, DNS, check=check), _drift),
    "no table": (lambda host, check: set_vips(host, WEB, API, DNS, check=check), lambda host: host.nft.flush()),
    "a new MAC": (
        lambda host, check: set_vips(host, WEB, check=check),
        lambda host: host.network.answers.update({"10.77.0.21": frozenset({"02:00:00:00:00:99"})}),
    ),
    "no file for the boot": (
        lambda host, check: set_vips(host, WEB, check=check),
        lambda host: (host.folder / "ruleset.nft").unlink(),
    ),
}


@pytest.mark.parametrize("name", ACTS)
def test_check_mode_says_what_a_run_does_and_does_nothing(serving: Host, name: str) -> None:
    act, prepare = ACTS[name]
    prepare(serving)
    before, transactions = serving.everything(), len(serving.nft.transactions)
    foreseen = act(serving, True)
    assert serving.everything() == before and len(serving.nft.transactions) == transactions
    done = act(serving, False)
    assert done == foreseen
    assert done.changed is (name not in ("nothing", "remove what is not there"))
    assert done.changed is (serving.everything() != before)
    assert serving.nft.transactions[transactions:] == ["".join(f"{c}\n" for c in done.commands)] * bool(done.commands)
    again = act(serving, True)
    assert (again.changed, again.commands, again.diff) == (False, [], []), "twice is once"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(vips_options(), vips_options())
def test_runs_come_to_rest_whatever_is_asked(host: Host, first: Any, second: Any) -> None:
    for vips in (first, second):
        set_vips(host, *vips, purge=True)
        assert set_vips(host, *vips, purge=True, check=True).changed is False
        assert set_vips(host, *vips, check=True).changed is False
        _present, found = host.load_balancer.info()
        assert [(item["name"], item["differences"]) for item in found] == [
            (name, []) for name in sorted(item["name"] for item in vips)
        ]
        # A boot from the file ends where the run ended.
        booted = Host(host.folder.parent)
        booted.nft.load(host.files()["ruleset.nft"])
        booted.forgetful = True  # a boot empties the folder of the memory
        assert set_vips(booted, *vips, purge=True, check=True).commands == []


def test_vips_that_are_not_named_stay_unless_purged(serving: Host) -> None:
    assert not set_vips(serving, WEB).changed
    result = set_vips(serving, vip("x", ports=["81"]))
    assert sorted(item["name"] for item in result.vips) == ["api", "dns", "web", "x"]
    assert [item["name"] for item in set_vips(serving, WEB, purge=True).vips] == ["web"]
    # The slot table bears the name of who had it first.
    kept = [name for name in (*serving.nft.table.chains, *serving.nft.table.maps) if "api" in name]
    assert kept == ["slots_api"]


def test_an_empty_list_removes_nothing_but_with_purge_everything(serving: Host) -> None:
    before = serving.everything()
    assert not set_vips(serving).changed and serving.everything() == before
    result = set_vips(serving, purge=True)
    assert (result.vips, result.ruleset, serving.nft.tables) == ([], "", {})
    assert json.loads(serving.files()["vips.json"])["vips"] == []
    serving.nft.load(serving.files()["ruleset.nft"])  # a boot
    assert not set_vips(serving, purge=True).changed


def test_removing_one_vip_leaves_the_others(serving: Host) -> None:
    result = serving.load_balancer.remove_vip("api", False)
    assert [item["name"] for item in result.vips] == ["dns", "web"]
    assert not set_vips(serving, WEB, DNS, purge=True).changed


EVERY_OPTION = [
    vip(
        "shop",
        scheduler="weighted_round_robin",
        persistence_timeout=1800,
        flow_table={"size": 5000, "timeouts": {"syn": 5, "established": 3600, "closing": 9}},
        on_empty="reject",
        allow_sources=["10.0.0.0/8", "192.0.2.7"],
        deny_sources=["10.9.0.0/16"],
        new_flows_per_source="100/minute",
        backends=[*backends(21, weight=3), *backends(22, state="drain"), *backends(23, backup=True)],
    ),
    vip6("six", ports=["80", "8000-8100"], on_empty="local", persistence_timeout=60),
    vip6("six-udp", protocol="udp", ports=["53"], scheduler="round_robin", new_flows_per_source="5/second"),
    vip("signal", protocol="sctp", scheduler="connection_hash", address="10.77.0.101"),
    vip("rest", protocol="any", ports=None, address="10.77.0.101"),
]


def test_every_option_at_once(host: Host) -> None:
    result = set_vips(host, *EVERY_OPTION)
    assert result.warnings == []
    assert not set_vips(host, *EVERY_OPTION, purge=True).changed
    returned = {item["name"]: item for item in result.vips}
    for given_vip in EVERY_OPTION:
        for option in set(given_vip) - {"backends"}:
            wanted = ["10.0.0.0/8", "192.0.2.7/32"] if option == "allow_sources" else given_vip[option]
            assert returned[given_vip["name"]][option] == wanted
    # What a module returns, it takes.
    assert not set_vips(host, *result.vips, purge=True).commands
    assert [item["in_sync"] for item in host.load_balancer.info()[1]] == [True] * 5


@pytest.mark.parametrize(
    "change",
    [
        {"persistence_timeout": 60},
        {"flow_table": {"size": 5000}},
        {"flow_table": {"timeouts": {"established": 60}}},
        {"on_empty": "local"},
        {"allow_sources": ["10.0.0.0/8"]},
        {"deny_sources": ["10.9.0.0/16"]},
        {"new_flows_per_source": "1/second"},
        {"backends": [*NAMED[:2], {**NAMED[2], "backup": True}]},
        {"protocol": "sctp"},
        {"protocol": "any", "ports": None, "scheduler": "round_robin"},
    ],
)
@pytest.mark.parametrize("scheduler", ["source_hash", "round_robin"])
def test_each_option_can_be_set_and_taken_back(host: Host, scheduler: str, change: dict[str, Any]) -> None:
    plain = {**WEB, "scheduler": scheduler}
    set_vips(host, plain, DNS)
    before = host.everything()
    # A hash VIP tracks only while a backend drains; then its flow table is seen, and before only in the file.
    changed = set_vips(host, {**plain, **change})
    assert changed.changed and host.everything() != before
    assert bool(changed.commands) is (scheduler == "round_robin" or "flow_table" not in change)
    assert not set_vips(host, {**plain, **change}).changed
    back = set_vips(host, plain)
    assert back.changed
    if {"flows_web", "closing_web"} & set(host.nft.table.maps) and scheduler == "source_hash":
        set_vips(host, {**DNS, "backends": NAMED[:2]})  # what is left over goes with a change
        set_vips(host, DNS)
    assert host.everything() == before


def test_a_vip_that_is_drained_tracks_in_a_table_of_the_size_that_it_asks_for(host: Host) -> None:
    set_vips(host, {**WEB, "flow_table": {"size": 5000, "timeouts": {"established": 77}}})
    assert "flows_web" not in host.nft.table.maps
    drain(host, "b1")
    assert host.nft.table.maps["flows_web"].size == 5000
    assert any("timeout 77s" in rule for rule in host.nft.table.chains["vip_web"].rules)


def test_a_backend_in_ipv6_is_drained_by_any_of_its_spellings(host: Host) -> None:
    set_vips(host, vip6(backends=backends6(21, 22)))
    result, names = host.load_balancer.drain("FD00:77:0:0::21", None, False, False)
    assert names == ["web"] and result.changed
    assert json.loads(host.files()["overrides.json"])["drained"] == [{"backend": "fd00:77::21", "vip": None}]
    assert not drain(host, "fd00:77::21").changed
    assert drain(host, "fd00:77:0::21", restore=True).changed
    assert json.loads(host.files()["overrides.json"])["drained"] == []


def test_a_name_of_backends_of_both_families_is_no_answer(host: Host) -> None:
    set_vips(host, vip(backends=backends(21, name="b1")), vip6("six", backends=backends6(21, name="b1")))
    with pytest.raises(
        ConfigError, match=r"^backend: 'b1' names different backends \(10\.77\.0\.21, fd00:77::21\); give the address"
    ):
        drain(host, "b1")
    drain(host, "b1", "six")


def test_a_backup_comes_in_when_the_last_of_the_pool_is_drained(host: Host) -> None:
    pool = [NAMED[0], {**NAMED[1], "backup": True}]
    set_vips(host, vip("web", backends=pool), vip("turns", ports=["81"], scheduler="round_robin", backends=pool))
    maps = host.nft.table.maps

    def served_by(name: str) -> set[str]:
        return {element.value for element in host.nft.table.maps[name].elements.values()}

    assert served_by("turns_turns") == {"0x0a4d0015"} and maps["poolhandout_web"].elements == {}
    drain(host, "b1")
    # While it drains, the VIP has maps of its own; then none, until what was recorded has gone.
    assert served_by("turns_turns") == served_by("handout_web") == {"0x0a4d0016"}
    drain(host, "b1", restore=True)
    assert served_by("turns_turns") == {"0x0a4d0015"} and host.nft.table.maps["handout_turns"].elements == {}


@pytest.mark.parametrize("resizes", [True, False])
@pytest.mark.parametrize("forgetful", [True, False])
def test_a_flow_table_of_another_size(host: Host, resizes: bool, forgetful: bool) -> None:
    """Where the kernel can resize it, flows stay; where it can't, they are forgotten. It has that size in any case."""
    host.nft.resizes, host.forgetful = resizes, forgetful
    set_vips(host, API, WEB)
    host.nft.load(f"add element netdev nft_dsr flows_api {{ {FLOW} timeout 900s : 0x0a4d0015 }}")
    result = set_vips(host, {**API, "flow_table": {"size": 1000}})
    flows = host.nft.table.maps["flows_api"]
    assert result.changed and (flows.size, len(flows.elements)) == (1000, 1 if resizes else 0)
    assert host.nft.table.maps["closing_api"].size == 1000
    assert not set_vips(host, {**API, "flow_table": {"size": 1000}}).changed
    assert all(item["in_sync"] for item in host.load_balancer.info()[1])


# -- what the kernel was last seen to have


@pytest.mark.parametrize("name", ACTS)
def test_what_is_remembered_makes_no_difference(tmp_path: Path, host: Host, name: str) -> None:
    """A host that may trust its memory and one that has to read everything do the same."""
    forgetful = Host(tmp_path / "forgetful", forgetful=True)
    forgetful.folder = host.folder
    act, prepare = ACTS[name]
    results = []
    for one in (host, forgetful):
        for file in host.folder.glob("*"):
            file.unlink()
        set_vips(one, WEB, API, DNS)
        prepare(one)
        results.append([act(one, True), act(one, False), act(one, False)])
    assert results[0] == results[1]
    assert host.everything() == forgetful.everything()


def listings(host: Host, act: Callable[[], Any]) -> list[str]:
    """What nft is asked for meanwhile."""
    asked: list[str] = []
    answer = host.nft.__call__

    class Listener(MemoryNft):
        def __call__(self, argv: Any, stdin: Any = None) -> Any:
            asked.append(" ".join(argv[1:]))
            return answer(argv, stdin)

    listening = Listener()
    listening.__dict__ = host.nft.__dict__
    host.nft = listening
    act()
    return [line for line in asked if " list " in f" {line} "]


def test_a_change_of_one_vip_reads_what_it_changes_and_no_more(serving: Host) -> None:
    assert listings(serving, lambda: set_vips(serving, WEB, API, DNS)) == []
    changed = listings(
        serving, lambda: set_vips(serving, {**WEB, "backends": [{**NAMED[0], "state": "down"}, *NAMED[1:]]})
    )
    assert changed == [
        "-n -j list map netdev nft_dsr poolbackends_dns",  # web and dns have one pool
        "-n -j list map netdev nft_dsr poolhandout_dns",
    ]
    assert listings(serving, lambda: set_vips(serving, API)) == []


DOUBTS: dict[str, Callable[[Host], Any]] = {
    "somebody's transaction": lambda host: host.nft.load("table netdev other"),
    "a flush": lambda host: host.nft.flush(),
    "no memory": lambda host: (host.run_folder / "seen.json").unlink(),
    "a memory that is none": lambda host: (host.run_folder / "seen.json").write_text("?"),
    "half of a memory": lambda host: (host.run_folder / "seen.json").write_text('{"version": 1, "moment": '),
    "a memory of another form": lambda host: (host.run_folder / "seen.json").write_text('{"version": 2}'),
    "a list": lambda host: (host.run_folder / "seen.json").write_text("[]"),
    "a NIC that was made anew": lambda host: host.network.renumber("eth0"),
}


@pytest.mark.parametrize("doubt", DOUBTS)
def test_any_doubt_means_that_the_kernel_is_asked(serving: Host, doubt: str) -> None:
    before = serving.everything()
    DOUBTS[doubt](serving)
    asked = listings(serving, lambda: set_vips(serving, WEB, API, DNS))
    assert asked[0] == "-n -j -t list ruleset netdev"
    tables, files = serving.everything()
    assert (tables["nft_dsr"], files) == (before[0]["nft_dsr"], before[1])
    assert listings(serving, lambda: set_vips(serving, WEB, API, DNS)) == [], "and from then on it is known again"


def test_what_happens_during_a_run_is_not_taken_for_seen(serving: Host) -> None:
    """Somebody's transaction between ours and the look at its number: next time everything is read."""
    serving.load_balancer.set_vips([WEB], False, False)
    answer = serving.nft.__call__

    class Meddler(MemoryNft):
        def __call__(self, argv: Any, stdin: Any = None) -> Any:
            done = answer(argv, stdin)
            if list(argv[1:]) == ["-f", "-"]:
                self.load("flush chain netdev nft_dsr pool_dns")
            return done

    meddler = Meddler()
    meddler.__dict__ = serving.nft.__dict__
    serving.nft = meddler
    set_vips(serving, {**WEB, "backends": NAMED[:2]})
    serving.nft = MemoryNft()
    serving.nft.__dict__ = meddler.__dict__
    assert [item["name"] for item in serving.load_balancer.info()[1] if not item["in_sync"]] == ["dns"]
    assert set_vips(serving, DNS).commands[0] == "flush chain netdev nft_dsr pool_dns"


def test_a_check_remembers_nothing(host: Host) -> None:
    set_vips(host, WEB, check=True)
    assert not (host.run_folder / "seen.json").exists()
    set_vips(host, WEB)
    text = (host.run_folder / "seen.json").read_text()
    set_vips(host, WEB_LESS, check=True)
    host.load_balancer.info()
    assert (host.run_folder / "seen.json").read_text() == text
    set_vips(host, purge=True)
    assert not (host.run_folder / "seen.json").exists(), "of no table there is nothing to remember"


def test_a_change_that_a_check_foresees_is_one_that_the_kernel_takes(serving: Host) -> None:
    serving.nft.nics.remove("eth1")
    with pytest.raises(CommandError, match="No such file or directory"):
        set_vips(serving, vip("x", ports=["81"], interface="eth1"), check=True)


# -- errors come before anything changes


def test_only_root_gets_in(serving: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    for call in (
        lambda: set_vips(serving, WEB_LESS),
        lambda: serving.load_balancer.remove_vip("web", False),
        lambda: drain(serving, "b1"),
        serving.load_balancer.info,
    ):
        with pytest.raises(HostError, match=r"run it as root \(become: true\)"):
            call()


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda host: set_vips(host, vip("web", scheduler="rr")), "vips[0].scheduler: 'rr' is not known;"),
        (
            lambda host: set_vips(host, WEB, vip("x", ports=["81"], interface="eth9")),
            "vips[1].interface: this host has no interface",
        ),
        (lambda host: set_vips(host, WEB, vip("web")), "vips[1].name: 'web' is the name of vips[0] already;"),
        (
            lambda host: set_vips(host, vip("x", ports=["70-90"])),
            "vips[0].ports: 10.77.0.100 tcp port 80 belongs to the VIP 'web' (the VIP 'web' that this host has)",
        ),
        (
            lambda host: set_vips(host, vip("x", address="10.77.0.22", backends=backends(23))),
            "vips[0].address: 10.77.0.22 is a backend of the VIP 'api'; give the VIP an address of its own",
        ),
        (
            lambda host: set_vips(host, vip("x", address="10.77.0.109", backends=backends(100))),
            "vips[0].backends[0].address: 10.77.0.100 is the address of the VIP 'web'; give the backend's own address",
        ),
        (
            lambda host: host.load_balancer.set_vip(vip("x"), False),
            "ports: 10.77.0.100 tcp port 80 belongs to the VIP 'web' (the VIP 'web' that this host has) already",
        ),
        (lambda host: host.load_balancer.set_vip(vip("x", ports=["0"]), False), "ports[0]: port 0 is out of range;"),
        (
            lambda host: host.load_balancer.set_vip(vip("x", ports=["81"], backends=backends(21, 2)), False),
            "backends[1].address: 10.77.0.2 is an address of this load balancer (eth0);",
        ),
        (lambda host: host.load_balancer.remove_vip("$(id)", False), "name: '$(id)' is not a name of a VIP;"),
        (lambda host: host.load_balancer.info("a b"), "name: 'a b' is not a name of a VIP;"),
        (
            lambda host: drain(host, "b9"),
            "backend: 'b9' is not a backend of any VIP; there are: 10.77.0.21 (b1), 10.77",
        ),
        (lambda host: drain(host, " "), "backend: ' ' is neither an address nor a name of a backend"),
        (lambda host: drain(host, None), "backend: None is neither an address nor a name of a backend"),
        (lambda host: drain(host, "b1", "x"), "vip: there is no VIP 'x'; there are: api, dns, web"),
        (lambda host: drain(host, "b1", "a;b"), "vip: 'a;b' is not a name of a VIP;"),
        (lambda host: drain(host, "10.77.0.99", restore=True), "backend: '10.77.0.99' is not a backend of any VIP;"),
    ],
)
def test_an_error_changes_nothing(serving: Host, call: Callable[[Host], Any], error: str) -> None:
    before = serving.everything()
    with pytest.raises(ConfigError) as caught:
        call(serving)
    assert str(caught.value).startswith(error)
    assert serving.everything() == before and len(serving.nft.transactions) == 1


@pytest.mark.parametrize("name", ["vips.json", "overrides.json"])
@pytest.mark.parametrize("text", ["", "{}", '{"version": 1, "vips": [{}], "drained": [{}]}'])
def test_a_state_that_cannot_be_read_is_never_an_empty_one(serving: Host, name: str, text: str) -> None:
    (serving.folder / name).write_text(text)
    before = serving.everything()
    for call in (
        lambda: set_vips(serving, WEB_LESS, purge=True),
        lambda: serving.load_balancer.set_vip(WEB_LESS, False),
        lambda: serving.load_balancer.remove_vip("web", False),
        lambda: drain(serving, "b1"),
        serving.load_balancer.info,
    ):
        with pytest.raises(HostError, match=rf"{name}: .*Nothing was changed; restore .*{name} from a backup"):
            call()
    assert serving.everything() == before


@pytest.mark.parametrize("name", [name for name in ACTS if name not in ("nothing", "remove what is not there")])
def test_a_transaction_that_fails_leaves_the_files_as_they_were(serving: Host, name: str) -> None:
    act, prepare = ACTS[name]
    prepare(serving)
    before = serving.everything()
    serving.nft.refuse = "Could not process rule: No space left on device"
    if name != "no file for the boot":
        with pytest.raises(CommandError, match="No space left on device"):
            act(serving, False)
        assert serving.everything() == before
    serving.nft.refuse = ""
    assert act(serving, False).changed, "the next run does it"


def test_an_nft_that_is_too_old_is_told_before_anything(serving: Host) -> None:
    serving.nft.version = "nftables v0.9.8 (E.D.S.)"
    before = serving.everything()
    with pytest.raises(HostError, match=r"nft 0\.9\.8 is too old; version 1\.0\.2 or later is needed"):
        set_vips(serving, WEB_LESS)
    assert serving.everything() == before


def test_a_nic_that_went_away_is_named_with_its_vip(serving: Host) -> None:
    set_vips(serving, vip("back", ports=["81"], backends=[{"address": "10.78.0.21"}]))
    del serving.network.links["eth1"]
    before = serving.everything()
    with pytest.raises(HostError, match="the VIP 'back' uses the interface 'eth1', which this host does not have"):
        set_vips(serving, WEB_LESS)
    assert serving.everything() == before
    # To ask is no error: that the NIC is gone is the answer.
    differences = {item["name"]: item["differences"] for item in serving.load_balancer.info()[1]}
    assert len(differences) == 4 and all("'eth1'" in found[0] for found in differences.values())
    assert serving.everything() == before
    serving.load_balancer.remove_vip("back", False)
    assert set_vips(serving, WEB_LESS).changed


# -- drift


@pytest.mark.parametrize(
    ("hand", "drifted"),
    [
        ("delete table netdev nft_dsr", {"web", "api", "dns"}),
        ("flush chain netdev nft_dsr pool_web", {"web"}),
        ("add rule netdev nft_dsr syn_api counter drop", {"api"}),
        ("flush map netdev nft_dsr turns_api", {"api"}),
        # Told by name, these serve all that have the pool.
        ("flush map netdev nft_dsr poolbackends_dns", {"web", "dns"}),
        ("flush map netdev nft_dsr backends_api", {"api"}),
        ("flush set netdev nft_dsr guard_ip", {"web", "api", "dns"}),
        ("flush set netdev nft_dsr stations_all", {"web", "api", "dns"}),
        ("flush chain netdev nft_dsr guard_all", {"web", "api", "dns"}),
        ("flush chain netdev nft_dsr poolerror_dns", {"dns"}),
        ("flush chain netdev nft_dsr icmp_eth0", {"web", "api", "dns"}),
        ("flush map netdev nft_dsr services_eth0", {"web", "api", "dns"}),
        ("flush chain netdev nft_dsr output_eth0", {"web", "api", "dns"}),
        # The slot table bears the name of one VIP and serves all with this pool.
        ("flush map netdev nft_dsr slots_api", {"web", "api", "dns"}),
    ],
)
def test_drift_is_told_and_repaired(serving: Host, hand: str, drifted: set[str]) -> None:
    good = serving.everything()
    serving.nft.load(hand)
    _present, found = serving.load_balancer.info()
    assert {item["name"] for item in found if not item["in_sync"]} == drifted
    assert all(item["in_sync"] is not bool(item["differences"]) for item in found)
    result = set_vips(serving, WEB)
    assert result.changed and "nft transaction:\n# " in result.diff[0]["prepared"]
    assert serving.everything() == good
    assert all(item["in_sync"] for item in serving.load_balancer.info()[1])


def test_what_others_have_in_the_kernel_is_theirs(serving: Host) -> None:
    serving.nft.load(
        "table netdev other {\n\tmap slots_web {\n\t\ttype mark : mark\n\t}\n\tchain vip_web {\n\t\taccept\n\t}\n}"
    )
    assert not set_vips(serving, WEB).changed
    set_vips(serving, purge=True)
    assert list(serving.nft.tables) == ["other"]


def test_a_nic_that_was_made_anew_gets_its_new_mac_into_the_rules(serving: Host) -> None:
    serving.network.links["eth0"] = "02:00:00:00:00:42"
    result = set_vips(serving, WEB)
    assert result.ruleset.count("02:00:00:00:00:42") > 0 == result.ruleset.count(OWN["eth0"])
    # What guards against our own frames, and what writes the source address; nothing that tracks.
    touched = {command.partition(" { ")[0].split()[4].partition("_")[0] for command in result.commands}
    assert touched == {"guard", "stations", "fragment", "backends", "poolbackends"}


# -- MAC addresses


def test_a_backend_that_does_not_answer_keeps_its_mac(serving: Host) -> None:
    before = serving.everything()
    serving.network.silence("10.77.0.21")
    result = set_vips(serving, WEB, API, DNS)
    assert not result.changed and serving.everything() == before
    assert len(result.warnings) == 3
    assert all("10.77.0.21 (b1) does not answer ARP on eth0; it keeps the MAC address" in w for w in result.warnings)
    other = set_vips(serving, vip("x", ports=["81"], backends=NAMED))
    assert other.changed and [warning.split(":")[0] for warning in other.warnings] == ["x"]


def test_a_backend_never_seen_fails_the_whole_call(serving: Host) -> None:
    serving.network.silence("10.77.0.29")
    before = serving.everything()
    with pytest.raises(
        ConfigError, match=r"^vips\[1\]\.backends\[0\]\.address: 10\.77\.0\.29 does not answer ARP on eth0"
    ):
        set_vips(serving, WEB_LESS, vip("x", ports=["81"], backends=backends(29)))
    assert serving.everything() == before


def test_a_backend_without_a_mac_comes_in_when_it_answers(host: Host) -> None:
    host.network.silence("10.77.0.23")
    wanted = vip(require_mac=False)
    result = set_vips(host, wanted)
    assert [backend["mac"] for backend in result.vips[0]["backends"]][2] is None and len(result.warnings) == 1
    assert "10.77.0.100 . 0x0a4d0017" not in host.nft.table.maps["poolbackends_web"].elements
    assert not set_vips(host, wanted).changed
    host.network.answers.clear()
    assert set_vips(host, wanted).changed
    assert "10.77.0.100 . 0x0a4d0017" in host.nft.table.maps["poolbackends_web"].elements


# -- drain and restore


def test_a_drain_outlives_runs_until_it_is_restored(serving: Host) -> None:
    result, names = serving.load_balancer.drain("b1", None, False, False)
    assert result.changed and names == ["api", "dns", "web"]
    warning = "the backend 10.77.0.21 of every VIP is drained by an operator and stays so; end it with the playbook"
    assert [text[: len(warning)] for text in result.warnings] == [warning]
    assert json.loads(serving.files()["overrides.json"])["drained"] == [{"backend": "10.77.0.21", "vip": None}]
    again = set_vips(serving, WEB, API, DNS, purge=True)
    assert not again.changed and again.warnings == result.warnings
    assert again.vips[0]["backends"][0]["state"] == "up", (
        "the configuration says so, and the override is not part of it"
    )
    assert states(serving) == {"b1": "drain", "b2": "up", "b3": "up"}
    # A VIP that comes later has it drained too.
    set_vips(serving, vip("x", ports=["81"], backends=NAMED))
    assert states(serving, "x")["b1"] == "drain"
    assert drain(serving, "10.77.0.21", restore=True).warnings == []
    assert states(serving)["b1"] == "up"
    assert json.loads(serving.files()["overrides.json"])["drained"] == []


def test_a_drain_on_one_vip_is_of_that_one(serving: Host) -> None:
    result, names = serving.load_balancer.drain("b1", "web", False, False)
    assert names == ["web"] and result.warnings[0].startswith("the backend 10.77.0.21 of web is drained by an operator")
    assert (states(serving, "web")["b1"], states(serving, "api")["b1"]) == ("drain", "up")
    drain(serving, "b1")
    with pytest.raises(
        ConfigError, match=r"^vip: 10\.77\.0\.21 is drained on every VIP; restore it without naming a VIP"
    ):
        drain(serving, "b1", "web", restore=True)
    drain(serving, "b1", restore=True)
    assert states(serving, "web")["b1"] == "up", "restored everywhere, it is restored on this one"


def test_drained_twice_is_drained_once_and_what_is_not_drained_is_restored(serving: Host) -> None:
    assert not drain(serving, "b1", restore=True).changed
    assert drain(serving, "b1").changed
    before = serving.everything()
    assert not drain(serving, "b1").changed and serving.everything() == before


def test_a_drained_backend_gets_nothing_new(serving: Host) -> None:
    drain(serving, "b1")
    maps = serving.nft.table.maps
    assert "0x0a4d0015" not in {element.value for element in maps["turns_api"].elements.values()}
    assert "0x0a4d0015" in maps["backends_api"].elements, "its flows go on"
    assert {"flows_web", "closing_web", "flows_dns", "switch_dns"} <= set(maps), "a hash VIP tracks while it drains"


def test_a_backend_that_left_can_still_be_restored_by_its_address(serving: Host) -> None:
    drain(serving, "b1")
    set_vips(serving, {**WEB, "backends": NAMED[1:]}, {**API, "backends": NAMED[1:]}, {**DNS, "backends": NAMED[1:]})
    assert drain(serving, "10.77.0.21", restore=True).changed
    assert json.loads(serving.files()["overrides.json"])["drained"] == []


def test_a_purge_forgets_overrides_that_concern_nobody_any_more(serving: Host) -> None:
    drain(serving, "b1", "api")
    drain(serving, "b2", "web")
    set_vips(serving, WEB, purge=True)
    assert json.loads(serving.files()["overrides.json"])["drained"] == [{"backend": "10.77.0.22", "vip": "web"}]


def test_a_name_of_two_backends_is_no_answer(host: Host) -> None:
    set_vips(
        host,
        vip("a", backends=[{"address": "10.77.0.21", "name": "b"}]),
        vip("c", ports=["81"], backends=[{"address": "10.77.0.22", "name": "b"}]),
    )
    with pytest.raises(
        ConfigError, match=r"^backend: 'b' names different backends \(10\.77\.0\.21, 10\.77\.0\.22\); give"
    ):
        drain(host, "b")
    drain(host, "b", "c")
    assert states(host, "c") == {"b": "drain"} and states(host, "a") == {"b": "up"}


def test_what_is_down_stays_down(serving: Host) -> None:
    set_vips(serving, {**WEB, "backends": [{**NAMED[0], "state": "down"}, *NAMED[1:]]})
    drain(serving, "b1", "web")
    assert states(serving)["b1"] == "down"


def test_a_udp_drain_arms_its_switch_once(serving: Host) -> None:
    drain(serving, "b1")
    switch = serving.nft.table.maps["switch_dns"]
    assert list(switch.elements) == ["ip"]
    serving.nft.load("flush map netdev nft_dsr switch_dns")  # its time is over
    assert not set_vips(serving, DNS).changed
    assert serving.nft.table.maps["switch_dns"].elements == {}
    drain(serving, "b2")
    assert list(serving.nft.table.maps["switch_dns"].elements) == ["ip"], "another drain begins"


def test_flows_of_a_drain_are_honoured_after_it_and_their_map_goes_with_a_later_change(serving: Host) -> None:
    drain(serving, "b1", "web")
    serving.nft.load(f"add element netdev nft_dsr flows_web {{ {FLOW} timeout 900s : 0x0a4d0015 }}")
    drain(serving, "b1", "web", restore=True)
    assert list(serving.nft.table.maps["flows_web"].elements) == [FLOW]
    set_vips(serving, {**API, "backends": NAMED[:2]})
    assert "flows_web" in serving.nft.table.maps, "somebody's flow lives in it"
    serving.nft.load("flush map netdev nft_dsr flows_web")
    assert not set_vips(serving, WEB).changed, "that it is empty is no change by itself"
    set_vips(serving, API)
    assert not {"flows_web", "closing_web"} & set(serving.nft.table.maps)


@pytest.mark.parametrize("drained", [False, True])
def test_a_boot_loads_what_the_kernel_has(serving: Host, drained: bool) -> None:
    if drained:
        drain(serving, "b1")
    booted = MemoryNft()
    booted.load(serving.files()["ruleset.nft"])
    assert booted.table.contents() == serving.nft.table.contents()


# -- information


def test_information_about_nothing(host: Host) -> None:
    assert host.load_balancer.info() == (False, [])


def test_information_about_vips(serving: Host) -> None:
    maps = serving.nft.table.maps
    maps["services_eth0"].elements["10.77.0.102 . udp . 53"].packets = 3
    maps["ranges_eth0"].elements["10.77.0.102 . udp . 5300-5400"].packets = 4
    maps["ranges_eth0"].elements["10.77.0.102 . udp . 5300-5400"].bytes = 400
    maps["poolbackends_dns"].elements["10.77.0.102 . 0x0a4d0015"].packets = 7
    maps["poolbackends_dns"].elements["10.77.0.102 . 0x0a4d0015"].bytes = 700
    present, found = serving.load_balancer.info("dns")
    assert present and len(found) == 1
    (dns,) = found
    assert (dns["in_sync"], dns["differences"], dns["packets"], dns["bytes"]) == (True, [], 7, 400)
    assert {key: dns[key] for key in ("name", "interface", "ports")} == {
        "name": "dns",
        "interface": "eth0",
        "ports": ["53", "5300-5400"],
    }
    assert dns["backends"][0] == {
        "address": "10.77.0.21",
        "name": "b1",
        "mac": "02:d5:00:00:00:15",
        "weight": 1,
        "state": "up",
        "backup": False,
        "packets": 7,
        "bytes": 700,
        "healthy": None,
        "cause": None,
        "since": None,
        "flows": 0,
    }


def test_information_changes_nothing(serving: Host) -> None:
    _drift(serving)
    before = serving.everything()
    serving.load_balancer.info()
    assert serving.everything() == before


def test_flows_are_told_where_they_are_honoured(host: Host) -> None:
    set_vips(host, API)
    host.nft.load(
        f"add element netdev nft_dsr flows_api {{ {FLOW} timeout 900s : 0x0a4d0015 }}\n"
        "add element netdev nft_dsr closing_api { 172818442 . 4001 . 80 timeout 60s : 0x0a4d0015, "
        "172818442 . 4002 . 80 timeout 60s : 0x0a4d0016 }"
    )

    def flows() -> list[int]:
        return [backend["flows"] for backend in host.load_balancer.info("api")[1][0]["backends"]]

    assert flows() == [2, 1, 0]
    set_vips(host, {**API, "backends": [{**NAMED[0], "state": "down"}, *NAMED[1:]]})
    assert flows() == [0, 1, 0], "entries of a backend that is down count as none"


def test_information_about_a_vip_that_is_not_there(serving: Host) -> None:
    assert serving.load_balancer.info("x") == (True, [])


# -- the difference that people read


def test_a_difference_shows_the_vips_before_and_after_and_the_transaction(serving: Host) -> None:
    vips, transaction = drain(serving, "b1", "web", check=True).diff
    before, after = vips["before"].splitlines(), vips["after"].splitlines()
    at = before.index("web: 10.77.0.100 tcp 80 source_hash")
    assert before[at + 1 : at + 3] == ["  through eth0", "  10.77.0.21 (b1) 02:d5:00:00:00:15 weight 1 up"]
    assert after == [*before[: at + 2], "  10.77.0.21 (b1) 02:d5:00:00:00:15 weight 1 drain", *before[at + 3 :]]
    assert transaction["prepared"].startswith("nft transaction:\n# ")
    assert " more }" in transaction["prepared"], "long lists of elements are cut short"


def test_a_difference_shows_ports_and_nics(host: Host) -> None:
    shown = set_vips(host, vip(ports=None, interface="eth1"), vip("b", protocol="udp", ports=["1-9", "80"])).diff[0]
    assert shown["before"] == ""
    assert "web: 10.77.0.100 tcp all ports source_hash\n  through eth1 -> eth0\n" in shown["after"]
    assert "b: 10.77.0.100 udp 1-9,80 source_hash\n" in shown["after"]


def test_a_file_alone_is_a_difference_too(serving: Host) -> None:
    path = serving.folder / "ruleset.nft"
    path.write_text("")
    result = set_vips(serving, WEB)
    assert result.changed and result.commands == []
    assert result.diff == [{"prepared": f"written anew: {path}\n"}]
