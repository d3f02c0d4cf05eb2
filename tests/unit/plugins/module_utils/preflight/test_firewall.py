# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a firewall does with packets to the VIPs, from rules as nft prints them in JSON."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from ansible_collections.dsr.layer2.plugins.module_utils.preflight import firewall
from ansible_collections.dsr.layer2.plugins.module_utils.preflight.firewall import Packet, Ruleset
from ansible_collections.dsr.layer2.plugins.module_utils.preflight.request import Vip

ACCEPT, DROP = {"accept": None}, {"drop": None}
WEB = Vip("web", ip_address("192.0.2.100"), "tcp", ((80, 80),))


def match(left: dict[str, Any], right: Any, op: str = "==") -> dict[str, Any]:
    return {"match": {"op": op, "left": left, "right": right}}


def field(protocol: str, name: str, right: Any, op: str = "==") -> dict[str, Any]:
    return match({"payload": {"protocol": protocol, "field": name}}, right, op)


def meta(key: str, right: Any) -> dict[str, Any]:
    return match({"meta": {"key": key}}, right)


def state(*states: str) -> dict[str, Any]:
    return match({"ct": {"key": "state"}}, list(states) if len(states) > 1 else states[0], "in")


PORT_80 = field("tcp", "dport", 80)


def ruleset(*rules: list[Any], policy: str = "drop", family: str = "inet", **chains: list[list[Any]]) -> Ruleset:
    """A base chain called input with these rules, and other chains."""
    rows: list[dict[str, Any]] = [
        {"chain": {"family": family, "table": "f", "name": "input", "handle": 1, "type": "filter", "hook": "input",
                   "prio": 0, "policy": policy}},
        *({"chain": {"family": family, "table": "f", "name": name, "handle": 2}} for name in chains),
    ]  # fmt: skip
    for name, contents in {"input": list(rules), **chains}.items():
        rows += [
            {"rule": {"family": family, "table": "f", "chain": name, "handle": 10 + number, "expr": expr}}
            for number, expr in enumerate(contents)
        ]
    return Ruleset(rows)


def dropped(rules: Ruleset, **how: Any) -> Any:
    """The handle of the rule that drops, "policy", or None."""
    packet = Packet(**{"vip": WEB.address, "protocol": "tcp", "port": 80, "nic": "eth0", **how})
    drop = rules.dropped(packet)
    return None if drop is None else "policy" if drop.handle is None else drop.handle


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([], "policy"),
        ([[PORT_80, ACCEPT]], None),
        ([[field("tcp", "dport", 443), ACCEPT]], "policy"),
        ([[field("tcp", "dport", 80, "!="), ACCEPT]], "policy"),
        ([[field("udp", "dport", 80), ACCEPT]], "policy"),
        ([[field("tcp", "dport", {"set": [22, {"range": [79, 81]}]}), ACCEPT]], None),
        ([[field("tcp", "dport", {"set": [22, 443]}), ACCEPT]], "policy"),
        ([[field("th", "dport", 80), ACCEPT]], None),
        ([[field("tcp", "dport", "@ports"), ACCEPT]], None),  # who knows what is in there
        ([[field("ip", "saddr", "198.51.100.7"), ACCEPT]], None),  # some client may have it
        ([[field("ip", "daddr", {"prefix": {"addr": "192.0.2.0", "len": 24}}), ACCEPT]], None),
        ([[field("ip", "daddr", "192.0.2.21"), ACCEPT]], "policy"),
        ([[field("ip6", "daddr", "2001:db8::1"), ACCEPT]], "policy"),
        ([[meta("iifname", "lo"), ACCEPT]], "policy"),
        ([[meta("iifname", "eth*"), ACCEPT]], None),
        ([[meta("l4proto", 6), ACCEPT]], None),
        ([[state("established", "related"), ACCEPT]], "policy"),
        ([[state("established", "new"), ACCEPT]], None),
        ([[match({"ct": {"key": "status"}}, "dnat", "in"), ACCEPT]], "policy"),
        ([[{"counter": {"packets": 1, "bytes": 2}}, PORT_80, {"log": None}, DROP], [ACCEPT]], 10),
        ([[PORT_80, {"reject": {"type": "icmpx"}}], [PORT_80, ACCEPT]], 10),
        ([[PORT_80, {"limit": {"rate": 5, "per": "second"}}, DROP], [PORT_80, ACCEPT]], None),
        ([[PORT_80, {"limit": {"rate": 5, "per": "second"}}, ACCEPT]], None),
        ([[{"xt": None}, ACCEPT]], None),
        ([[PORT_80, {"jump": {"target": "more"}}]], None),
        ([[field("tcp", "dport", 443), {"jump": {"target": "more"}}]], "policy"),
        ([[{"goto": {"target": "less"}}], [ACCEPT]], 10),
        ([[{"jump": {"target": "back"}}], [PORT_80, ACCEPT]], None),
        ([[{"vmap": {"key": {"ct": {"key": "state"}}, "data": {"set": [["invalid", DROP], ["new", ACCEPT]]}}}]], None),
        ([[{"vmap": {"key": {"meta": {"key": "iifname"}}, "data": "@nics"}}]], None),
    ],
)  # fmt: skip
def test_a_packet_of_a_new_client(rules: list[list[Any]], expected: Any) -> None:
    chains = {"more": [[ACCEPT]], "less": [[PORT_80, DROP]], "back": [[PORT_80, {"return": None}], [DROP]]}
    assert dropped(ruleset(*rules, **chains)) == expected


def test_a_policy_that_accepts_and_a_rule_that_drops() -> None:
    assert dropped(ruleset(policy="accept")) is None
    assert dropped(ruleset([field("tcp", "dport", 80), DROP], policy="accept")) == 10
    assert dropped(ruleset([field("tcp", "dport", 80), DROP], policy="accept"), port=81) is None


def test_other_families_do_not_count() -> None:
    assert dropped(ruleset(family="ip6")) is None
    assert dropped(ruleset(family="ip6"), vip=ip_address("2001:db8::1")) == "policy"
    assert dropped(ruleset(family="bridge")) is None


def test_where_protocol_and_port_are_not_known_nothing_is_claimed_by_them() -> None:
    assert dropped(ruleset([PORT_80, ACCEPT]), protocol="", port=0) is None
    assert dropped(ruleset([PORT_80, DROP], policy="accept"), protocol="", port=0) is None
    assert dropped(ruleset([state("invalid"), DROP], policy="accept"), protocol="", port=0, state="invalid") == 10


def test_chains_that_jump_in_a_circle_end() -> None:
    assert dropped(ruleset([{"jump": {"target": "a"}}], a=[[{"jump": {"target": "a"}}]])) is None


def places(rules: Ruleset, *vips: Vip) -> dict[tuple[str, Any], list[str]]:
    found = firewall.places_of(rules, vips or (WEB,), "eth0")
    return {(state, drop.handle): services for (state, drop), services in found.items()}


def test_invalid_packets() -> None:
    rules = [state("established", "related"), ACCEPT], [state("invalid"), DROP], [PORT_80, ACCEPT]
    assert places(ruleset(*rules)) == {("invalid", 11): ["192.0.2.100 tcp 80"]}
    # The port is accepted whatever the state: nothing is lost.
    assert places(ruleset(rules[0], rules[2], rules[1])) == {}
    # Only new ones are accepted, so the policy takes the others.
    assert places(ruleset([state("new"), PORT_80, ACCEPT])) == {("invalid", None): ["192.0.2.100 tcp 80"]}
    vmap = {"vmap": {"key": {"ct": {"key": "state"}}, "data": {"set": [["established", ACCEPT], ["invalid", DROP]]}}}
    assert places(ruleset([vmap], [PORT_80, ACCEPT])) == {("invalid", 10): ["192.0.2.100 tcp 80"]}
    # Nobody tracks UDP by its segments.
    dns = Vip("dns", WEB.address, "udp", ((53, 53),))
    assert places(ruleset([state("invalid"), DROP], [field("udp", "dport", 53), ACCEPT]), dns) == {}


def test_what_is_said() -> None:
    rules = ruleset([state("invalid"), DROP], [PORT_80, ACCEPT])
    two = (WEB, Vip("api", ip_address("192.0.2.101"), "tcp", ((8000, 8100),)))
    found = firewall.places_of(rules, two, "eth0")
    texts = {drop: "ct state invalid drop" for _state, drop in found if drop.handle}
    said = [(one.result, one.what, one.do) for one in firewall.judge(found, texts, [])]
    assert [result for result, _what, _do in said] == ["warning", "warning"]
    assert said[0][1:] == (
        "the policy of the chain inet f input drops 192.0.2.101 tcp 8000-8100",
        "nft add rule inet f input ... accept",
    )
    assert said[1][1].startswith("the rule 'ct state invalid drop' of inet f input (handle 10) drops")
    assert [one.result for one in firewall.judge({}, {}, [])] == ["ok"]
    assert [one.what for one in firewall.judge({}, {}, [], "nft is not there")] == ["nft is not there"]


def test_firewalld_is_told_by_its_own_command() -> None:
    rows = [
        {"table": {"family": "inet", "name": "firewalld"}},
        {"chain": {"family": "inet", "table": "firewalld", "name": "filter_INPUT", "type": "filter", "hook": "input",
                   "prio": 10, "policy": "accept"}},
        {"rule": {"family": "inet", "table": "firewalld", "chain": "filter_INPUT", "handle": 7,
                  "expr": [{"reject": {"type": "icmpx", "expr": "admin-prohibited"}}]}},
    ]  # fmt: skip
    rules = Ruleset(rows)
    places = firewall.places_of(rules, [WEB], "eth0")
    (found,) = firewall.judge(places, {}, [], firewalld=("inet", "firewalld") in rules.tables)
    assert found.do == "firewall-cmd --permanent --add-port=PORT/tcp, and --reload"


LEGACY = """*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
-A INPUT -m conntrack --ctstate INVALID -j DROP
-A INPUT -p tcp -m tcp --dport 80 -j ACCEPT
COMMIT
*mangle
:INPUT ACCEPT [0:0]
-A PREROUTING -m conntrack --ctstate INVALID -j DROP
COMMIT
"""


def test_iptables_legacy() -> None:
    found = firewall.legacy_problems(LEGACY.splitlines())
    assert found == [
        ":INPUT DROP [0:0]",
        "-A INPUT -m conntrack --ctstate INVALID -j DROP",
        "-A PREROUTING -m conntrack --ctstate INVALID -j DROP",
    ]
    assert [one.result for one in firewall.judge({}, {}, LEGACY.splitlines())] == ["warning"] * 3
