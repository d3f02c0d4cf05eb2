# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a VIP's packets go: spread, and staying put while things change. Real clients, servers and packets."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest
from balancer import ADDRESSES, HASHED, HTTP, LINES, OTHER, TCP_AND_UDP, TURNS, UDP, WEB, Balancer, clean, pool

# -- spread


@pytest.mark.parametrize("scheduler", TURNS)
@pytest.mark.parametrize(("protocol", "port"), [("tcp", HTTP), ("udp", UDP)])
def test_turns_are_even(balancer: Balancer, scheduler: str, protocol: str, port: int) -> None:
    balancer.serve(scheduler, protocol, (port,))
    result = balancer.connect(port, 300, protocol=protocol)
    assert result["ok"] == 300, result
    assert all(abs(number - 100) <= 2 for number in result["by_host"].values()), result


@pytest.mark.parametrize(("protocol", "port"), [("tcp", HTTP), ("udp", UDP)])
def test_connection_hash_spreads_one_clients_connections(balancer: Balancer, protocol: str, port: int) -> None:
    balancer.serve("connection_hash", protocol, (port,))
    result = balancer.connect(port, 300, "--source-ports", "20000-20299", protocol=protocol)
    assert result["ok"] == 300, result
    assert set(result["by_host"]) == {"b1", "b2", "b3"} and min(result["by_host"].values()) > 60, result


@pytest.mark.parametrize(("protocol", "port"), [("tcp", HTTP), ("udp", UDP)])
def test_source_hash_keeps_a_client_on_one_backend(balancer: Balancer, protocol: str, port: int) -> None:
    balancer.serve("source_hash", protocol, (port,))
    result = balancer.connect(port, 100, protocol=protocol)
    assert result["ok"] == 100 and len(result["by_host"]) == 1, result


def test_weights(balancer: Balancer) -> None:
    weighted = pool(b1={"weight": 5}, b2={"weight": 1}, b3={"weight": 4})
    balancer.serve("weighted_round_robin", backends=weighted)
    by_host = balancer.connect(HTTP, 300)["by_host"]
    assert abs(by_host["b1"] - 150) <= 4 and abs(by_host["b2"] - 30) <= 4 and abs(by_host["b3"] - 120) <= 4, by_host
    balancer.serve("connection_hash", backends=weighted)
    by_host = balancer.connect(HTTP, 600, "--source-ports", "20000-20599")["by_host"]
    assert 240 <= by_host["b1"] <= 360 and 20 <= by_host["b2"] <= 100 and 180 <= by_host["b3"] <= 300, by_host


def test_weight_zero_gets_no_new_connection(balancer: Balancer) -> None:
    for scheduler in ("round_robin", "connection_hash"):
        balancer.serve(scheduler, backends=pool(b2={"weight": 0}))
        result = balancer.connect()
        assert result["ok"] == 300 and set(result["by_host"]) == {"b1", "b3"}, result


@pytest.mark.parametrize("ports", [("8000-8100",), ("80", "8080"), None])
def test_ports_ranges_and_all_ports(balancer: Balancer, ports: Any) -> None:
    vip = {"name": "web", "address": WEB, "scheduler": "round_robin", "backends": pool(), "ports": ports}
    balancer.module.ok("lb", "nft_dsr_vips", {"vips": [vip]})
    assert not balancer.module.ok("lb", "nft_dsr_vips", {"vips": [vip]})["changed"]
    assert len(balancer.connect(8080, 30)["by_host"]) == 3
    served = ports != ("8000-8100",)
    result = balancer.connect(80, 30)
    assert (result["ok"] == 30) is served, result  # a port that is not the VIP's is the load balancer's own


def test_a_large_download_and_the_reply_is_direct(balancer: Balancer) -> None:
    balancer.serve("round_robin")
    size = 20_000_000
    sent = balancer.frames_to("--source", WEB)
    replies = balancer.lab.start_traffic("client", "capture", "eth0", "--source", WEB, "--direction", "in")
    result = balancer.connect(HTTP, 6, "--path", f"/bytes/{size}", "--timeout", 30)
    assert result["ok"] == 6 and result["bytes"] >= 6 * size, result
    macs = set(replies.stop()["by_source"])
    assert macs == {balancer.lab.hosts[name].mac for name in ADDRESSES}
    assert sent.stop()["frames"] == 0  # not one reply frame left the load balancer


# -- staying put


def test_connections_survive_fifty_changes_of_another_vip(balancer: Balancer, capsys: Any) -> None:
    kept = [
        {"name": f"{protocol}-{scheduler}", "address": address, "protocol": protocol, "ports": [str(port)],
         "scheduler": scheduler, "backends": pool()}
        for address, scheduler in ((WEB, "connection_hash"), (OTHER, "round_robin"))
        for protocol, port in TCP_AND_UDP
    ]  # fmt: skip

    def apply(number: int) -> dict[str, Any]:
        changing = {
            "name": "changing",
            "address": "10.77.0.102",
            "ports": ["80", str(9000 + number)],
            "scheduler": (HASHED + TURNS)[number % 4],
            "backends": pool(b1={"state": ("up", "drain", "down")[number % 3]}, b2=None if number % 2 else {}),
        }
        result: dict[str, Any] = balancer.module.ok("lb", "nft_dsr_vips", {"vips": [*kept, changing]})
        return result

    apply(0)
    held = {
        vip["name"]: balancer.hold(40, int(vip["ports"][0]), vip["protocol"], address=vip["address"]) for vip in kept
    }
    for number in range(1, 51):
        assert apply(number)["changed"]
    for name, connections in held.items():
        result = connections.stop()
        with capsys.disabled():
            print(f"\n{name}: 40 connections, 50 changes of another VIP: {result['broken']} broken, "
                  f"{result['moved']} moved, {result['lines']} lines", end="")  # fmt: skip
        clean(result)


@pytest.mark.parametrize("scheduler", HASHED + TURNS)
@pytest.mark.parametrize(("protocol", "port"), TCP_AND_UDP)
def test_down_moves_only_its_own_connections(balancer: Balancer, scheduler: str, protocol: str, port: int) -> None:
    balancer.serve(scheduler, protocol, (port,))
    held = balancer.hold(60, port, protocol, "--timeout", 0.5)
    balancer.serve(scheduler, protocol, (port,), pool(b1={"state": "down"}))
    to_b1 = balancer.frames_to("--to-mac", balancer.lab.hosts["b1"].mac, "--destination", WEB)
    new = balancer.connect(port if protocol == "udp" else LINES, 90, protocol=protocol) if protocol == "udp" else None
    if new:
        assert new["ok"] == 90 and "b1" not in new["by_host"], new
    balancer.serve(scheduler, protocol, (port,), pool(b1={"state": "down"}))
    assert to_b1.stop()["frames"] == 0
    result = held.stop()
    # What was on b1 found a host that does not know it; all others noticed nothing.
    if protocol == "tcp":
        assert set(result["broken_by_host"]) <= {"b1"}, result
        assert result["broken"] == result["by_host"].get("b1", 0), result
        assert result["moved"] == 0, result
    else:
        assert all(move.startswith("b1") for move in result["moves"]), result


def test_what_comes_back_gets_its_own_back(balancer: Balancer) -> None:
    balancer.serve("connection_hash", "udp", (UDP,))
    held = balancer.hold(60, UDP, "udp")
    for state in ("down", "up"):
        balancer.serve("connection_hash", "udp", (UDP,), pool(b2={"state": state}))
        balancer.connect(UDP, 30, protocol="udp")
    result = held.stop()
    moves = result["moves"]
    away = {move: number for move, number in moves.items() if move.startswith("b2 >")}
    assert sum(away.values()) == result["by_host"]["b2"] > 0, result
    # Each went home from where it was handed to, and nobody else moved.
    home = {f"b2 > {move.split()[0]}": number for move, number in moves.items() if move.endswith("> b2")}
    assert home == away and len(moves) == 2 * len(away), result


@pytest.mark.parametrize("scheduler", HASHED + TURNS)
def test_removing_a_backend_from_the_configuration(balancer: Balancer, scheduler: str) -> None:
    balancer.serve(scheduler)
    held = balancer.hold(60, LINES, "tcp", "--timeout", 0.5)
    balancer.serve(scheduler, backends=pool(b3=None))
    # The lines of those on b3 run into the void or a reset; the others go on.
    new = balancer.connect(HTTP, 60)
    assert new["ok"] == 60 and "b3" not in new["by_host"], new
    result = held.stop()
    assert set(result["broken_by_host"]) <= {"b3"} and result["moved"] == 0, result
    balancer.serve(scheduler)
    assert "b3" in balancer.connect(HTTP, 300, "--source-ports", "40000-40299")["by_host"] or scheduler == "source_hash"


@pytest.mark.parametrize("change", ["round_robin to connection_hash", "connection_hash to round_robin"])
def test_a_change_of_scheduler_keeps_connections(balancer: Balancer, change: str) -> None:
    before, after = change.split(" to ")
    balancer.serve(before)
    held = balancer.hold(40)
    balancer.serve(after)
    assert balancer.connect(HTTP, 90)["ok"] == 90
    balancer.serve(after)
    clean(held.stop())


def test_adding_ports_keeps_connections(balancer: Balancer) -> None:
    balancer.serve("round_robin", ports=(LINES,))
    held = balancer.hold(40)
    balancer.serve("round_robin", ports=(HTTP, LINES, 8080))
    assert balancer.connect(8080, 30)["ok"] == 30
    balancer.serve("round_robin", ports=(LINES,))
    clean(held.stop())


# -- draining


@pytest.mark.parametrize("scheduler", HASHED + TURNS)
def test_draining_tcp(balancer: Balancer, scheduler: str) -> None:
    balancer.serve(scheduler)
    first = balancer.hold(60)
    busy = "b1" if scheduler != "source_hash" else next(iter(balancer.connect(HTTP, 1)["by_host"]))
    balancer.serve(scheduler, backends=pool(**{busy: {"state": "drain"}}))
    new = balancer.connect(HTTP, 90)
    assert new["ok"] == 90 and busy not in new["by_host"], new
    second = balancer.hold(30)
    # A restore moves nobody either: what began elsewhere meanwhile stays there.
    balancer.serve(scheduler)
    assert balancer.connect(HTTP, 30)["ok"] == 30
    later = second.stop()
    clean(later)
    assert busy not in later["by_host"], later
    earlier = first.stop()
    clean(earlier)
    assert earlier["by_host"][busy] > 0, earlier


@pytest.mark.parametrize("scheduler", HASHED + TURNS)
def test_draining_udp(balancer: Balancer, scheduler: str) -> None:
    balancer.serve(scheduler, "udp", (UDP,))
    held = balancer.hold(30, UDP, "udp")
    busy = "b1" if scheduler != "source_hash" else next(iter(balancer.connect(UDP, 1, protocol="udp")["by_host"]))
    result = balancer.serve(scheduler, "udp", (UDP,), pool(**{busy: {"state": "drain"}}))
    if scheduler in HASHED:
        # For the first seconds nobody can tell an old flow from a new one; this ends that time early.
        assert any("switch_web { ip timeout 120s" in command for command in result["commands"])
        before_end = balancer.flows()
        assert before_end[busy] > 0, before_end
        balancer.nft("flush", "map", "netdev", "nft_dsr", "switch_web")
    new = balancer.connect(UDP, 90, protocol="udp")
    assert new["ok"] == 90 and busy not in new["by_host"], new
    balancer.serve(scheduler, "udp", (UDP,))
    clean(held.stop())


def test_drained_then_removed_keeps_what_began_during_the_drain(balancer: Balancer) -> None:
    balancer.serve("connection_hash", backends=pool(b1={"state": "drain"}))
    held = balancer.hold(60)
    balancer.serve("connection_hash", backends=pool(b1=None))
    assert balancer.connect(HTTP, 60)["ok"] == 60
    clean(held.stop())


def test_nothing_left_for_new_connections(balancer: Balancer) -> None:
    everybody = {name: {"state": "drain"} for name in ADDRESSES}
    for scheduler in ("connection_hash", "round_robin"):
        balancer.serve(scheduler)
        held = balancer.hold(20)
        balancer.serve(scheduler, backends=pool(**everybody))
        result = balancer.connect(HTTP, 5, "--timeout", 0.3)
        assert result["ok"] == 0, result
        clean(held.stop())


def test_the_leftover_of_a_drain_goes_with_the_next_change(balancer: Balancer) -> None:
    balancer.serve("connection_hash", backends=pool(b1={"state": "drain"}))
    balancer.connect(HTTP, 30)
    balancer.serve("connection_hash")
    assert "flows_web" in balancer.nft("-t", "list", "ruleset")  # neither drift nor a change
    balancer.nft("flush", "map", "netdev", "nft_dsr", "flows_web")
    balancer.nft("flush", "map", "netdev", "nft_dsr", "closing_web")
    balancer.serve("connection_hash", ports=(LINES,))
    assert "flows_web" not in balancer.nft("-t", "list", "ruleset")


# -- the life of a tracked flow, by crafted packets


def targets(balancer: Balancer, *steps: tuple[str, int]) -> list[str]:
    """To which backend each crafted packet of source port 41000 went."""
    return [balancer.where(expected=count, flags=flags, count=count) for flags, count in steps]


def test_a_repeated_syn_stays(balancer: Balancer) -> None:
    balancer.serve("round_robin")
    assert len(set(targets(balancer, ("S", 3), ("S", 1), ("A", 2), ("S", 1)))) == 1


def test_a_closed_connections_ports_are_scheduled_anew(balancer: Balancer) -> None:
    balancer.serve("round_robin")
    first, ack, fin, last, again, then = targets(balancer, ("S", 1), ("A", 1), ("FA", 1), ("A", 2), ("S", 1), ("A", 1))
    assert first == ack == fin == last
    assert again == then != first


@pytest.mark.parametrize("flags", ["FA", "R"])
def test_closing_never_becomes_established_again(balancer: Balancer, flags: str) -> None:
    balancer.serve("round_robin")
    targets(balancer, ("S", 1), ("A", 1))
    listed = balancer.nft("list", "map", "netdev", "nft_dsr", "flows_web")
    assert re.search(r"0xa4d000b \. 0xa028 \. 0x1b58 .*expires 1[45]m", listed), listed
    targets(balancer, (flags, 1), ("A", 1))
    assert "0xa028" not in balancer.nft("list", "map", "netdev", "nft_dsr", "flows_web")
    listed = balancer.nft("list", "map", "netdev", "nft_dsr", "closing_web")
    assert re.search(r"0xa4d000b \. 0xa028 \. 0x1b58 .*expires (1m|5[0-9]s)", listed), listed


def test_a_syn_alone_is_forgotten_soon(balancer: Balancer) -> None:
    balancer.serve("round_robin")
    targets(balancer, ("S", 1))
    listed = balancer.nft("list", "map", "netdev", "nft_dsr", "flows_web")
    assert re.search(r"0xa028 \. 0x1b58 .*expires (1m|5[0-9]s)", listed), listed


def test_a_packet_of_an_unknown_connection_goes_by_the_hash(balancer: Balancer) -> None:
    balancer.serve("round_robin")
    assert len(set(targets(balancer, ("A", 4), ("PA", 1), ("A", 1)))) == 1
    assert balancer.flows() == {"b1": 0, "b2": 0, "b3": 0}


def test_an_entry_of_a_backend_that_is_gone_is_replaced(balancer: Balancer) -> None:
    balancer.serve("round_robin")
    (first,) = targets(balancer, ("S", 1))
    balancer.serve("round_robin", backends=pool(**{first: {"state": "down"}}))
    assert balancer.flows()[first] == 0
    ack, again, then = targets(balancer, ("A", 1), ("S", 1), ("A", 1))
    assert ack != first and again == then != first
    assert balancer.flows()[again] == 1


def test_ports_used_again_and_again_leave_no_trace(balancer: Balancer) -> None:
    """Entries that rules deleted leave the table's count when the kernel collects them, within about a second."""
    balancer.serve("round_robin")
    text = balancer.nft("-n", "list", "table", "netdev", "nft_dsr")
    small = text.replace("size 1048576", "size 8")
    balancer.nft("-f", "-", text=f"delete table netdev nft_dsr\n{small}")
    balancer.send("S,FA", 41000, 80)
    recorded: list[Any] = []
    until = time.monotonic() + 20
    while not recorded:
        assert time.monotonic() < until, "deleted entries still count: the flow table stays full"
        went = targets(balancer, ("S", 1), ("A", 1))
        assert went[0] == went[1]
        listed = json.loads(balancer.nft("-j", "list", "map", "netdev", "nft_dsr", "flows_web"))
        recorded = listed["nftables"][1]["map"].get("elem", [])
    assert len(recorded) == 1


def test_a_full_flow_table_falls_back_to_the_hash(balancer: Balancer) -> None:
    balancer.serve("round_robin")
    text = balancer.nft("-n", "list", "table", "netdev", "nft_dsr").replace("size 1048576", "size 20")
    balancer.nft("-f", "-", text=f"delete table netdev nft_dsr\n{text}")
    held = balancer.hold(60)  # 20 of them are recorded, 40 are not
    result = balancer.connect(HTTP, 100)
    assert result["ok"] == 100, result
    clean(held.stop())
    assert "counter packets 0 bytes 0 goto fallback_web" not in balancer.nft(
        "list", "chain", "netdev", "nft_dsr", "syn_web"
    )
