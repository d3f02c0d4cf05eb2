# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of rolling work: who is drained where, who is left, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.dsr.layer2.plugins.filter.rolling import rolling_plan
from ansible_collections.dsr.layer2.plugins.filter.surveys import LABELS, place

NAMES = ["web1", "web2", "web3"]
TASKS = {"dsr_rolling_tasks": "upgrade.yml"}
PAGE = Path(__file__).resolve().parents[4] / "docs" / "operate.md"


def host(number: int, **more: Any) -> dict[str, Any]:
    address = f"192.0.2.2{number}"
    own = [address, f"2001:db8::2{number}"]
    return {"name": f"web{number}", "address4": address, "own_addresses": own, "problem": "", **more}


HOSTS = [host(number) for number in (1, 2, 3)]


def backend(number: int, **more: Any) -> dict[str, Any]:
    return {
        "address": f"192.0.2.2{number}",
        "name": f"w{number}",
        "mac": f"02:00:00:00:00:2{number}",
        "weight": 1,
        "state": "up",
        "healthy": None,
        **more,
    }


def vip(name: str = "web", *changed: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Three backends, some of which are as ``changed`` says."""
    rows = {row["address"]: row for row in (*map(backend, (1, 2, 3)), *changed)}
    return {"name": name, "address": "192.0.2.100", "protocol": "tcp", "backends": list(rows.values()), **more}


def plan(
    *vips: dict[str, Any],
    others: Optional[list[dict[str, Any]]] = None,
    here: Optional[list[str]] = None,
    batch: Optional[list[str]] = None,
    hosts: Optional[list[dict[str, Any]]] = None,
    **answers: Any,
) -> dict[str, Any]:
    """Of the load balancer lb1, and of lb2 where it has something else."""
    mine = list(vips or [vip()])
    looks = [{"item": "lb1", "vips": mine}, {"item": "lb2", "vips": mine if others is None else others}]
    here = NAMES if here is None else here
    return rolling_plan({**TASKS, **answers}, looks, hosts or HOSTS, ["lb1", *here], here, batch)


def steps(found: dict[str, Any], name: str) -> list[str]:
    assert found["problem"] == ""
    return [f"{row['lb']} {row['backend']} {row['vip']}".strip() for row in found["steps"][name]["drains"]]


def test_the_plan_of_the_page() -> None:
    block = next(text for text in re.findall(r"```text\n(.*?)```", PAGE.read_text(), re.DOTALL) if "For each" in text)
    found = plan(vip("web", backend(2, state="drain")))
    assert found["text"] == block.splitlines()
    assert found["order"] == ["web1", "web3"]
    assert found["options"] == {
        "tasks": "upgrade.yml", "serial": 1, "timeout": 300, "quiet": 5, "on_timeout": "fail",
    }  # fmt: skip


def test_all_load_balancers_at_once() -> None:
    found = plan(vip(), vip("dns", address="192.0.2.101", protocol="udp"))
    assert found["order"] == NAMES
    step = found["steps"]["web2"]
    assert steps(found, "web2") == ["lb1 192.0.2.22", "lb2 192.0.2.22"]
    assert (step["vips"], step["names"]) == (["192.0.2.100", "192.0.2.101"], ["web", "dns"])
    assert (
        step["quiet"]
        == step["serving"]
        == [
            {"lb": "lb1", "backend": "192.0.2.22"},
            {"lb": "lb2", "backend": "192.0.2.22"},
        ]
    )
    assert step["restore"] == ["dsr.layer2.restore -e dsr_backend=192.0.2.22"]
    assert plan()["steps"]["web2"]["quiet"] == []  # TCP alone


def test_both_families_of_a_host() -> None:
    rows = [backend(number, address=f"2001:db8:0::2{number}") for number in (1, 2, 3)]
    six = vip("web6", address="2001:db8::100", backends=rows)
    found = plan(vip(), six, others=[vip()])
    assert steps(found, "web1") == ["lb1 192.0.2.21", "lb1 2001:db8::21", "lb2 192.0.2.21"]


@pytest.mark.parametrize("given", ["web3, 192.0.2.21", ["web3", "w1"], " web3\nweb3 2001:db8:0:0::21 ", "w3,web1"])
def test_order_and_part(given: Any) -> None:
    assert plan(dsr_rolling_backends=given)["order"] == ["web3", "web1"]


def test_what_was_drained_before_stays() -> None:
    """On one VIP, on one load balancer, or everywhere."""
    partly = [vip(), vip("api", backend(2, state="drain"), address="192.0.2.101")]
    found = plan(*partly, others=[vip("web", backend(2, state="down")), vip("api", address="192.0.2.101")])
    assert steps(found, "web2") == ["lb1 192.0.2.22 web", "lb2 192.0.2.22 api"]
    assert "2. web2: web, api; stays as it is: api on lb1, web on lb2" in found["text"]
    assert found["steps"]["web2"]["restore"] == [
        "dsr.layer2.restore -e dsr_backend=192.0.2.22 -e dsr_vip=web",
        "dsr.layer2.restore -e dsr_backend=192.0.2.22 -e dsr_vip=api",
    ]
    for out in ({"state": "drain"}, {"state": "down"}, {"weight": 0}):
        found = plan(vip("web", backend(2, **out)))
        assert found["order"] == ["web1", "web3"]
        found = plan(vip("web", backend(2, **out)), dsr_rolling_backends="web2")
        assert (found["order"], steps(found, "web2"), found["steps"]["web2"]["serving"]) == (["web2"], [], [])
        assert "1. web2: out of service already on web; it is not restored afterwards" in found["text"]


LAST = "dsr_rolling_backends (Backends): web1 is all that serves the VIP web on lb2 now, and nobody would be left."


@pytest.mark.parametrize(
    ("second", "third", "refused"),
    [
        ({}, {"state": "down"}, False),
        ({"state": "drain"}, {"state": "down"}, True),
        ({"weight": 0}, {"mac": None}, True),
        ({"healthy": False}, {"healthy": False}, True),
        ({"healthy": False}, {"healthy": True}, False),
        ({"backup": True}, {"state": "down"}, False),
    ],
)
def test_somebody_is_to_be_left(second: dict[str, Any], third: dict[str, Any], refused: bool) -> None:
    """On every load balancer, by what it knows itself."""
    others = [vip("web", backend(2, **second), backend(3, **third))]
    found = plan(others=others, dsr_rolling_backends="web1")
    assert found["problem"].startswith(LAST) is refused, found["problem"]
    assert not refused or "or set dsr_rolling_allow_last: true" in found["problem"]
    assert plan(others=others, dsr_rolling_backends="web1", dsr_rolling_allow_last="true")["problem"] == ""
    # Where all serve, as too few are healthy, health says nothing.
    others[0]["health_ignored"] = True
    assert bool(plan(others=others, dsr_rolling_backends="web1")["problem"]) is (refused and "healthy" not in second)


def test_who_serves_nobody_now_may_go() -> None:
    assert plan(vip("web", *(backend(number, healthy=False) for number in (1, 2, 3))))["problem"] == ""


def test_several_at_a_time() -> None:
    found = plan(dsr_rolling_serial="2")
    assert found["problem"] == "" and "For each backend, 2 at a time: drain" in found["text"][0]
    found = plan(dsr_rolling_serial=3)
    assert "web1, web2, web3 at the same time are all that serves the VIP web on lb1 now" in found["problem"]
    assert "take fewer at a time (dsr_rolling_serial)" in found["problem"]
    assert "at the same time" in plan(batch=NAMES)["problem"]
    assert plan(batch=["web2", "web3"])["order"] == ["web2", "web3"]
    # One that somebody drained meanwhile is worked on, and left so.
    assert plan(vip("web", backend(2, state="drain")), batch=["web2"])["steps"]["web2"]["out"] is True


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({"dsr_rolling_tasks": " "}, "dsr_rolling_tasks (Tasks): is empty; name a file"),
        (
            {"dsr_rolling_backends": "web9"},
            "dsr_rolling_backends (Backends): there is no host 'web9' in dsr_backends; did",
        ),
        ({"dsr_rolling_backends": "192.0.2.9"}, "dsr_rolling_backends (Backends): there is no host '192.0.2.9'"),
        ({"dsr_rolling_serial": "0"}, "dsr_rolling_serial (At a time): 0 is out of range"),
        ({"dsr_rolling_serial": "30%"}, "dsr_rolling_serial (At a time): '30%' is not a whole number"),
        ({"dsr_rolling_timeout": "5 min"}, "dsr_rolling_timeout (Longest wait): '5 min' is not a whole number"),
        ({"dsr_rolling_quiet": 0.5}, "dsr_rolling_quiet (Silence): '0.5' is not a whole number"),
        ({"dsr_rolling_on_timeout": "stop"}, "dsr_rolling_on_timeout (After the longest wait): 'stop' is not known"),
        ({"dsr_rolling_allow_last": "maybe"}, "dsr_rolling_allow_last (The last one too): 'maybe' is neither"),
    ],
)
def test_what_is_refused(answers: dict[str, Any], message: str) -> None:
    found = plan(**answers)
    assert found["problem"].startswith(message)
    assert not found["steps"] and not found["order"]


def test_who_does_not_answer() -> None:
    lost = [{"item": "lb1", "vips": [vip()]}, {"item": "lb2", "unreachable": True, "msg": "no route\n"}]
    found = rolling_plan(TASKS, lost, HOSTS, NAMES, NAMES)
    assert found["problem"].startswith("the load balancer lb2: did not say what it does (no route). A backend that")
    assert plan(others=[])["problem"].startswith("the load balancer lb2: has no VIP at all")
    assert rolling_plan(TASKS, [], HOSTS, NAMES, NAMES)["problem"].startswith(
        "dsr_load_balancers: the inventory has no"
    )

    looks = [{"item": "lb1", "vips": [vip()]}]
    cannot = "the host web2 of dsr_backends: cannot be worked on"
    assert rolling_plan(TASKS, looks, HOSTS, NAMES, ["web1", "web3"])["problem"].startswith(cannot)
    assert plan(here=["web1"], dsr_rolling_backends="web2")["problem"].startswith(cannot)
    assert plan(here=["web1"])["order"] == ["web1"]
    assert plan(here=[])["problem"].startswith("dsr_backends: no host of this group takes part")
    stranger = [*HOSTS, host(4)]
    nobody = rolling_plan(TASKS, looks, stranger, [*NAMES, "web4"], [*NAMES, "web4"])
    assert nobody["problem"].startswith("the host web4 of dsr_backends: is a backend of no VIP")
    twice = [host(1), host(2, own_addresses=["192.0.2.22", "192.0.2.21"]), host(3)]
    assert (
        "'192.0.2.21' names several hosts (web1, web2)"
        in plan(hosts=twice, dsr_rolling_backends="192.0.2.21")["problem"]
    )
    wrong = [host(1, problem="dsr_backend_weight of the host web1: 'x' is not a weight")]
    assert plan(hosts=wrong)["problem"] == "dsr_backend_weight of the host web1: 'x' is not a weight"


FIELDS = sorted(name for name in LABELS if name.startswith("dsr_rolling_"))
TYPED = st.text(alphabet="abw0129.:-/ ,;\n\r\t'\"{}%$`\\\0é\u2028", max_size=20)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(FIELDS), st.one_of(st.none(), st.integers(), TYPED)))
def test_anything_is_read_or_refused_by_its_field(answers: dict[str, Any]) -> None:
    problem = plan(**answers)["problem"]
    assert not problem or any(problem.startswith(place(field)) for field in FIELDS)
