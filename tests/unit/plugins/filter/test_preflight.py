# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The preflight on the controller: who is asked what, who sends what to whom, and the table."""

from __future__ import annotations

import re
import time
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.dsr.layer2.plugins.filter import preflight as filters
from ansible_collections.dsr.layer2.plugins.module_utils.common.command import Completed
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.kernel import Kernel
from ansible_collections.dsr.layer2.plugins.module_utils.preflight import nftables, offloads
from ansible_collections.dsr.layer2.plugins.plugin_utils import preflight

PAGE = Path(__file__).resolve().parents[4] / "docs" / "preflight.md"
GROUPS = {"dsr_load_balancers": ["lb"], "dsr_backends": ["b1", "b2"], "dsr_clients": ["client"]}
POOL = [{"address": "192.0.2.21", "name": "b1"}, {"address": "192.0.2.22", "name": "b2"}]
WEB = {"name": "web", "address": "192.0.2.100", "ports": ["80"], "backends": POOL}
HOSTS = [{"name": f"b{number}", "own_addresses": [f"192.0.2.2{number}"]} for number in (1, 2)]
MACS = {"lb": "02:00:00:00:00:02", "b1": "02:00:00:00:00:21", "b2": "02:00:00:00:00:22", "client": "02:00:00:00:00:10"}


def finding(result: str, check: str = "service", what: str = "it", do: str = "") -> dict[str, str]:
    return {"check": check, "result": result, "what": what, "do": do}


def everything() -> dict[str, dict[str, Any]]:
    """What a run registers where all is well."""
    nics = {host: {"nics": {"eth0": {"mac": mac, "mtu": 1500}}, "holds": []} for host, mac in MACS.items()}
    facts: dict[str, dict[str, Any]] = {
        "lb": {
            **nics["lb"],
            "sources": {"192.0.2.21": "192.0.2.2", "192.0.2.22": "192.0.2.2"},
            "answers": {},
            "pools": [{"interface": "eth0", "backend_interface": "eth0"}],
            "backends": {
                f"192.0.2.2{number}": {"interface": "eth0", "mac": MACS[f"b{number}"], "in_service": True}
                for number in (1, 2)
            },
        },
        "client": {**nics["client"], "sources": {"192.0.2.100": "192.0.2.10"}},
    }
    facts.update({host: {**nics[host], "interface": "eth0", "forwards": []} for host in ("b1", "b2")})
    heard = {
        "lb": [],
        "b1": [("lb", ["192.0.2.2 > 192.0.2.100", "192.0.2.2 > 192.0.2.21"])],
        "b2": [("lb", ["192.0.2.2 > 192.0.2.100", "192.0.2.2 > 192.0.2.22"])],
        "client": [
            (f"b{number}", ["192.0.2.100 > 192.0.2.10", f"192.0.2.2{number} > 192.0.2.10"]) for number in (1, 2)
        ],
    }
    return {
        host: {
            "__dsr_preflight": {"findings": [finding("ok")], "facts": facts[host]},
            "__dsr_listening": {"listening": True},
            "__dsr_sent": {"sent": 2, "problems": []},
            "__dsr_heard": {
                "heard": [{"interface": "eth0", "sender": who, "packets": packets} for who, packets in heard[host]]
            },
        }
        for host in MACS
    }


def asked(*vips: dict[str, Any], **more: Any) -> dict[str, Any]:
    return filters.preflight_questions(list(vips) or [WEB], HOSTS, {"lb": more}, GROUPS)


def told(hosts: dict[str, dict[str, Any]], *vips: dict[str, Any], **groups: Any) -> list[tuple[str, str, str, str]]:
    """Rows that are not ok."""
    run = preflight.Run(asked(*vips), hosts, {**GROUPS, **groups})
    return [(row.check, row.host, row.result, row.what) for row in preflight.rows(run) if row.result != "ok"]


# --- questions


def test_each_host_is_asked_for_its_part() -> None:
    six = {"name": "six", "address": "2001:DB8::0:100", "backends": [{"address": "192.0.2.22", "state": "drain"}]}
    found = asked(WEB, {**WEB, "name": "api", "address": "192.0.2.101"}, six, dsr_interface="eth1")
    web, alone = found["lb"]
    assert [vip["name"] for vip in web["vips"]] == ["web", "api"]  # one pool, not two
    assert (web["interface"], web["backend_interface"]) == ("eth1", "eth1")
    assert alone["vips"][0]["address"] == "2001:db8::100" and not alone["backends"][0]["in_service"]
    assert [[one["name"] for one in pool["backends"]] for pool in found["b1"]] == [["b1"]]
    assert len(found["b2"]) == 2
    assert found["client"] == [{"vips": pool["vips"]} for pool in found["lb"]]


@pytest.mark.parametrize(
    "wrong",
    ["web", {}, {"name": "web"}, {**WEB, "address": "x"}, {**WEB, "backends": "all"}, {**WEB, "backends": [{}]},
     {**WEB, "ports": ["http"]}],
)  # fmt: skip
def test_what_is_no_vip_is_left_to_the_modules(wrong: Any) -> None:
    assert filters.preflight_pools([wrong]) == []


def test_a_thousand_vips_of_a_hundred_backends_are_one_question() -> None:
    pool = [{"address": f"10.0.0.{number}", "name": f"b{number}"} for number in range(1, 101)]
    vips = [{**WEB, "name": f"v{n}", "address": f"10.1.{n // 250}.{n % 250}", "backends": pool} for n in range(1000)]
    (found,) = filters.preflight_pools(vips)
    assert (len(found["vips"]), len(found["backends"])) == (1000, 100)


def test_a_thousand_vips_of_a_hundred_backends_are_judged_in_seconds() -> None:
    names = [f"b{number}" for number in range(1, 101)]
    pool = [{"address": f"10.0.0.{number}", "name": name} for number, name in enumerate(names, 1)]
    vips = [{**WEB, "name": f"v{n}", "address": f"10.1.{n // 250}.{n % 250}", "backends": pool} for n in range(1000)]
    known = [{"name": one["name"], "own_addresses": [one["address"]]} for one in pool]
    groups = {**GROUPS, "dsr_backends": names}
    began = time.monotonic()
    questions = filters.preflight_questions(vips, known, {"lb": {}}, groups)
    hosts = everything()
    facts = hosts["lb"]["__dsr_preflight"]["facts"]
    facts["sources"] = {one["address"]: "10.0.0.200" for one in pool}
    facts["backends"] = {one["address"]: {"interface": "eth0", "mac": MACS["b1"], "in_service": True} for one in pool}
    client = hosts["client"]["__dsr_heard"]["heard"] = []
    for name, one in zip(names, pool):
        packets = [f"10.0.0.200 > {address}" for address in (one["address"], *(vip["address"] for vip in vips))]
        hosts[name] = {
            **hosts.get(name, deepcopy(hosts["b1"])),
            "__dsr_heard": {"heard": [{"interface": "eth0", "sender": "lb", "packets": packets}]},
        }
        sent = [f"{address} > 192.0.2.10" for address in (one["address"], *(vip["address"] for vip in vips))]
        client.append({"interface": "eth0", "sender": name, "packets": sent})
    frames = filters.preflight_frames(questions, hosts, groups)
    assert len(frames["lb"]) == 100 and len(frames["b7"][0]["sources"]) == 1001
    found = filters.preflight_table(questions, hosts, groups)
    assert [row for row in found["rows"] if row["result"] != "ok"] == []
    assert len(found["table"]) < 20
    assert time.monotonic() - began < 60


def test_addresses_alone_are_a_question_too() -> None:
    assert filters.preflight_addresses(["192.0.2.100", "2001:DB8::1", "192.0.2.100/32", None]) == [
        {"vips": [{"address": "192.0.2.100", "protocol": "any"}, {"address": "2001:DB8::1", "protocol": "any"}]}
    ]
    assert filters.preflight_addresses([]) == filters.preflight_addresses("192.0.2.100") == []


def test_who_sends_what() -> None:
    hosts = everything()

    def sent(name: str) -> Any:
        return filters.preflight_frames(asked(), hosts, GROUPS).get(name, [])

    assert sent("lb") == [
        {
            "sources": ["192.0.2.2"],
            "destinations": [f"192.0.2.2{number}", "192.0.2.100"],
            "mac": MACS[f"b{number}"],
            "interface": "eth0",
        }
        for number in (1, 2)
    ]
    (one,) = sent("b1")
    assert (one["sources"], one["destinations"], one["mac"]) == (["192.0.2.21", "192.0.2.100"], ["192.0.2.10"], "")
    assert sent("client") == []
    # Nobody listens at the client: the load balancer hears it.
    hosts["client"]["__dsr_listening"] = {"failed": False, "msg": "no"}
    assert sent("b1")[0]["destinations"] == ["192.0.2.2"]
    hosts["b2"]["__dsr_listening"] = {"failed": False, "msg": "no"}
    assert [one["mac"] for one in sent("lb")] == [MACS["b1"]]


# --- judging


def test_all_is_well() -> None:
    assert told(everything()) == []
    found = filters.preflight_table(asked(), everything(), GROUPS)
    assert found["failed"] == [] and found["table"][-1] == "0 FAILED, 0 warning, 0 not tested, 10 ok"


def test_frames_that_do_not_arrive() -> None:
    hosts = everything()
    hosts["b1"]["__dsr_heard"]["heard"][0]["packets"] = ["192.0.2.2 > 192.0.2.21"]
    hosts["client"]["__dsr_heard"]["heard"][1]["packets"] = ["192.0.2.22 > 192.0.2.10"]
    assert told(hosts) == [
        (
            "frames",
            "b1",
            "FAILED",
            "to the VIPs from lb: the network drops what is to 192.0.2.100, and lets the same pass without a VIP",
        ),
        (
            "frames",
            "b2",
            "FAILED",
            "as the VIPs to client: the network drops what is from 192.0.2.100, and lets the same pass without a VIP",
        ),
    ]


def test_a_filter_of_port_9_is_told_from_one_of_addresses() -> None:
    hosts = everything()
    hosts["b1"]["__dsr_heard"]["heard"] = []
    ((check, host, result, what),) = told(hosts)
    assert (check, host, result) == ("frames", "b1", "not tested")
    assert "not even a datagram to UDP port 9 without a VIP (192.0.2.2 > 192.0.2.21) arrives" in what
    # A frame of another backend in the name of the same VIP is not this one's.
    hosts = everything()
    hosts["client"]["__dsr_heard"]["heard"] = hosts["client"]["__dsr_heard"]["heard"][:1]
    assert [row[:3] for row in told(hosts)] == [("frames", "b2", "not tested")]


def test_what_could_not_be_asked() -> None:
    hosts = everything()
    hosts["b1"] = {}
    hosts["b2"]["__dsr_preflight"] = {"msg": "MODULE FAILURE\nSee stdout"}
    hosts["b2"]["ansible_facts"] = {"python_version": "3.8.10"}
    found = told(hosts)
    assert ("host", "b1", "not tested", "not reached, or outside the limit") in found
    assert ("host", "b2", "FAILED", "Python 3.8.10 is too old") in found
    nobody = told({**everything(), "client": {}})
    assert ("frames", "-", "not tested") in [row[:3] for row in nobody]


@pytest.mark.parametrize("by", ["operator", "inventory"])
def test_a_backend_out_of_service_does_not_fail(by: str) -> None:
    hosts = everything()
    hosts["b1"]["__dsr_preflight"]["findings"] = [finding("FAILED")]
    vip = deepcopy(WEB)
    assert told(hosts, vip) == [("service", "b1", "FAILED", "it")]
    if by == "operator":
        hosts["lb"]["__dsr_preflight"]["facts"]["backends"]["192.0.2.21"]["in_service"] = False
    else:
        vip["backends"][0]["state"] = "down"  # type: ignore[index]
        hosts["lb"]["__dsr_preflight"]["facts"]["backends"] = {}
        hosts["lb"]["__dsr_preflight"]["facts"]["answers"] = {}
    assert ("service", "b1", "warning", "it (out of service)") in told(hosts, vip)


def duplicate(mac: str, holds: bool = False, **groups: Any) -> list[tuple[str, str, str, str]]:
    hosts = everything()
    hosts["lb2"] = deepcopy(hosts["lb"])
    hosts["lb2"]["__dsr_preflight"]["facts"]["nics"]["eth0"]["mac"] = "02:00:00:00:00:03"
    hosts["lb2"]["__dsr_preflight"]["facts"]["holds"] = ["192.0.2.100"]
    hosts["lb"]["__dsr_preflight"]["facts"]["answers"] = {"192.0.2.100": [mac]}
    hosts["lb"]["__dsr_preflight"]["facts"]["holds"] = ["192.0.2.100"] if holds else []
    run = preflight.Run(asked(), hosts, {**GROUPS, "dsr_load_balancers": ["lb", "lb2"], **groups})
    return [tuple(row)[:4] for row in preflight._duplicates(run) if row.what.find("beside") < 0]  # type: ignore[misc]


def test_who_else_answers() -> None:
    answers = "answers ARP for the VIP 192.0.2.100"
    assert duplicate(MACS["b2"]) == [("address", "lb", "FAILED", f"b2 ({MACS['b2']}) {answers}")]
    assert duplicate(MACS["client"]) == [("address", "lb", "FAILED", f"client ({MACS['client']}) {answers}")]
    stranger = "02:00:00:00:00:99"
    assert duplicate(stranger) == [("address", "lb", "FAILED", f"somebody ({stranger}) {answers}")]
    # Of two load balancers the other one may have it, but not both.
    assert duplicate("02:00:00:00:00:03") == [("address", "lb", "ok", "lb2 holds 192.0.2.100")]
    assert duplicate("02:00:00:00:00:03", holds=True) == [
        ("address", "lb", "FAILED", f"lb2 (02:00:00:00:00:03) {answers} as well")
    ]


@pytest.mark.parametrize(
    ("lb", "backend", "client", "result", "words"),
    [
        (1500, 1500, 9000, None, ""),
        (9000, 1500, 1500, "warning", "eth0 has 1500 and eth0 of lb 9000: larger frames are passed on and lost here"),
        (1500, 9000, 1500, "warning", "eth0 has 9000 and eth0 of lb only 1500, the dangerous way"),
        (1500, 9000, 9000, "FAILED", "; the client client has more than 1500"),
    ],
)
def test_mtus(lb: int, backend: int, client: int, result: Any, words: str) -> None:
    hosts = everything()
    for host, mtu in (("lb", lb), ("b1", backend), ("b2", lb), ("client", client)):
        hosts[host]["__dsr_preflight"]["facts"]["nics"]["eth0"]["mtu"] = mtu
    found = told(hosts)
    assert [row[:3] for row in found] == ([("mtu", "b1", result)] if result else [])
    assert all(words in row[3] for row in found)


def test_a_backend_that_forwards_what_it_does_not_hold() -> None:
    hosts = everything()
    hosts["b1"]["__dsr_preflight"]["facts"]["forwards"] = [4, 6]
    assert told(hosts) == []  # nobody sends it anything yet
    hosts["lb"]["__dsr_preflight"]["facts"]["holds"] = ["192.0.2.100"]
    assert [row[:3] for row in told(hosts)] == [("sysctl", "b1", "warning")]
    hosts["b1"]["__dsr_preflight"]["facts"]["holds"] = ["192.0.2.100"]
    assert told(hosts) == []


def test_the_table_is_compact() -> None:
    many = [preflight.Row("service", f"backend{number}", "warning", "nobody listens", "do it") for number in range(4)]
    fine = [preflight.Row("frames", f"backend{number}", "ok", "pass") for number in range(100)]
    long = preflight.Row("frames", "b1", "FAILED", "the network drops it", preflight.KNOBS)
    lines = preflight.table([*many, *fine, long, long._replace(host="b2", what="another")])
    assert lines[:3] == [
        "CHECK     HOST             RESULT     WHAT, AND WHAT TO DO",
        "frames    b1               FAILED     the network drops it",
        "                                      > let them pass: allowed address pairs with the VIPs (OpenStack),",
    ]
    assert "                                      > the same as above" in lines
    assert "frames    100 hosts        ok         pass" in lines
    assert lines[-5:-1] == [
        "service   backend0,        warning    nobody listens",
        "          backend1,                   > do it",
        "          backend2,",
        "          backend3",
    ]
    assert lines[-1] == "2 FAILED, 4 warning, 0 not tested, 100 ok"
    assert max(map(len, lines)) <= 120


# --- the page


def test_the_page_shows_what_is_printed() -> None:
    """Of the checks that a lab has nothing for: an old nft, an old Python, LRO. tests/playbooks holds the others."""
    hosts = everything()
    hosts["b3"] = {}
    hosts["b2"] = {"__dsr_preflight": {"msg": "MODULE FAILURE"}, "ansible_facts": {"python_version": "3.8.10"}}

    def runner(argv: Any, text: Any) -> Completed:
        return Completed(tuple(argv), 0, "nftables v0.9.3 (Topsy)\n", "")

    own = [
        *nftables.judge(True, Kernel(runner), lambda name: f"/usr/sbin/{name}"),
        *offloads.judge({"eth0": True}),
    ]
    hosts["lb"]["__dsr_preflight"]["findings"] = [one.row() for one in own]
    run = preflight.Run(asked(), hosts, {**GROUPS, "dsr_backends": ["b1", "b2", "b3"]})
    printed = preflight.table(preflight.rows(run))
    blocks = re.findall(r"^```text\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    mine = [block.splitlines() for block in blocks if re.match("(host|nftables|lro) ", block)]
    assert len(mine) == 3
    for lines in mine:
        assert lines == [line for line in printed if line in lines], lines
    # The knobs, and every check, are on the page.
    page = " ".join(PAGE.read_text(encoding="utf-8").split())
    assert preflight.KNOBS in page
    assert all(f"[`{check}`](#" in page for check in preflight.CHECKS)
