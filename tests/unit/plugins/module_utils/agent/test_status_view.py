# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person reads of a load balancer: words, numbers, and lines that are never too long."""

from __future__ import annotations

import re
from typing import Any, Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.dsr.layer2.plugins.module_utils.agent import status_view
from ansible_collections.dsr.layer2.plugins.module_utils.agent.status_view import Look, status_lines
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.agent.probing import health_check

B1, B2, B3 = "10.77.0.21", "10.77.0.22", "10.77.0.23"


def backend(address: str = B1, **changed: Any) -> dict[str, Any]:
    return {
        "address": address,
        "name": "",
        "mac": "02:d5:00:00:00:15",
        "weight": 1,
        "state": "up",
        "backup": False,
        "healthy": None,
        "cause": None,
        "since": None,
        "packets": 0,
        "bytes": 0,
        "flows": 0,
        **changed,
    }


def vip(name: str = "web", *backends: dict[str, Any], **changed: Any) -> dict[str, Any]:
    return {
        "name": name,
        "address": "10.77.0.100",
        "protocol": "tcp",
        "ports": ["80"],
        "scheduler": "source_hash",
        "health_check": None,
        "health_ignored": None,
        "backends": list(backends or [backend(B1), backend(B2)]),
        "packets": 0,
        "bytes": 0,
        "in_sync": not changed.get("differences"),
        "differences": [],
        **changed,
    }


def look(*vips: dict[str, Any], **changed: Any) -> Look:
    return Look(**{"vips": vips, "present": True, "agent": True, **changed})


def shown(seen: Look, before: Optional[Look] = None, rates: bool = False, width: int = 80) -> str:
    return "\n".join(status_lines(seen, before, rates, width))


# -- states

HERE = frozenset({("web", B1)})
WHY = {"cause": "connection refused", "since": "2026-11-23T16:00:00Z"}
SAID = "fails since 2026-11-23 16:00:00 UTC: connection refused"


@pytest.mark.parametrize(
    "what, changed, others, drained, said",
    [
        ("up", {}, [], {}, ("up", "")),
        ("healthy", {"healthy": True}, [], {}, ("up", "")),
        ("unhealthy", {"healthy": False}, [], {}, ("unhealthy", "fails its health check")),
        ("down", {"state": "down"}, [], {}, ("down", "down by configuration")),
        ("down, and its health is nobody's concern", {"state": "down", "healthy": False, "mac": None}, [], {}, "down"),
        (
            "down and drained",
            {"state": "down"},
            [],
            {"by_operator": HERE},
            ("down", "down by configuration; drained by an operator as well"),
        ),
        ("by an operator", {"state": "drain"}, [], {"by_operator": HERE}, ("draining", "drained by an operator")),
        (
            "by configuration",
            {"state": "drain"},
            [],
            {"by_configuration": HERE},
            ("draining", "drained by configuration"),
        ),
        (
            "by its weight",
            {"state": "drain", "weight": 0},
            [],
            {"by_configuration": HERE},
            ("draining", "drained by configuration (weight 0)"),
        ),
        (
            "by both",
            {"state": "drain"},
            [],
            {"by_configuration": HERE, "by_operator": HERE},
            ("draining", "drained by configuration and by an operator"),
        ),
        (
            "drained elsewhere is not here",
            {"state": "drain"},
            [],
            {"by_operator": frozenset({("api", B1), ("web", B2)}), "by_configuration": HERE},
            ("draining", "drained by configuration"),
        ),
        (
            "drained and unhealthy",
            {"state": "drain", "healthy": False},
            [],
            {"by_operator": HERE},
            ("unhealthy", "fails its health check; drained by an operator"),
        ),
        ("failing", {"healthy": False, **WHY}, [], {}, ("unhealthy", SAID)),
        (
            "failing and drained",
            {"state": "drain", "healthy": False, **WHY},
            [],
            {"by_operator": HERE},
            ("unhealthy", f"{SAID}; drained by an operator"),
        ),
        ("failing and ignored", {"healthy": True, **WHY}, [], {}, ("up", SAID)),
        (
            "failing, ignored and drained",
            {"state": "drain", "healthy": True, **WHY},
            [],
            {"by_operator": HERE},
            ("draining", f"drained by an operator; {SAID}"),
        ),
        (
            "what a server said is of one line",
            {"healthy": False, **WHY, "cause": "a\x1b[2Jb\nc"},
            [],
            {},
            ("unhealthy", "fails since 2026-11-23 16:00:00 UTC: a?[2Jb?c"),
        ),
        ("no MAC", {"mac": None}, [], {}, ("no MAC", "no MAC known: it did not answer ARP or neighbour discovery")),
        (
            "a backup",
            {"backup": True},
            [backend(B2)],
            {},
            ("waiting", "backup, waits until nobody of the pool can serve"),
        ),
        (
            "a backup of a pool that is gone",
            {"backup": True},
            [backend(B2, healthy=False), backend(B3, state="drain"), backend("10.77.0.24", mac=None)],
            {},
            ("up", "backup, serves as nobody of the pool can"),
        ),
        (
            "a backup beside another",
            {"backup": True},
            [backend(B2, state="down"), backend(B3, backup=True)],
            {},
            ("up", "backup, serves as nobody of the pool can"),
        ),
    ],
)
def test_the_state_of_a_backend(what: str, changed: Any, others: Any, drained: Any, said: Any) -> None:
    mine = backend(B1, **changed)
    state = status_view.state_of(vip("web", mine, *others), mine, look(**drained))
    assert (state if isinstance(said, tuple) else state[0]) == said, what


# -- numbers


@pytest.mark.parametrize(
    "count, text",
    [
        (0, "0"),
        (999, "999"),
        (1000, "1,000"),
        (9_999_999, "9,999,999"),
        (10_000_000, "10.0M"),
        (99_949_999, "99.9M"),
        (99_950_000, "100M"),
        (999_499_999, "999M"),
        (999_500_000, "1.00G"),
        (1_234_567_890, "1.23G"),
        (45_600_000_000_000, "45.6T"),
        (2**64 - 1, "18.4E"),
        (10**21, "1000E"),
    ],
)
def test_numbers(count: int, text: str) -> None:
    assert status_view.number(count) == text


@pytest.mark.parametrize(
    "before, after, seconds, per_second",
    [
        (100, 300, 2.0, 100.0),
        (100, 100, 2.0, 0.0),
        (None, 300, 2.0, None),
        (300, 100, 2.0, None),  # the counter began anew
        (100, 300, 0.0, None),
    ],
)
def test_rates(before: Optional[int], after: int, seconds: float, per_second: Optional[float]) -> None:
    assert status_view.rate(before, after, seconds) == per_second


# -- lines


def test_all_of_it() -> None:
    web = vip(
        "web",
        backend("10.77.0.103", name="b3", state="drain", mac="02:d5:00:00:00:67"),
        backend(B1, name="b1", weight=65535, flows=1234567, packets=23456789, healthy=True),
        backend(B2, name="b2", healthy=False),
        ports=["80", "8000-8100"],
        packets=123456,
        health_check={"type": "tcp"},
    )
    dns = vip("dns", backend(B1), address="10.77.0.102", protocol="any", ports=None)
    seen = look(web, dns, by_operator=frozenset({("web", "10.77.0.103")}))
    assert shown(seen).split("\n") == [
        "agent   runs",
        "kernel  in sync",
        "",
        "  BACKEND         STATE      MAC                WEIGHT      FLOWS  PACKETS",
        "web  10.77.0.100 tcp 80,8000-8100 source_hash           1,234,567  123,456",
        "  10.77.0.21  b1  up         02:d5:00:00:00:15  65,535  1,234,567    23.5M",
        "  10.77.0.22  b2  unhealthy  02:d5:00:00:00:15       1          0        0",
        "    fails its health check",
        "  10.77.0.103 b3  draining   02:d5:00:00:00:67       1          0        0",
        "    drained by an operator",
        "dns  10.77.0.102 any source_hash                                0        0",
        "  10.77.0.21      up         02:d5:00:00:00:15       1          0        0",
    ]


def test_why_it_fails_takes_the_lines_that_it_needs() -> None:
    cause = "no answer within 0.3 s after " + "GET /a/path/that/is/long " * 4
    pool = [backend(B1, healthy=True, cause=cause, since="2026-11-23T16:00:00Z"), backend(B2, healthy=True)]
    checked = {"health_check": {"type": "http", "min_healthy": 0.5}, "health_ignored": True}
    assert shown(look(vip("web", *pool, **checked))).split("\n")[4:] == [
        "web  10.77.0.100 tcp 80 source_hash                 0        0",
        "    health is ignored and all serve, as less than 50% of the pool is healthy",
        "  10.77.0.21  up     02:d5:00:00:00:15       1      0        0",
        "    fails since 2026-11-23 16:00:00 UTC: no answer within 0.3 s after GET",
        "    /a/path/that/is/long GET /a/path/that/is/long GET /a/path/that/is/long GET",
        "    /a/path/that/is/long",
        "  10.77.0.22  up     02:d5:00:00:00:15       1      0        0",
    ]


def test_addresses_stand_in_the_order_of_numbers() -> None:
    addresses = ["10.77.0.101", "10.77.0.21", "10.77.0.3"]
    text = shown(look(vip("web", *(backend(address) for address in addresses))))
    assert re.findall(r"^  (10\S+)", text, re.MULTILINE) == ["10.77.0.3", "10.77.0.21", "10.77.0.101"]


def test_packets_per_second() -> None:
    def at(seconds: float, *packets: int) -> Look:
        pool = [backend(B1, packets=packets[1]), backend(B2, packets=packets[2])]
        return look(vip("web", *pool, packets=packets[0]), at=seconds)

    before, now = at(10.0, 1000, 500, 700), at(12.0, 4001000, 503, 600)
    lines = shown(now, before, rates=True).split("\n")[3:]
    assert [line.split()[-1] for line in lines] == ["PKT/S", "2,000,000", "1.5", "-"]
    assert {len(line) for line in lines} == {len(lines[0])}
    first = shown(before, None, rates=True).split("\n")[3:]
    assert [line.split()[-1] for line in first] == ["PKT/S", "-", "-", "-"]
    other = look(vip("api", backend(B3, packets=5)), at=14.0)
    assert [line.split()[-1] for line in shown(other, now, rates=True).split("\n")[4:]] == ["-", "-"]


@pytest.mark.parametrize(
    "what, seen, said",
    [
        ("it runs", look(vip()), "agent   runs"),
        (
            "nobody needs it",
            look(vip(), agent=False),
            "agent   does not run; no health check is configured",
        ),
        (
            "somebody needs it",
            look(vip("api"), vip("web", health_check={"type": "tcp"}), agent=False),
            "agent   does not run: nobody checks the backends of web; start\n        nft-dsr-agent.service",
        ),
        (
            "many need it",
            look(*(vip(f"v{index}", health_check={"type": "tcp"}) for index in range(9)), agent=False),
            "nobody checks the backends of v0, v1, v2, v3 and 5 more;",
        ),
        ("in sync", look(vip()), "kernel  in sync\n"),
        (
            "it differs",
            look(vip("web", differences=["chain vip_web: rules differ", "map x: missing"])),
            "kernel  differs from what is configured:\n        chain vip_web: rules differ\n        map x: missing\n",
        ),
        (
            "what concerns all is said once",
            look(vip("web", differences=["the table is missing"]), vip("api", differences=["the table is missing"])),
            "configured:\n        the table is missing\n\n",
        ),
        (
            "much differs",
            look(vip("web", differences=[f"map m{index}: missing" for index in range(20)])),
            "        map m7: missing\n        and 12 more; nft-dsr verify has all\n\n",
        ),
        ("nothing is there", look(present=False), "kernel  in sync\n\nno VIP is configured"),
        (
            "a table that nobody wants",
            look(present=True),
            "        table netdev nft_dsr: not wanted, as no VIP is configured\n",
        ),
    ],
)
def test_the_agent_and_the_kernel(what: str, seen: Look, said: str) -> None:
    assert said in shown(seen), what


def test_a_long_text_of_what_differs_takes_several_lines() -> None:
    text = "the VIP 'web' uses the interface 'eth7',\nwhich this host does not have (any more); " * 2
    seen = look(vip("web", differences=[text]))
    lines = shown(seen).split("\n")[2:-5]
    assert " ".join(" ".join(lines).split()) == " ".join(text.split())
    assert all(line.startswith("        ") for line in lines)
    assert all(len(line) <= 80 for line in lines)


def test_long_names_and_addresses_are_cut_and_numbers_stand() -> None:
    addresses = [f"2001:db8:aaaa:bbbb:cccc:dddd:eeee:{index}111" for index in (1, 2)]
    pool = [backend(address, name=f"{'n' * 50}{index}", packets=123456) for index, address in enumerate(addresses)]
    text = shown(look(vip("w" * 31, *pool, address=addresses[0], packets=7654321)))
    lines = text.split("\n")[3:]
    assert {len(line) for line in lines} == {80}
    assert re.fullmatch(r"w{31}  2001:\S*…     0 7,654,321", lines[1])
    assert re.fullmatch(r"  2001:\S*…\S*1111 n+… +up .* 123,456", lines[2])
    assert re.fullmatch(r"  2001:\S*…\S*2111 n+… +up .* 123,456", lines[3])


@pytest.mark.parametrize(
    "text, width, end, middle",
    [
        ("abcdef", 6, "abcdef", "abcdef"),
        ("abcdefg", 6, "abcde…", "ab…efg"),
        ("abcdefg", 5, "abcd…", "ab…fg"),
        ("abcdefg", 2, "a…", "a…"),
        ("abcdefg", 0, "", ""),
    ],
)
def test_cutting(text: str, width: int, end: str, middle: str) -> None:
    assert status_view.cut(text, width) == end
    assert status_view.cut_middle(text, width) == middle


_BACKENDS = st.builds(
    backend,
    st.sampled_from([B1, B2, "192.168.100.200", "fd00:77::1", "2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff"]),
    name=st.text("ab-.", max_size=63),
    mac=st.sampled_from([None, "02:d5:00:00:00:15"]),
    weight=st.sampled_from([0, 1, 65535]),
    state=st.sampled_from(["up", "drain", "down"]),
    healthy=st.sampled_from([None, True, False]),
    backup=st.booleans(),
    packets=st.integers(0, 2**64),
    flows=st.integers(0, 10**9),
)
_VIPS = st.builds(
    lambda name, pool, packets, ports: vip(name, *pool, packets=packets, ports=ports),
    st.text("abc_", min_size=1, max_size=31),
    st.lists(_BACKENDS, min_size=1, max_size=4),
    st.integers(0, 2**64),
    st.lists(st.sampled_from(["80", "8000-8100"]), min_size=1, max_size=30),
)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(vips=st.lists(_VIPS, max_size=3), rates=st.booleans(), agent=st.booleans(), width=st.integers(40, 140))
def test_no_line_is_too_long_and_colours_change_nothing(
    vips: list[dict[str, Any]], rates: bool, agent: bool, width: int
) -> None:
    seen = look(*vips, agent=agent)
    plain = status_lines(seen, None, rates, width)
    assert all(len(line) <= width and line == line.rstrip() for line in plain)
    painted = status_lines(seen, None, rates, width, lambda text, role: f"<{role}>{text}</>")
    assert [re.sub(r"</?\w*>", "", line) for line in painted] == plain


def test_colours_say_how_it_is() -> None:
    seen = look(vip("web", backend(B1), backend(B2, healthy=False)))
    text = "\n".join(status_lines(seen, None, False, 80, lambda text, role: f"<{role}>{text}</>"))
    assert "<good>up</>" in text and "<bad>unhealthy</>" in text and "<head>web</>" in text


# -- health checks


@pytest.mark.parametrize(
    "check, said",
    [
        (health_check("tcp", port=22, timeout=1), "tcp: a connection on port 22, within 1 s"),
        (
            health_check("tcp", port=22, timeout=0.5, expect="SSH\n"),
            "tcp: a connection on port 22, which is to begin with 'SSH\\n', within 0.5 s",
        ),
        (
            health_check("http", port=80, timeout=1, path="/up", host="www.example.net", status=[200], body="ok\nyes"),
            "http: GET /up on port 80, of the host www.example.net, status 200, a body that matches /ok?yes/, "
            "within 1 s",
        ),
        (
            health_check("https", port=443, timeout=1, sni="www.example.net", verify_tls=True),
            "https: GET / on port 443, by the TLS name www.example.net, with a certificate that holds, "
            "status 200-399, within 1 s",
        ),
        (
            health_check("dns", port=53, timeout=1, query="www.example.net/A", expect="192.0.2.1"),
            "dns: www.example.net/A on port 53, which is to be 192.0.2.1, within 1 s",
        ),
        (health_check("icmp", timeout=1), "icmp: a ping, within 1 s"),
        (health_check("exec", timeout=1, command=["/bin/a b", "-x"]), "exec: '/bin/a b' -x, within 1 s"),
    ],
)
def test_questions(check: Any, said: str) -> None:
    assert status_view.question(check) == said


@pytest.mark.parametrize(
    "check, said",
    [
        (health_check("tcp"), "through the VIP 10.77.0.100 by 02:d5:00:00:00:15"),
        (health_check("tcp", via="backend"), "at its own address"),
        (health_check("exec", command=["/bin/true"]), "by the command"),
    ],
)
def test_ways(check: Any, said: str) -> None:
    assert status_view.way(check, "02:d5:00:00:00:15") == said


@pytest.mark.parametrize(
    "outcome, said",
    [
        ((True, "", 0.00123, False), "ok, 1.2 ms"),
        ((False, "connection refused", 1.5, False), "FAILED, 1,500.0 ms: connection refused"),
        ((False, "this host: no NIC eth0", 0.0, True), "could not be asked, 0.0 ms: this host: no NIC eth0"),
    ],
)
def test_answers(outcome: tuple[bool, str, float, bool], said: str) -> None:
    assert status_view.answer(*outcome) == said
