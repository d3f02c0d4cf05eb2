# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From connections that were kept open to figures and to one clear message."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from ansible_collections.dsr.layer2.plugins.module_utils.probe import held as telling
from ansible_collections.dsr.layer2.plugins.module_utils.probe.held import Answers, Clock, Held, Move, Outcome
from ansible_collections.dsr.layer2.plugins.module_utils.probe.report import Attempt, Path
from ansible_collections.dsr.layer2.plugins.module_utils.probe.request import Request

LB, B1, B2, B3 = (f"02:d5:00:00:00:{last}" for last in ("02", "15", "16", "17"))
PATH = Path("eth0", LB, (LB,), None, None)
CLOCK = Clock(1000.0, 0.0)  # monotonic 1000 was the first moment of 1970


def request(protocol: str = "tcp", **changed: Any) -> Request:
    first = (ip_address("10.77.0.100"), 80, protocol, 3, 2.0, None, True, None, None, b"")
    return Request(*first, **{"hold": 10.0, **changed})


def kept(*macs: str, gap: float = 0.2, gap_from: float = 1001.0) -> Held:
    moves = tuple(Move(source, target, 1002.0) for source, target in zip(macs, macs[1:]))
    return Held(Attempt(40000, macs, 1.0, ""), Outcome.HELD, "", None, macs[-1], moves, gap, gap_from)


def broken(mac: str, cause: str, when: float = 1003.0) -> Held:
    return Held(Attempt(40001, (mac,), 1.0, ""), Outcome.BROKEN, cause, when, mac, (), 0.1, 1001.0)


def closed(mac: str) -> Held:
    return Held(Attempt(40002, (mac,), 1.0, ""), Outcome.CLOSED, "", 1004.0, mac, (), 0.1, 1001.0)


UNANSWERED = Held(Attempt(40003, (), None, "without an answer within 2 s"))


def test_answers_tell_of_moves_and_of_the_longest_gap() -> None:
    answers = Answers()
    for mac, when in ((B1, 1.0), (B1, 1.2), (B2, 2.0), (B2, 2.1), (B1, 2.5)):
        answers.heard(mac, when)
    assert answers.moves == [Move(B1, B2, 2.0), Move(B2, B1, 2.5)]
    assert (round(answers.gap, 3), answers.gap_from, answers.mac, answers.last) == (0.8, 1.2, B1, 2.5)
    answers.silent_until(4.0)
    assert (answers.gap, answers.gap_from) == (1.5, 2.5)


def test_the_first_answer_ends_no_gap() -> None:
    answers = Answers()
    answers.silent_until(7.0)
    answers.heard(B1, 9.0)
    assert (answers.gap, answers.moves) == (0.0, [])


def test_an_answer_that_comes_late_to_notice_takes_nothing_back() -> None:
    answers = Answers()
    answers.heard(B1, 2.0)
    answers.heard(B1, 1.9)
    assert (answers.last, answers.gap) == (2.0, 0.0)


def test_figures() -> None:
    every = [
        kept(B1, gap=0.2),
        kept(B1, B2, gap=1.5, gap_from=1002.25),
        broken(B1, "reset by x", 1005.0),
        broken(B2, "reset by x", 1003.0),
        broken(B2, "reset by y"),
        closed(B2),
        UNANSWERED,
    ]
    figures = telling.figures(request(), PATH, every, CLOCK)
    assert (figures["answered"], figures["unanswered"]) == (6, 1)
    assert (figures["held"], figures["broken"], figures["closed"], figures["moved"]) == (2, 3, 1, 1)
    assert (figures["longest_gap_ms"], figures["longest_gap_at"]) == (1500.0, "1970-01-01T00:00:02.250Z")
    assert figures["hold_began"] == "1970-01-01T00:00:00.000Z"
    at = "1970-01-01T00:00:0{}.000Z".format
    assert figures["breaks"] == [
        {"cause": "reset by x", "connections": 2, "first_at": at(3), "last_at": at(5)},
        {"cause": "reset by y", "connections": 1, "first_at": at(3), "last_at": at(3)},
    ]
    assert figures["moves"] == [{"from": B1, "to": B2, "connections": 1, "first_at": at(2), "last_at": at(2)}]
    first, second = figures["backends"]
    of = ("mac", "connections", "held", "broken", "closed", "moved_away", "moved_here")
    assert [first[key] for key in of] == [B1, 3, 1, 1, 0, 1, 0]
    assert [second[key] for key in of] == [B2, 3, 1, 2, 1, 0, 1]
    told = figures["connections"]
    assert [entry["outcome"] for entry in told] == ["held"] * 2 + ["broken"] * 3 + ["closed", None]
    assert (told[2]["cause"], told[2]["ended_at"], told[5]["ended_at"]) == ("reset by x", at(5), at(4))
    assert (told[0]["cause"], told[0]["ended_at"], told[6]["longest_gap_ms"]) == (None, None, None)


def test_a_backend_that_was_nobodys_first_is_shown() -> None:
    figures = telling.figures(request("udp"), PATH, [kept(B1, B3)], CLOCK)
    entry = figures["backends"][1]
    assert (entry["mac"], entry["connections"], entry["rtt_ms"], entry["held"]) == (B3, 0, None, 1)
    assert entry["direct"] is True


def test_nothing_was_answered() -> None:
    figures = telling.figures(request(), PATH, [UNANSWERED], CLOCK)
    assert (figures["longest_gap_ms"], figures["longest_gap_at"], figures["held"]) == (None, None, 0)
    assert "none of 1 connections" in telling.problem(request(), PATH, [UNANSWERED])


@pytest.mark.parametrize(
    "changed, every, said",
    [
        ({}, [kept(B1), closed(B2)], ""),
        (
            {},
            [kept(B1), broken(B2, "reset by z")],
            "1 of 2 connections to 10.77.0.100:80/tcp that were kept open broke, and max_broken is 0: 1 reset by z",
        ),
        ({"max_broken": 1}, [kept(B1), broken(B2, "reset by z")], ""),
        (
            {"protocol": "udp"},
            [kept(B1, B2)],
            "1 of 1 flows to 10.77.0.100:80/udp that were kept open moved to another backend, and max_moved is 0:"
            f" 1 from {B1} to {B2}",
        ),
        ({"protocol": "udp", "max_moved": 1}, [kept(B1, B2)], ""),
        (
            {},
            [closed(B1)],
            "the service closed all 1 connections to 10.77.0.100:80/tcp before 10 s were over, so nothing is proven;"
            " hold for a shorter time, or give a payload upon which it keeps them open",
        ),
    ],
)
def test_what_is_a_problem(changed: dict[str, Any], every: list[Held], said: str) -> None:
    assert telling.problem(request(**changed), PATH, every) == said


def test_what_any_probe_finds_is_said_too() -> None:
    said = telling.problem(request(), PATH, [kept(LB), broken(LB, "reset by z")])
    assert "answered through the load balancer" in said and "broke, and max_broken is 0" in said
