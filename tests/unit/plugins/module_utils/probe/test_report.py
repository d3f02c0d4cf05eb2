# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From connections to figures and to one clear message."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.dsr.layer2.plugins.module_utils.probe import report
from ansible_collections.dsr.layer2.plugins.module_utils.probe.report import Attempt, Path
from ansible_collections.dsr.layer2.plugins.module_utils.probe.request import Request

LB, B1, B2, B3 = (f"02:d5:00:00:00:{last}" for last in ("02", "15", "16", "17"))


def request(through: Optional[str] = None, protocol: str = "tcp", address: str = "10.77.0.100") -> Request:
    return Request(ip_address(address), 80, protocol, 3, 2.0, None, True, None, through, b"")


def path(lb_mac: Optional[str] = LB, **changed: Any) -> Path:
    return Path(
        **{
            "interface": "eth0",
            "lb_mac": lb_mac,
            "arp_macs": (LB,),
            "gateway": None,
            "sent_to": LB,
            **changed,
        }
    )


def answered(*macs: str, rtt: float = 1.0, port: int = 40000) -> Attempt:
    return Attempt(port, macs, rtt, "")


def failed(cause: str = "without an answer within 2 s", *macs: str) -> Attempt:
    return Attempt(40000, macs, None, cause)


def test_figures_per_backend() -> None:
    attempts = [answered(B2, rtt=3.0), answered(B1, rtt=1.0), answered(B2, rtt=1.0), answered(B2, rtt=2.0), failed()]
    figures = report.figures(request(), path(), attempts)
    assert figures["backends"] == [
        {"mac": B1, "connections": 1, "direct": True, "rtt_ms": {"min": 1.0, "median": 1.0, "max": 1.0}},
        {"mac": B2, "connections": 3, "direct": True, "rtt_ms": {"min": 1.0, "median": 2.0, "max": 3.0}},
    ]
    assert (figures["answered"], figures["unanswered"], figures["direct"], figures["through_lb"]) == (4, 1, 4, 0)
    assert figures["failures"] == [{"cause": "without an answer within 2 s", "connections": 1}]
    assert "failed" not in figures, "that word is Ansible's"


def test_figures_per_connection() -> None:
    figures = report.figures(request(), path(), [answered(B1, B2, port=1), answered(LB, port=2), failed("refused", B1)])
    assert figures["connections"] == [
        {"source_port": 1, "mac": B1, "macs": [B1, B2], "direct": True, "rtt_ms": 1.0, "error": None},
        {"source_port": 2, "mac": LB, "macs": [LB], "direct": False, "rtt_ms": 1.0, "error": None},
        {"source_port": 40000, "mac": B1, "macs": [B1], "direct": None, "rtt_ms": None, "error": "refused"},
    ]


def test_failures_come_by_number() -> None:
    attempts = [failed("b"), failed("a"), failed("c"), failed("c")]
    causes = report.figures(request(), path(), attempts)["failures"]
    assert [entry["cause"] for entry in causes] == ["c", "a", "b"]


@pytest.mark.parametrize(
    "what, asked, way, attempts, said",
    [
        ("all is well", request(), path(), [answered(B1), answered(B2), answered(B2)], ""),
        (
            "one through the load balancer",
            request(),
            path(),
            [answered(B1), answered(LB), answered(B2)],
            f"1 of 3 connections to 10.77.0.100:80/tcp were answered through the load balancer (MAC {LB}), not directly"
            " by a backend",
        ),
        (
            "some packets of one through it",
            request(),
            path(),
            [answered(B1, LB)],
            "1 of 1 connections to 10.77.0.100:80/tcp were answered through the load balancer",
        ),
        (
            "a gateway",
            request(),
            path(gateway="10.77.0.1"),
            [answered(LB)],
            "the route to 10.77.0.100 goes by 10.77.0.1, which has that MAC; if it is a router",
        ),
        (
            "none answered",
            request(),
            path(),
            [failed(), failed(), failed(f"refused (TCP RST) by {B1}", B1)],
            "none of 3 connections to 10.77.0.100:80/tcp was answered: 2 without an answer within 2 s, 1 refused (TCP"
            f" RST) by {B1}",
        ),
        (
            "one unanswered",
            request(protocol="udp"),
            path(),
            [answered(B1), failed(), answered(B1)],
            "1 of 3 datagrams to 10.77.0.100:80/udp were not answered: 1 without an answer within 2 s",
        ),
        (
            "many causes",
            request(),
            path(),
            [failed(cause) for cause in "abcdefa"],
            "answered: 2 a, 1 b, 1 c, 3 for other causes",
        ),
        (
            "several backends for one connection",
            request(),
            path(),
            [answered(B1, B2), answered(B1)],
            f"1 of 2 connections to 10.77.0.100:80/tcp got replies from several MACs ({B1}, {B2})",
        ),
        (
            "replies on another NIC",
            request(),
            path(),
            [answered(), answered(B1)],
            "the reply frames of 1 of 2 connections to 10.77.0.100:80/tcp did not come in on eth0",
        ),
        (
            "an unknown load balancer",
            request(),
            path(None, arp_macs=(), sent_to=None),
            [answered(B1)],
            "nobody answers ARP for 10.77.0.100 on eth0; give lb_mac",
        ),
        (
            "no load balancer",
            request(),
            path(None, arp_macs=(), sent_to=None),
            [failed()],
            "nobody answers ARP for 10.77.0.100 on eth0; is that address on its NIC?",
        ),
        (
            "two that answer ARP",
            request(),
            path(None, arp_macs=(LB, B1)),
            [answered(B1)],
            f"several hosts answer ARP for 10.77.0.100 ({LB}, {B1})",
        ),
        (
            "two that answer for an IPv6 address",
            request(address="fd00:77::100"),
            path(None, arp_macs=(LB, B1)),
            [answered(B1)],
            f"several hosts answer neighbour solicitations for fd00:77::100 ({LB}, {B1}), so packets may not go to the"
            " load balancer; one of them may be a backend that holds the VIP on its NIC and not on lo",
        ),
        (
            "two that answer ARP for the gateway, the load balancer given",
            request(),
            path(arp_macs=(LB, B1), gateway="10.77.0.1"),
            [answered(B2)],
            f"several hosts answer ARP for 10.77.0.1 ({LB}, {B1})",
        ),
        (
            "an old neighbour entry",
            request(),
            path(sent_to=B1),
            [answered(B1)],
            f"this host sent the packets to {B1}, by an old neighbour entry: now {LB} answers ARP for 10.77.0.100;"
            " delete the entry (ip neighbour del 10.77.0.100 dev eth0)",
        ),
        ("through one backend", request(B1), path(None, arp_macs=(), sent_to=None), [answered(B1)], ""),
        (
            "through one, answered by another",
            request(B1),
            path(),
            [answered(B1), answered(B2), answered(B1, B3)],
            f"2 of 3 connections to 10.77.0.100:80/tcp sent to {B1} were answered by {B2}, {B3}: the host with that"
            " MAC",
        ),
        (
            "through one, answered by the load balancer",
            request(B1),
            path(),
            [answered(LB)],
            f"were answered through the load balancer (MAC {LB})",
        ),
    ],
)
def test_what_is_wrong_is_said(what: str, asked: Request, way: Path, attempts: list[Attempt], said: str) -> None:
    problem = report.problem(asked, way, attempts)
    if said:
        assert said in problem, what
    else:
        assert problem == "", what


@pytest.mark.parametrize("through", [None, B1])
def test_one_problem_one_sentence(through: Optional[str]) -> None:
    """What is told once is not told again in other words."""
    problem = report.problem(request(through), path(), [answered(LB), answered(LB)])
    assert problem.count(";") == 0
    assert problem.count("answered") == 1


attempt = st.one_of(
    st.lists(st.sampled_from([LB, B1, B2, B3]), max_size=3, unique=True).map(lambda macs: answered(*macs)),
    st.sampled_from(["refused", "timed out"]).map(failed),
)
# Whoever answers ARP alone is the load balancer; if nobody or several do, it is known only if it was given.
paths = st.builds(
    lambda known, sent_to: path(known[0], arp_macs=known[1], sent_to=sent_to),
    st.sampled_from([(LB, (LB,)), (LB, (B3,)), (B3, (B3,)), (LB, ()), (None, ()), (LB, (LB, B1)), (None, (LB, B1))]),
    st.sampled_from([None, LB, B1]),
)


@given(st.lists(attempt, min_size=1), paths, st.sampled_from([None, B1]))
def test_nothing_said_means_that_all_is_proven(attempts: list[Attempt], way: Path, through: Optional[str]) -> None:
    figures = report.figures(request(through), way, attempts)
    assert figures["answered"] + figures["unanswered"] == len(attempts)
    assert figures["direct"] + figures["through_lb"] <= figures["answered"]
    assert sum(entry["connections"] for entry in figures["failures"]) == figures["unanswered"]
    assert sum(entry["connections"] for entry in figures["backends"]) <= figures["answered"]
    if not report.problem(request(through), way, attempts):
        assert figures["direct"] == len(attempts)
        assert figures["through_lb"] == 0
        assert all(entry["direct"] for entry in figures["backends"])
