# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading what nft prints. The samples are what nft 1.0.6 said on Linux 6.18, cut short; variations say so."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

import pytest

from ansible_collections.dsr.layer2.plugins.module_utils.common.command import Completed
from ansible_collections.dsr.layer2.plugins.module_utils.common.errors import CommandError, HostError
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr import kernel, model
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.kernel import Kernel
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.resolved import ResolvedVip
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.ruleset import render
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.table import (
    Counter,
    Hook,
    KernelMap,
    KernelTable,
    Spec,
    Table,
)
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.nft_dsr.hosts import OWN, vip
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.nft_dsr.memory_nft import MemoryNft

SAMPLES = Path(__file__).resolve().with_name("samples")
METAINFO = {"metainfo": {"version": "1.0.6", "release_name": "Lester Gooch #5", "json_schema_version": 1}}
RULESET = "nft -n -j -t list ruleset netdev"
BYTE_CODE = "nft -t -n --debug=netlink list ruleset netdev"
BY_PORT = ["ipv4_addr", "inet_proto", "inet_service"]


class Script:
    """Answers each command line that it knows, and says what it was asked."""

    def __init__(self, answers: Mapping[str, Any]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def __call__(self, argv: Sequence[str], stdin: Optional[str] = None) -> Completed:
        line = " ".join(argv)
        self.asked.append(line)
        answer = self.answers[line]
        if isinstance(answer, Completed):
            return answer
        text = answer if isinstance(answer, str) else json.dumps({"nftables": [METAINFO, *answer]})
        complaint = "warning: stmt ops map have no json callback\n" if "-j" in argv else ""
        return Completed(tuple(argv), 0, text, complaint)


def failed(status: int, stderr: str = "", stdout: str = "") -> Completed:
    return Completed(("nft",), status, stdout, stderr)


# -- nft itself


@pytest.mark.parametrize(
    ("printed", "version"),
    [
        ("nftables v1.0.2 (Lester Gooch)\n", "1.0.2"),
        ("nftables v1.0.6 (Lester Gooch #5)\n", "1.0.6"),
        ("nftables v1.1.3 (Commodore Bullmoose #4)\n", "1.1.3"),
        ("nftables v1.1 (Commodore)\n", "1.1"),
        ("nftables v2.0.0\n", "2.0.0"),
    ],
)
def test_new_enough_versions(printed: str, version: str) -> None:
    assert Kernel(Script({"nft --version": printed})).check_usable() == version


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ("nftables v0.9.8 (E.D.S.)\n", "nft 0.9.8 is too old; version 1.0.2 or later is needed"),
        ("nftables v1.0.1 (Fearless Fosdick #3)\n", "nft 1.0.1 is too old; version 1.0.2 or later is needed"),
        ("nftables v1.0 (Fearless)\n", "nft 1.0 is too old; version 1.0.2 or later is needed"),
        ("busybox\n", "'nft --version' did not say a version: 'busybox'"),
        (
            failed(127, "nft: error while loading shared libraries"),
            "'nft --version' did not say a version: 'nft: error",
        ),
    ],
)
def test_an_nft_that_cannot_be_used(answer: Any, error: str) -> None:
    with pytest.raises(HostError) as caught:
        Kernel(Script({"nft --version": answer})).check_usable()
    assert str(caught.value).startswith(error)


def test_an_nft_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "find_program", lambda name: None)
    with pytest.raises(HostError, match=r"nft is not installed on this host; install the package 'nftables'"):
        Kernel().check_usable()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (
            failed(1, "/dev/stdin:1:1-3: Error: syntax error\n"),
            "nft -f - failed (exit status 1): /dev/stdin:1:1-3: Error",
        ),
        (failed(1, "", "only here\n"), "nft -f - failed (exit status 1): only here"),
        (
            failed(-6, "nft: netlink_linearize.c:99: Assertion failed"),
            "nft -f - failed (ended by signal 6): nft: netlink",
        ),
        (failed(-9), "nft -f - failed (ended by signal 9): it printed nothing"),
        (
            failed(1, "netlink: Error: cache initialization failed: Operation not permitted"),
            "nft may not change the kernel's rules; run as root (become: true) with CAP_NET_ADMIN",
        ),
    ],
)
def test_a_transaction_that_fails_says_how(answer: Completed, error: str) -> None:
    with pytest.raises(HostError) as caught:
        Kernel(Script({"nft -f -": answer})).apply("table netdev x\n")
    assert str(caught.value).startswith(error)


@pytest.mark.parametrize("printed", ["", "{}", "[]", "<html>", '{"nftables"'])
def test_a_listing_that_is_no_json_is_an_error(printed: str) -> None:
    with pytest.raises(CommandError, match="nft -n -j -t list ruleset netdev printed something that is not its JSON"):
        Kernel(Script({RULESET: printed})).read()


@pytest.mark.parametrize(
    ("rows", "there"),
    [
        ([], False),
        ([{"table": {"family": "netdev", "name": "nft_dsr", "handle": 2}}], True),
        ([{"table": {"family": "netdev", "name": "nft_dsr2"}}], False),
        ([{"table": {"family": "netdev", "name": "filter"}}, {"table": {"family": "netdev", "name": "nft_dsr"}}], True),
        # What is of another table does not make ours be there.
        ([{"map": {"family": "netdev", "name": "slots_web", "table": "other", "type": "mark", "map": "mark"}}], False),
    ],
)
def test_whether_the_table_is_there(rows: list[dict[str, Any]], there: bool) -> None:
    table = Kernel(Script({RULESET: rows, BYTE_CODE: ""})).read()
    assert table == KernelTable(present=there)


# -- declarations


def raw(base: str, offset: int, length: int) -> dict[str, Any]:
    """A place in the packet in nft's JSON."""
    return {"payload": {"base": base, "offset": offset, "len": length}}


def named(protocol: str, field: str) -> dict[str, Any]:
    return {"payload": {"protocol": protocol, "field": field}}


SWITCH = Spec(("ether_type",), "verdict", flags=frozenset({"timeout"}))


@pytest.mark.parametrize(
    ("body", "spec"),
    [
        # nft 1.0.6
        ({"type": "integer", "map": "mark", "size": 512}, Spec(("integer",), "mark", 512)),
        ({"type": "ether_addr"}, Spec(("ether_addr",), None)),
        (
            {"type": "mark", "map": "ether_addr", "stmt": [{"counter": None}]},
            Spec(("mark",), "ether_addr"),
        ),
        (
            {"type": BY_PORT, "map": "verdict", "flags": ["interval"], "stmt": [{"counter": None}]},
            Spec(tuple(BY_PORT), "verdict", flags=frozenset({"interval"})),
        ),
        (
            {"type": ["ipv4_addr", "inet_service", "inet_service"], "map": "mark", "size": 9, "flags": ["timeout"]},
            Spec(("ipv4_addr", "inet_service", "inet_service"), "mark", 9, frozenset({"timeout"})),
        ),
        # nft 1.1: what a map was declared from
        (
            {"type": {"typeof": {"numgen": {"mode": "inc", "mod": 512, "offset": 0}}}, "map": "mark", "size": 512},
            Spec(("integer",), "mark", 512),
        ),
        (
            {
                "type": {
                    "typeof": {
                        "concat": [
                            {"payload": {"protocol": "ip", "field": "daddr"}},
                            {"payload": {"protocol": "ip", "field": "protocol"}},
                            {"payload": {"protocol": "th", "field": "dport"}},
                        ]
                    }
                },
                "map": "verdict",
            },
            Spec(tuple(BY_PORT), "verdict"),
        ),
        # places in a packet, of both versions of nft
        ({"type": ["integer", "integer", "integer"], "map": "mark"}, Spec(("integer",) * 3, "mark")),
        ({"type": "integer"}, Spec(("integer",), None)),
        ({"type": {"typeof": raw("nh", 96, 8)}}, Spec(("integer",), None)),
        (
            {
                "type": {"typeof": {"concat": [raw("nh", 96, 32), raw("nh", 160, 16), raw("nh", 176, 16)]}},
                "map": "mark",
            },
            Spec(("integer",) * 3, "mark"),
        ),
        (
            {
                "type": {"typeof": {"concat": [named("ip", "daddr"), raw("th", 136, 8), raw("th", 224, 16)]}},
                "map": "verdict",
                "flags": ["interval"],
            },
            Spec(("ipv4_addr", "integer", "integer"), "verdict", flags=frozenset({"interval"})),
        ),
        (
            {
                "type": {"typeof": {"concat": [named("ip", "saddr"), named("ip", "id"), raw("th", 0, 32)]}},
                "map": "ether_addr",
                "size": 65536,
                "flags": ["timeout", "dynamic"],
                "timeout": 30,
            },
            Spec(("ipv4_addr", "integer", "integer"), "ether_addr", 65536, frozenset({"timeout"}), timeout=30),
        ),
        (
            {
                "type": {
                    "typeof": {"concat": [named("ip6", "daddr"), {"meta": {"key": "l4proto"}}, named("th", "dport")]}
                },
                "map": "verdict",
                "stmt": [{"counter": None}],
            },
            Spec(("ipv6_addr", "inet_proto", "inet_service"), "verdict"),
        ),
        (
            {"type": {"typeof": named("ip6", "saddr")}, "size": 65536, "flags": ["timeout"], "timeout": 10},
            Spec(("ipv6_addr",), None, 65536, frozenset({"timeout"}), timeout=10),
        ),
        ({"type": {"typeof": named("ip", "daddr")}, "map": "verdict"}, Spec(("ipv4_addr",), "verdict")),
        ({"type": "ether_type", "map": "verdict", "flags": ["timeout"]}, SWITCH),
        ({"type": ["ether_addr", "ipv6_addr"]}, Spec(("ether_addr", "ipv6_addr"), None)),
        ({"type": "mark", "map": "integer"}, Spec(("mark",), "integer")),
        ({"type": {"typeof": {"meta": {"key": "mark"}}}, "map": "integer"}, Spec(("mark",), "integer")),
        # A field that no map of ours has is no field that one has.
        ({"type": {"typeof": named("tcp", "sport")}}, Spec(("{'protocol': 'tcp', 'field': 'sport'}",), None)),
        ({"type": {"typeof": named("ip6", "protocol")}}, Spec(("{'protocol': 'ip6', 'field': 'protocol'}",), None)),
        # variations: other versions list "dynamic", and a single flag without a list
        (
            {"type": "mark", "map": "mark", "flags": ["timeout", "dynamic"]},
            Spec(("mark",), "mark", flags=frozenset({"timeout"})),
        ),
        ({"type": "mark", "map": "mark", "flags": "timeout"}, Spec(("mark",), "mark", flags=frozenset({"timeout"}))),
        ({"type": "mark", "flags": "dynamic"}, Spec(("mark",), None)),
        (
            {"type": "mark", "map": "ether_addr", "stmt": [{"counter": {"packets": 0, "bytes": 0}}]},
            Spec(("mark",), "ether_addr"),
        ),
    ],
)
def test_declarations_are_read(body: dict[str, Any], spec: Spec) -> None:
    assert kernel._spec({"family": "netdev", "name": "m", "table": "nft_dsr", "handle": 9, **body}) == spec


# -- elements


def counted(value: Any, packets: int = 0, size: int = 0) -> dict[str, Any]:
    return {"elem": {"val": value, "counter": {"packets": packets, "bytes": size}}}


@pytest.mark.parametrize(
    ("spec", "elements", "found", "counters"),
    [
        (Spec(("integer",), "mark"), [[0, 172818453], [511, 172818454]], {"0": "0x0a4d0015", "511": "0x0a4d0016"}, {}),
        (Spec(("ether_addr",), None), ["02:d5:00:00:00:15"], {"02:d5:00:00:00:15": ""}, {}),
        (
            Spec(("mark",), "ether_addr", counter=True),
            [[counted(172818453, 7, 700), "02:d5:00:00:00:15"]],
            {"0x0a4d0015": "02:d5:00:00:00:15"},
            {"0x0a4d0015": Counter(7, 700)},
        ),
        (
            Spec(tuple(BY_PORT), "verdict", counter=True),
            [[counted({"concat": ["10.77.0.100", 6, 80]}, 1, 60), {"goto": {"target": "vip_web"}}]],
            {"10.77.0.100 . tcp . 80": "goto vip_web"},
            {"10.77.0.100 . tcp . 80": Counter(1, 60)},
        ),
        (
            Spec(tuple(BY_PORT), "verdict", flags=frozenset({"interval"})),
            [[{"concat": ["10.77.0.100", 17, {"range": [8192, 16383]}]}, {"goto": {"target": "vip_web"}}]],
            {"10.77.0.100 . udp . 8192-16383": "goto vip_web"},
            {},
        ),
        (
            Spec(("ipv4_addr", "inet_proto"), "verdict"),
            [[{"concat": ["10.77.0.102", 17]}, {"goto": {"target": "vip_dns"}}]],
            {"10.77.0.102 . udp": "goto vip_dns"},
            {},
        ),
        (
            Spec(("ipv6_addr", "inet_proto", "inet_service"), "verdict", flags=frozenset({"interval"}), counter=True),
            [[counted({"concat": ["fd00::1", 132, {"range": [1, 5]}]}, 2, 9), {"goto": {"target": "vip_web"}}]],
            {"fd00::1 . sctp . 1-5": "goto vip_web"},
            {"fd00::1 . sctp . 1-5": Counter(2, 9)},
        ),
        (
            Spec(("ipv4_addr", "integer", "integer"), "verdict", flags=frozenset({"interval"})),
            [[{"concat": ["10.77.0.100", 6, {"range": [8000, 8100]}]}, {"goto": {"target": "error_web"}}]],
            {"10.77.0.100 . 6 . 8000-8100": "goto error_web"},
            {},
        ),
        (
            Spec(("ipv4_addr",), None, flags=frozenset({"interval"})),
            [{"prefix": {"addr": "10.0.0.0", "len": 8}}, "192.0.2.1", {"prefix": {"addr": "0.0.0.0", "len": 0}}],
            {"10.0.0.0/8": "", "192.0.2.1": "", "0.0.0.0/0": ""},
            {},
        ),
        (
            Spec(("ipv6_addr",), None, flags=frozenset({"interval"})),
            [{"prefix": {"addr": "fd00:77::", "len": 64}}, "fd00::1", {"prefix": {"addr": "::", "len": 0}}],
            {"fd00:77::/64": "", "fd00::1": "", "::/0": ""},
            {},
        ),
        # Added by hand, a range that is no network; it is seen as what it is, and goes.
        (
            Spec(("ipv4_addr",), None, flags=frozenset({"interval"})),
            [{"range": ["10.0.0.1", "10.0.0.9"]}],
            {"10.0.0.1-10.0.0.9": ""},
            {},
        ),
        (Spec(("integer",), None), [0, 127, 224], {"0": "", "127": "", "224": ""}, {}),
        (
            Spec(("ether_addr", "ipv6_addr"), None),
            [{"concat": ["02:d5:00:00:00:15", "fd00:77::100"]}],
            {"02:d5:00:00:00:15 . fd00:77::100": ""},
            {},
        ),
        (Spec(("mark",), None), [3168207935], {"0xbcd7043f": ""}, {}),
        # The beginning of a frame, with the zeros that it begins with
        (
            Spec(("mark",), "integer", counter=True),
            [[counted(172818453, 7, 700), "0x2d50000001502d500000002"], [counted(1), 3113851289621]],
            {"0x0a4d0015": "0x02d50000001502d500000002", "0x00000001": "0x00000000000002d500000015"},
            {"0x0a4d0015": Counter(7, 700), "0x00000001": Counter()},
        ),
        # variations: names of protocols, marks as hexadecimal text, verdicts that are never ours, unknown protocols
        (
            Spec(("ipv4_addr", "inet_proto"), "verdict"),
            [[{"concat": ["10.77.0.102", "udp"]}, {"jump": {"target": "vip_dns"}}]],
            {"10.77.0.102 . udp": "jump vip_dns"},
            {},
        ),
        (Spec(("integer",), "mark"), [[0, "0x0a4d0015"]], {"0": "0x0a4d0015"}, {}),
        (Spec(("inet_proto",), "verdict"), [[47, {"drop": None}]], {"47": "drop"}, {}),
        (Spec(("mark",), "mark"), [], {}, {}),
    ],
)
def test_elements_are_read_in_the_words_of_the_ruleset(
    spec: Spec, elements: list[Any], found: dict[str, str], counters: dict[str, Counter]
) -> None:
    body = {"family": "netdev", "name": "m", "table": "nft_dsr", **({"elem": elements} if elements else {})}
    assert kernel._elements(body, spec) == (found, counters)


def test_flows_are_counted_by_backend() -> None:
    elements = [
        [
            {"elem": {"val": {"concat": ["10.77.0.10", port, 80]}, "timeout": 900, "expires": 899}},
            172818453 + port % 2,
        ]
        for port in (40000, 40001, 40002)
    ]
    answer = [{"map": {"family": "netdev", "name": "flows_web", "table": "nft_dsr", "map": "mark", "elem": elements}}]
    script = Script({"nft -n -j list map netdev nft_dsr flows_web": answer})
    assert Kernel(script).flows("flows_web") == {"0x0a4d0015": 2, "0x0a4d0016": 1}
    del answer[0]["map"]["elem"]
    assert Kernel(script).flows("flows_web") == {}


# -- chains and their byte code

# The same rules as the kernel has them, and as nft only checks them
LISTED = (SAMPLES / "listed.txt").read_text()
CHECKED = (SAMPLES / "checked.txt").read_text()


def test_a_loaded_rule_and_a_checked_one_have_the_same_byte_code() -> None:
    loaded = kernel._byte_codes(LISTED, "nft_dsr")
    assert loaded == kernel._byte_codes(CHECKED, "nft_dsr_check")
    assert [len(loaded[name]) for name in ("syn_api", "vip_web", "ingress_eth0")] == [1, 2, 1]
    assert loaded["syn_api"] == ["[ counter ]\n[ immediate reg 0 goto -> fallback_api ]"]


@pytest.mark.parametrize(
    ("instruction", "other"),
    [
        ("[ immediate reg 1 0x00000003 ]", "[ immediate reg 1 0x00000004 ]"),  # a NIC that was made anew
        ("[ lookup reg 1 set slots_web dreg 1 0x0 ]", "[ lookup reg 1 set slots_api dreg 1 0x0 ]"),
        ("[ lookup reg 1 set slots_web 0x0 ]", "[ lookup reg 1 set slots_web 0x1 ]"),  # inverted
        ("[ dynset update reg_key 1 set f timeout 60000ms ]", "[ dynset update reg_key 1 set f timeout 61000ms ]"),
        ("[ dynset update reg_key 1 set f timeout 0ms ]", "[ dynset update reg_key 1 set f timeout 60000ms ]"),
        ("[ cmp eq reg 1 0x0 ]", "[ cmp neq reg 1 0x0 ]"),
        # A life time of none stands before what an entry does besides.
        (
            "[ dynset update reg_key 1 set s timeout 0ms expr [ limit rate 9/second ] ]",
            "[ dynset update reg_key 1 set s timeout 10ms expr [ limit rate 9/second ] ]",
        ),
        ("[ limit rate 100/second burst 100 ]", "[ limit rate 100/minute burst 100 ]"),
        ("[ reject type 1 code 0 ]", "[ reject type 2 code 1 ]"),
    ],
)
def test_what_matters_of_an_instruction_is_kept(instruction: str, other: str) -> None:
    def code(line: str) -> Any:
        return kernel._byte_codes(f"netdev nft_dsr vip_web 4\n  {line}\n\n", "nft_dsr")

    assert code(instruction) != code(other)


def test_a_life_time_of_none_is_shown_by_a_loaded_rule_alone() -> None:
    loaded = "[ dynset update reg_key 1 set s timeout 0ms expr [ limit rate 9/second burst 9 type packets flags 0x1 ] ]"
    assert kernel._plain_instruction(loaded) == kernel._plain_instruction(loaded.replace("timeout 0ms ", ""))
    kept = "[ dynset update reg_key 1 set s sreg_data 2 timeout 10ms ]"
    assert kernel._plain_instruction(kept) == kept


def test_the_chains_of_our_table_and_of_no_other() -> None:
    assert kernel._chains_of(LISTED, "nft_dsr") == {
        "syn_api": (None, ["counter packets 7 bytes 420 goto fallback_api"]),
        "vip_web": (
            None,
            [
                "ether saddr @guard_web counter packets 0 bytes 0 drop",
                "meta mark set jhash ip saddr mod 512 seed 0x2d5a1b0d map @slots_web",
            ],
        ),
        "empty": (None, []),
        "ingress_eth0": (Hook.of_device("eth0"), ["meta pkttype != 0 accept"]),
    }


@pytest.mark.parametrize(
    ("line", "hook"),
    [
        ('type filter hook ingress device "eth0" priority 0; policy accept;', Hook.of_device("eth0")),
        ('type filter hook ingress device "eth0" priority filter; policy accept;', Hook.of_device("eth0")),
        ('type filter hook ingress device "eth0.100" priority 0; policy accept;', Hook.of_device("eth0.100")),
        # variations: lists of one device, with and without quotes, and lists of more
        ('type filter hook ingress devices = { "eth0" } priority 0; policy accept;', Hook.of_device("eth0")),
        ("type filter hook ingress devices = { eth0 } priority filter; policy accept;", Hook.of_device("eth0")),
        (
            "type filter hook ingress devices = { eth0, eth1 } priority 0; policy drop;",
            Hook("filter", "ingress", frozenset({"eth0", "eth1"}), "0", "drop"),
        ),
        (
            'type filter hook ingress device "eth0" priority filter + 5; policy accept;',
            Hook("filter", "ingress", frozenset({"eth0"}), "filter + 5", "accept"),
        ),
        (
            'type filter hook egress device "eth0" priority -5; policy accept;',
            Hook("filter", "egress", frozenset({"eth0"}), "-5", "accept"),
        ),
    ],
)
def test_hooks_are_read(line: str, hook: Hook) -> None:
    listing = f"table netdev nft_dsr {{\n\tchain x {{\n\t\t{line}\n\t\taccept\n\t}}\n}}\n"
    assert kernel._chains_of(listing, "nft_dsr") == {"x": (hook, ["accept"])}


def test_a_hook_without_its_nic_is_a_hook_that_differs() -> None:
    line = "type filter hook ingress priority 0; policy accept;"
    found, rules = kernel._chains_of(f"table netdev nft_dsr {{\n\tchain x {{\n\t\t{line}\n\t}}\n}}\n", "nft_dsr")["x"]
    assert found is not None and found.devices == frozenset() and rules == []


# -- the whole table


def test_a_table_is_read_whole() -> None:
    def row(kind: str, name: str, **rest: Any) -> dict[str, Any]:
        return {kind: {"family": "netdev", "name": name, "table": "nft_dsr", "handle": 1, **rest}}

    slots: dict[str, Any] = {"type": "integer", "map": "mark", "size": 512}
    flows: dict[str, Any] = {"type": ["ipv4_addr", "inet_service", "inet_service"], "map": "mark", "flags": ["timeout"]}
    script = Script(
        {
            RULESET: [
                {"table": {"family": "netdev", "name": "nft_dsr", "handle": 2}},
                row("counter", "mine", packets=0, bytes=0),
                row("map", "slots_web", **slots),
                row("map", "flows_web", **flows),
                row("set", "guard_web", type="ether_addr"),
                row("set", "guard_web", table="other", type="mark"),
                row("flowtable", "fast", table="other"),
                row("chain", "vip_web"),
                {"rule": {"family": "netdev", "table": "nft_dsr", "chain": "vip_web", "handle": 9, "expr": []}},
            ],
            BYTE_CODE: LISTED,
            "nft -n -j list map netdev nft_dsr slots_web": [row("map", "slots_web", **slots, elem=[[0, 172818453]])],
            "nft -n -j list set netdev nft_dsr guard_web": [row("set", "guard_web", type="ether_addr")],
        }
    )
    table = Kernel(script).read()
    assert table.present
    assert table.foreign == [("counter", "mine")]
    assert table.maps == {
        "slots_web": KernelMap("map", Spec(("integer",), "mark", 512)),
        "flows_web": KernelMap(
            "map", Spec(("ipv4_addr", "inet_service", "inet_service"), "mark", flags=frozenset({"timeout"}))
        ),
        "guard_web": KernelMap("set", Spec(("ether_addr",), None)),
    }
    assert set(table.chains) == {"syn_api", "vip_web", "empty", "ingress_eth0"}
    assert table.chains["ingress_eth0"].hook == Hook.of_device("eth0")
    assert len(table.chains["vip_web"].code) == 2 and table.chains["empty"].code == ()
    assert table.elements == {"slots_web": {"0": "0x0a4d0015"}, "guard_web": {}}
    assert not any("flows_web" in line for line in script.asked), "a million flows are not listed to compare rules"


def test_no_table_is_none_and_asks_nothing_more() -> None:
    script = Script({RULESET: []})
    table = Kernel(script).read()
    assert (table.present, table.maps, table.chains) == (False, {}, {}) and len(script.asked) == 1


def test_many_maps_are_listed_at_once_and_read_the_same() -> None:
    nft = MemoryNft()
    nft.load("table netdev nft_dsr\ntable netdev other\nadd set netdev other s1 { type ether_addr; }")
    nft.load("\n".join(f"add set netdev nft_dsr s{number} {{ type ether_addr; }}" for number in range(70)))
    nft.load("add element netdev nft_dsr s3 { 02:00:00:00:00:01 }")
    read = Kernel(nft).read()
    assert len(read.maps) == 70 and read.elements["s3"] == {"02:00:00:00:00:01": ""} and read.elements["s4"] == {}
    assert set(read.elements) == set(read.maps)


@pytest.mark.parametrize("line", ["\t\tcounter", "\t\tcounter\n\t\telements = {"])
def test_whether_elements_count_is_read_from_the_text(line: str) -> None:
    """The JSON of nft 1.0.2 does not tell, nor do other versions tell of a map without elements."""
    listing = (
        "table netdev nft_dsr {\n\tmap a {\n\t\ttype mark : mark\n\t}\n"
        f"\tmap b {{\n\t\ttype mark : mark\n{line}\n\t}}\n\tcounter mine {{\n\t\tpackets 0 bytes 0\n\t}}\n"
        "\tchain c {\n\t\tcounter packets 0 bytes 0 drop\n\t\tcounter packets 0 bytes 0\n\t}\n}\n"
        "table netdev other {\n\tmap x {\n\t\tcounter\n\t}\n}\n"
    )
    assert kernel._counting(listing, "nft_dsr") == ["b"]


def test_some_maps_are_read_alone_with_what_they_count() -> None:
    nft = MemoryNft()
    nft.load("table netdev nft_dsr")
    for name in ("s1", "s2"):
        nft.load(f"add map netdev nft_dsr {name} {{ type mark : ether_addr; counter; }}")
        nft.load(f"add element netdev nft_dsr {name} {{ 0x00000001 counter packets 7 bytes 700 : 02:00:00:00:00:01 }}")
    read = Kernel(nft)
    table = KernelTable(
        True, {name: KernelMap("map", Spec(("mark",), "ether_addr", counter=True)) for name in ("s1", "s2")}
    )
    read.read_elements(table, {"s2"})
    assert table.elements == {"s2": {"0x00000001": "02:00:00:00:00:01"}}
    assert table.counters == {"s2": {"0x00000001": Counter(7, 700)}}


def test_a_transaction_is_checked_and_changes_nothing() -> None:
    nft = MemoryNft()
    nft.load("table netdev nft_dsr\nadd set netdev nft_dsr s { type ether_addr; }")
    before, generation = nft.table.contents(), nft.generation
    Kernel(nft).check("delete set netdev nft_dsr s\n")
    assert (nft.table.contents(), nft.generation) == (before, generation)
    with pytest.raises(CommandError, match="No such file or directory"):
        Kernel(nft).check("delete set netdev nft_dsr nothing\n")


def test_only_this_hosts_kernel_counts_its_transactions() -> None:
    assert Kernel(MemoryNft()).generation() is None, "with nft of another host the number of this one says nothing"
    assert Kernel(MemoryNft(), lambda: 7).generation() == 7


# -- what a ruleset compiles to


def test_a_ruleset_is_compiled_without_its_elements_and_under_another_name() -> None:
    parsed = model.parse_vip(vip(), "")
    table = render([ResolvedVip(parsed, "eth0", "eth0", {})], OWN)
    nft = MemoryNft()
    texts: list[Optional[str]] = []

    def runner(argv: Sequence[str], stdin: Optional[str] = None) -> Completed:
        texts.append(stdin)
        return nft(argv, stdin)

    codes = Kernel(runner).compile(table)
    assert {name: len(code) for name, code in codes.items()} == {
        name: len(chain.rules) for name, chain in table.chains.items()
    }
    assert texts[0] is not None and texts[0].startswith("table netdev nft_dsr_check {") and "elements" not in texts[0]
    assert nft.tables == {}, "compiling loads nothing"


def test_an_nft_that_shows_no_byte_code_is_an_error_and_no_match() -> None:
    parsed = model.parse_vip(vip(), "")
    table = render([ResolvedVip(parsed, "eth0", "eth0", {})], OWN)
    with pytest.raises(CommandError, match=r"did not show the byte code of the chain [a-z]+_[a-z]+"):
        Kernel(Script({"nft -c --debug=netlink -f -": ""})).compile(table)
    assert Kernel(Script({"nft -c --debug=netlink -f -": ""})).compile(Table({}, {})) == {}
