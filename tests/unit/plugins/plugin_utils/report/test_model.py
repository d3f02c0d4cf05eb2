# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""VIPs and backends over all load balancers, and what is news of them."""

from __future__ import annotations

from typing import Any

import pytest
from browser.sites import AT, backend, balancer, failing, holder, probed, sick, small, vip

from ansible_collections.dsr.layer2.plugins.plugin_utils.report.model import (
    BAD,
    GOOD,
    IDLE,
    WARN,
    Answer,
    Gathered,
    Service,
    site_of,
)
from ansible_collections.dsr.layer2.plugins.plugin_utils.report.news import KINDS, headline, lines, news_of


def one(*views: dict[str, Any], **more: Any) -> Service:
    """The VIP that these load balancers have."""
    answers = [balancer(view, host=f"lb{number}") for number, view in enumerate(views, 1)]
    return site_of(Gathered(AT, answers, **more)).services[0]


def told(gathered: Gathered) -> dict[str, list[tuple[str, str, list[str]]]]:
    """News by kind: who, what, and on which VIPs."""
    return {
        kind.key: [(item.lead, item.text, [service.name for service in item.subjects]) for item in kind.items]
        for kind in news_of(site_of(gathered))
    }


@pytest.mark.parametrize(
    ("rows", "measure", "shares", "due"),
    [
        ({"packets": (10, 30)}, "packets", (0.25, 0.75), (0.5, 0.5)),
        ({"packets": (10, 30), "weight": (1, 3)}, "packets", (0.25, 0.75), (0.25, 0.75)),
        ({"packets": (0, 0)}, "packets", (None, None), (0.5, 0.5)),
        # Who gets nothing new is owed nothing, whatever he still has.
        ({"packets": (10, 30), "state": ("drain", "up")}, "packets", (0.25, 0.75), (0.0, 1.0)),
        ({"packets": (10, 30), "backup": (True, False)}, "packets", (0.25, 0.75), (0.0, 1.0)),
        ({"packets": (10, 30), "state": ("down", "down")}, "packets", (0.25, 0.75), (None, None)),
        ({"packets": (10, 30), "mac": (None, "02:00:00:00:00:02")}, "packets", (0.25, 0.75), (0.0, 1.0)),
    ],
)
def test_shares(rows: dict[str, Any], measure: str, shares: tuple[Any, ...], due: tuple[Any, ...]) -> None:
    backends = [backend(place + 1, **{key: values[place] for key, values in rows.items()}) for place in (0, 1)]
    service = one(vip(backends=backends))
    assert service.measure == measure
    assert tuple(member.share for member in service.members) == shares
    assert tuple(member.due for member in service.members) == due


def test_a_scheduler_that_tracks_is_measured_by_flows() -> None:
    backends = [backend(1, flows=1, packets=1000), backend(2, flows=3, packets=10)]
    assert [member.share for member in one(vip(scheduler="round_robin", backends=backends)).members] == [0.25, 0.75]
    # With a hash, flows are recorded while somebody drains, and are not all there are.
    hashed = one(vip(scheduler="source_hash", backends=backends))
    assert hashed.measure == "packets" and hashed.members[0].share == pytest.approx(1000 / 1010)


def test_two_load_balancers() -> None:
    """Figures add up; a state is the worse one, and says where."""
    service = one(
        vip(backends=[backend(1), failing(2)]), vip(backends=[backend(1, mac="02:00:00:00:00:99"), backend(2)])
    )
    first, second = service.members
    assert (first.word, first.macs, first.packets) == ("up", ("02:00:00:00:00:01", "02:00:00:00:00:99"), 602_000)
    assert (second.word, second.role) == ("unhealthy", BAD)
    assert second.why[0].startswith("lb1: unhealthy, fails since") and second.why[1] == "lb2: up"
    assert [(sight.balancer, sight.serving, sight.size) for sight in service.sights] == [("lb1", 1, 2), ("lb2", 2, 2)]
    assert (service.word, service.role, service.packets) == ("degraded", WARN, 2 * sum((301_000, 302_000)))


@pytest.mark.parametrize(
    ("views", "word", "role"),
    [
        ([vip()], "serving", GOOD),
        ([vip(backends=[failing(1)])], "no backend", BAD),
        ([vip(), vip(backends=[backend(number, state="down") for number in (1, 2, 3)])], "no backend on one", BAD),
        ([vip(in_sync=False)], "kernel differs", BAD),
        ([vip(), vip(ports=["80"])], "drift", WARN),
        ([vip(), vip("other")], "drift", WARN),
        ([vip(backends=[backend(1), backend(2, state="drain")])], "degraded", WARN),
        ([vip(backends=[backend(1), backend(2, state="down")])], "serving", GOOD),  # as it is configured
    ],
)
def test_a_vip_in_a_word(views: list[dict[str, Any]], word: str, role: str) -> None:
    service = one(*views)
    assert (service.word, service.role) == (word, role)


@pytest.mark.parametrize(
    ("found", "word", "role", "text"),
    [
        ({}, "direct", GOOD, "client1: 10 of 10 connections were answered directly (web2 4, web3 6)"),
        (
            {"through_lb": 2, "direct": 8, "msg": "2 by 02:00:00:00:00:01"},
            "not direct",
            BAD,
            "web1 (02:00:00:00:00:01)",
        ),
        ({"answered": 0, "unanswered": 10, "direct": 0, "msg": "refused"}, "no answer", BAD, "client1: refused"),
        ({"answered": 9, "unanswered": 1, "direct": 9, "msg": "1 timed out"}, "answers missing", BAD, "1 timed out"),
        ({"direct": 0, "msg": "several hosts answer ARP"}, "doubtful", WARN, "several hosts"),
    ],
)
def test_the_way_back(found: dict[str, Any], word: str, role: str, text: str) -> None:
    path = one(vip(), probes=[probed(**found)]).path
    assert (path.word, path.role) == (word, role)
    assert text in path.text


@pytest.mark.parametrize(
    ("view", "untested", "text"),
    [
        ({}, "the inventory has no host in dsr_clients", "the inventory has no host in dsr_clients"),
        ({"ports": None}, "", "it takes all ports"),
        ({"protocol": "udp"}, "", "for UDP see dsr_verify_udp"),
    ],
)
def test_a_way_that_nobody_tried(view: dict[str, Any], untested: str, text: str) -> None:
    path = one(vip(**view), untested=untested).path
    assert (path.word, path.role) == ("not tested", IDLE) and text in path.text


def test_of_a_well_site_there_is_no_news() -> None:
    site = site_of(small())
    assert news_of(site) == ()
    assert headline(site, ()) == ("The VIP is served", GOOD)
    assert lines(site, ()) == [f"The VIP is served ({AT})"]
    assert [station.word for station in (*site.balancers, *site.backends, *site.clients)] == [
        "in sync",
        *["ready"] * 3,
        "took part",
    ]


def test_news_are_of_every_kind_and_the_worst_first() -> None:
    news = news_of(site_of(sick()))
    keys = [kind.key for kind in news]
    assert keys == [key for key in KINDS if key in keys]
    assert set(KINDS) - set(keys) == {"ignored", "unchecked"}
    roles = [kind.role for kind in news]
    assert roles == sorted(roles, key=[BAD, WARN].index)
    assert headline(site_of(sick()), news) == ("1 of 4 VIPs without a serving backend", BAD)


def test_what_is_the_same_at_many_vips_is_said_once() -> None:
    rows = [backend(1), failing(2)]
    gathered = Gathered(AT, [balancer(*(vip(f"v{number}", backends=rows) for number in range(1000)))])
    found = told(gathered)
    assert list(found) == ["unhealthy"]
    ((lead, text, names),) = found["unhealthy"]
    assert (lead, text, len(names)) == ("web2 (192.0.2.22)", "connection refused", 1000)
    said = lines(site_of(gathered), news_of(site_of(gathered)))
    assert len(said) == 2 and "v0, v1, v2, v3, v4, v5, v6, v7 and 992 more: connection refused" in said[1]


def test_who_answers_for_an_address() -> None:
    """The load balancer in reserve hears the other one; two that hear each other both hold it."""
    own = {"02:00:00:00:01:01": "lb1", "02:00:00:00:01:02": "lb2"}
    both = [balancer(vip()), balancer(vip(), host="lb2")]

    def hear(*macs: str, host: str) -> Answer:
        return Answer(host, {"answers": [{"address": "192.0.2.100", "macs": list(macs)}]})

    fine = Gathered(AT, both, [hear(host="lb1"), hear("02:00:00:00:01:01", host="lb2")], macs=own)
    assert told(fine) == {}
    twice = Gathered(AT, both, [hear("02:00:00:00:01:02", host="lb1"), hear("02:00:00:00:01:01", host="lb2")], macs=own)
    assert told(twice)["duplicate"] == [("lb1, lb2", "all of them hold it at once", ["web"])]
    strangers = Gathered(AT, both, [hear("02:00:00:00:00:01", "02:00:00:ff:ff:ff", host="lb1")], macs=own)
    assert [lead for lead, _unused, _unused in told(strangers)["duplicate"]] == [
        "02:00:00:00:00:01",
        "02:00:00:ff:ff:ff",
    ]


def test_dsr_vips_is_compared_with() -> None:
    wanted = [vip(ports=["80"], backends=[backend(1, weight=2), backend(2)]), vip("new", address="192.0.2.101")]
    have = [vip(), vip("old", address="192.0.2.102")]
    found = told(Gathered(AT, [balancer(*have)], wanted=wanted))["drift"]
    assert [(lead, text) for lead, text, _unused in found] == [
        ("lb1", "ports: 80, 443, not 80"),
        ("lb1", "backends too many: 192.0.2.23"),
        ("lb1", "weight of 192.0.2.21: 1, not 2"),
        ("lb1: new", "is in dsr_vips and not configured; run dsr.layer2.site"),
        ("lb1", "is configured and not in dsr_vips; dsr.layer2.site removes it"),
    ]
    kept = told(Gathered(AT, [balancer(*have)], wanted=wanted, kept=["lb1"]))["drift"]
    assert len(kept) == 4
    alone = told(Gathered(AT, [balancer(vip(), vip("api")), balancer(vip(), host="lb2")]))
    assert alone["drift"] == [("lb2", "is not configured there, and is on another load balancer", ["api"])]


def test_health_that_nobody_looks_at_and_health_that_is_ignored() -> None:
    blind = vip(health_ignored=None, backends=[backend(1, healthy=None)])
    assert told(Gathered(AT, [balancer(blind)]))["unchecked"][0][0] == "lb1"
    floor = vip(health_ignored=True, backends=[backend(1), backend(2, cause="refused", since="2026-11-23T16:00:00Z")])
    found = told(Gathered(AT, [balancer(floor)]))
    assert list(found) == ["unhealthy", "ignored"]
    assert told(Gathered(AT, [balancer(vip(health_check=None, health_ignored=None))])) == {}


def test_backends_that_lack_a_vip() -> None:
    due = {"web1": ["192.0.2.100", "192.0.2.101"], "web2": ["192.0.2.10"]}
    site = site_of(Gathered(AT, [balancer(vip())], backends=[holder(1), holder(2, "192.0.2.10 is not on lo")], due=due))
    assert [station.text for station in site.backends] == [
        "does not hold 192.0.2.101, for which load balancers send it packets; run dsr.layer2.site",
        "192.0.2.10 is not on lo",
    ]


def test_nobody_there() -> None:
    silent = site_of(Gathered(AT, [Answer("lb1", problem="no route to host")]))
    assert headline(silent, news_of(silent)) == ("No load balancer has answered", BAD)
    empty = site_of(Gathered(AT, [balancer()]))
    assert headline(empty, news_of(empty)) == ("No VIP is configured", IDLE)
