# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two load balancers and real keepalived: what clients meet when one goes, comes back, or both think they are alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from balancer import WEB, WEB6, clean
from lab import Lab, unused_name
from lab.modules import ModuleRunner
from lab.running import Running
from lab.standard import build, hold_vips, serve
from vrrp_hosts import NAMES, TRACKED, Pair, until

pytestmark = pytest.mark.timed

FAILOVERS = int(os.environ.get("DSR_FAILOVERS", "30"))


@pytest.fixture
def pair(module_runner: ModuleRunner) -> Iterator[Pair]:
    """Two load balancers with their rules; no keepalived runs yet."""
    from conftest import LabModule

    with Lab(unused_name(), shown=module_runner.shown) as lab:
        build(lab, load_balancers=2)
        hold_vips(lab, load_balancers=())
        serve(lab)
        pair = Pair(lab, LabModule(module_runner, lab))
        pair.rules()
        try:
            yield pair
        finally:
            pair.end()


def whole(held: Running, what: str, longest: float) -> None:
    """Nothing broke and nothing moved; the longest silence of a connection is printed and bounded."""
    result = held.stop()
    print(
        f"{what}: {result['connections']} connections, {result['broken']} broken, {result['moved']} moved, "
        f"longest stall {result['longest_gap']:.3f} s"
    )
    clean(result)
    assert result["longest_gap"] <= longest, result


def heard(watched: Running, text: str) -> str:
    """All that a program has printed once it has printed that."""
    until(lambda: text in watched.printed(), f"it says {text}")
    return watched.printed()


@pytest.mark.parametrize("address", [WEB, WEB6])
def test_a_planned_move_and_back(pair: Pair, address: str) -> None:
    pair.up()
    held = pair.hold(address, 1000, 0.1)
    pair.away("lb")
    pair.settle("lb2")
    pair.sends("lb2")
    pair.away("lb", False)
    pair.settle("lb")
    pair.sends("lb")
    # Each connection says something every 0.1 s, and 0.1 s is what a move may cost.
    whole(held, f"planned move and back, {address}", 0.2)


def test_the_link_of_the_active_one_is_cut(pair: Pair) -> None:
    pair.up()
    held = pair.hold(WEB, 1000, 0.1)
    pair.lab.link_down("lb")
    took = until(lambda: pair.holds("lb2"), "lb2 has the VIPs")
    print(f"taken over after {took:.2f} s")
    pair.lab.link_up("lb")
    pair.settle("lb")
    whole(held, "link cut, and back", 0.6)


def test_the_active_one_is_dead_at_once(pair: Pair) -> None:
    """Nothing of it answers any more: its cable is out."""
    pair.up()
    held, held6 = pair.hold(WEB, 500, 0.1), pair.hold(WEB6, 500, 0.1)
    pair.lab.unplug("lb")
    until(lambda: pair.holds("lb2"), "lb2 has the VIPs")
    pair.sends("lb2")
    whole(held, "dead load balancer", 0.6)
    whole(held6, "dead load balancer, IPv6", 0.6)


def test_keepalived_alone_is_killed(pair: Pair) -> None:
    """Its addresses stay on the NIC; the other announces them, and both know where connections belong."""
    pair.up()
    held = pair.hold(WEB, 500, 0.1)
    pair.kill("lb")
    until(lambda: pair.holds("lb2"), "lb2 has the VIPs")
    assert pair.holds("lb")
    pair.start("lb")
    pair.settle("lb")
    whole(held, "keepalived killed and started again", 0.6)


def test_rules_that_are_gone_take_the_vips_along(pair: Pair) -> None:
    pair.up()
    pair.lab.run("lb", ["nft", "delete", "table", "netdev", "nft_dsr"])
    took = pair.settle("lb2")
    print(f"without rules: moved after {took:.2f} s")
    pair.rules("lb")
    pair.settle("lb")


def test_a_load_balancer_whose_agent_is_dead_backs_only(pair: Pair) -> None:
    pair.agent_check = "/usr/bin/test -e /run/agent-lives"
    for name in NAMES:
        pair.lab.write(name, "/run/agent-lives", "")
    pair.up()
    held = pair.hold()
    pair.lab.run("lb", ["rm", "/run/agent-lives"])
    pair.settle("lb2")
    # Where no agent lives, the VIPs stay with somebody all the same.
    pair.lab.run("lb2", ["rm", "/run/agent-lives"])
    pair.settle("lb")
    pair.lab.write("lb2", "/run/agent-lives", "")
    pair.settle("lb2")
    whole(held, "agents dead in turn", 0.6)


def test_cut_from_each_other_but_not_from_the_clients(pair: Pair) -> None:
    """Split brain: both hold the VIPs, whichever the segment learnt last gets the packets, and nothing breaks."""
    pair.up()
    held = pair.hold(WEB, 500, 0.1)
    for name, other in (("lb", "10.77.0.3"), ("lb2", "10.77.0.2")):
        rules = f"table ip cut {{ chain input {{ type filter hook input priority 0; ip saddr {other} drop; }}; }}"
        pair.lab.run(name, ["nft", "-f", "-"], input=rules)
    until(lambda: pair.holds("lb") and pair.holds("lb2"), "both have the VIPs")
    pair.sends("lb2")
    for name in NAMES:
        pair.lab.run(name, ["nft", "delete", "table", "ip", "cut"])
    pair.settle("lb")
    whole(held, "split brain and its end", 0.6)


def test_one_more_vip_leaves_the_others_alone(pair: Pair) -> None:
    pair.up()
    held = pair.hold(WEB, 200, 0.02)
    with pair.lab.popen("lb", ["ip", "monitor", "address"]) as watched:
        pair.vips.append({"name": "more", "address": "10.77.0.102", "scheduler": "connection_hash"})
        pair.rules()
        for name in reversed(NAMES):
            pair.reload(name)
        pair.settle("lb")
        said = heard(watched, "10.77.0.102")
    assert "Deleted" not in said, said
    whole(held, "a VIP more", 0.2)


def test_a_link_that_flaps(pair: Pair) -> None:
    pair.up()
    held = pair.hold(WEB, 200, 0.1)
    for _time in range(3):
        pair.lab.link_down("lb")
        until(lambda: pair.holds("lb2"), "lb2 has the VIPs")
        pair.lab.link_up("lb")
        pair.settle("lb")
    whole(held, "three flaps", 0.6)


def test_without_preemption_the_vips_stay(pair: Pair) -> None:
    pair.options["preempt"] = False
    pair.up()
    pair.away("lb")
    pair.settle("lb2")
    pair.away("lb", False)
    # Something that takes longer than a takeover: the other way round it does go.
    pair.away("lb2")
    pair.settle("lb")
    pair.away("lb2", False)
    assert pair.holds("lb") and pair.holds_none("lb2")


def test_both_work_when_vips_are_spread(pair: Pair) -> None:
    pair.options["spread"] = True
    for name in NAMES:
        pair.start(name)
    own = {name: _own(pair, name) for name in NAMES}
    assert all(own.values()), own
    until(lambda: all(own[name] <= pair.addresses(name) for name in NAMES), "each has its own")
    until(lambda: not own["lb"] & pair.addresses("lb2") and not own["lb2"] & pair.addresses("lb"), "and no other's")
    held = [pair.hold(address, 200, 0.1) for address in (WEB, WEB6)]
    pair.lab.unplug("lb2")
    until(lambda: pair.holds("lb"), "lb has all VIPs")
    pair.sends("lb")
    for one in held:
        whole(one, "spread, one of two dead", 0.6)


def _own(pair: Pair, name: str) -> set[str]:
    return {
        address.split("/")[0]
        for instance in pair.plan(name)["instances"]
        if instance["owner"] == name
        for address in instance["addresses"]
    }


def test_failovers_in_a_row_under_load(pair: Pair) -> None:
    pair.up()
    held = pair.hold(WEB, 200, 0.02)
    for number in range(FAILOVERS):
        away = NAMES[0]
        pair.away(away, number % 2 == 0)
        pair.settle(NAMES[1 - number % 2])
    whole(held, f"{FAILOVERS} planned failovers", 0.5)


def test_what_becomes_of_tracked_connections(pair: Pair) -> None:
    """The other load balancer does not know them: each goes where the turn sends it there. Printed, not promised."""
    pair.up()
    held = pair.hold(TRACKED, 200, 0.1)
    pair.away("lb")
    pair.settle("lb2")
    pair.sends("lb2")
    result: dict[str, Any] = held.stop()
    print(f"round_robin, planned move: {result['broken']} of {result['connections']} broken")
    assert result["opened"] == result["connections"]


def test_asking_for_the_chain_is_no_transaction(pair: Pair) -> None:
    """keepalived asks each second, and the modules go by the generation to know that nobody changed the rules."""
    listing = ["nft", "monitor"]
    with pair.lab.popen("lb", listing) as watched:
        for _time in range(3):
            pair.lab.run("lb", pair.plan("lb")["checks"][0]["command"].split())
        pair.lab.run("lb", ["nft", "add", "table", "netdev", "somebody"])
        said = heard(watched, "somebody")
    assert said.count("# new generation") <= 1 and "ingress_eth0" not in said, said
