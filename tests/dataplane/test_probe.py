# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""dsr_probe on a real segment: direct return, everything that is not, and everything that breaks."""

from __future__ import annotations

import collections
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from lab import Lab
from lab.modules import ModuleRunner
from lab.standard import ADDRESSES, ADDRESSES6, VIPS6

VIP, NOBODYS = "10.77.0.100", "10.77.0.199"
HTTP, CLOSED, UDP = 80, 81, 5300
LB, CLIENT, B1, B2, B3 = (f"02:d5:00:00:00:{last}" for last in ("02", "0a", "15", "16", "17"))

BY_HASH = "jhash ip saddr . th sport mod 3 seed 1"
PER_PACKET = "numgen inc mod 3"
ALL = "ip saddr != 0.0.0.0"
# About half of all client ports; the others reach the load balancer's own stack.
HALF = f"{BY_HASH} 0-1"


def rules(scheduler: str = BY_HASH, which: str = ALL) -> str:
    """Direct Server Return made by hand, with nothing of this collection."""
    return f"""
flush ruleset
table netdev by_hand {{
  map backends {{
    typeof numgen inc mod 3 : ether daddr
    elements = {{ 0 : {B1}, 1 : {B2}, 2 : {B3} }}
  }}
  chain incoming {{
    type filter hook ingress device eth0 priority 0;
    meta pkttype != host accept
    ip daddr {VIP} {which} jump forward_it
  }}
  chain forward_it {{
    meta l4proto {{ tcp, udp }} ether saddr set {LB} ether daddr set {scheduler} map @backends fwd to eth0
  }}
}}
"""


@pytest.fixture(autouse=True)
def balanced(lab: Lab) -> Iterator[Lab]:
    """The lab with Direct Server Return; tests may replace the load balancer's rules."""
    lab.run("lb", ["nft", "-f", "-"], input=rules())
    yield lab
    lab.run("lb", ["nft", "flush", "ruleset"])


def ask(**changed: Any) -> dict[str, Any]:
    return {"address": VIP, "port": HTTP, **changed}


def totals(result: dict[str, Any]) -> tuple[int, int, int, int]:
    return result["answered"], result["unanswered"], result["direct"], result["through_lb"]


def fails_with(module: Any, host: str, **changed: Any) -> dict[str, Any]:
    """The result of a probe that must fail, figures and all, which do not fail the task if that is not wanted."""
    result: dict[str, Any] = module(host, "dsr_probe", ask(**changed))
    assert result.get("failed") is True, result
    calm = module.ok(host, "dsr_probe", ask(**changed, expect_direct=False))
    assert "msg" not in calm
    assert totals(calm)[0] <= 30
    return result


# -- direct return


def test_direct_return_is_proven(lab: Lab, lab_module: Any) -> None:
    capture = lab.start_traffic("client", "capture", "eth0", "--source", VIP, "--protocol", "tcp", "--records", 9999)
    try:
        result = lab_module.ok("client", "dsr_probe", ask(connections=60))
        frames = capture.stop()["records"]
    finally:
        capture.close()
    assert totals(result) == (60, 0, 60, 0)
    assert result["failed"] == 0
    assert result["changed"] is False
    assert (result["lb_mac"], result["arp_macs"], result["interface"]) == (LB, [LB], "eth0")
    assert result["failures"] == []
    # What the probe tells is what another observer saw on the wire.
    seen = {frame["port"]: frame["from_mac"] for frame in frames if frame["flags"] == "SA"}
    assert {entry["source_port"]: entry["mac"] for entry in result["connections"]} == seen
    assert {entry["mac"]: entry["connections"] for entry in result["backends"]} == collections.Counter(seen.values())
    assert set(seen.values()) == {B1, B2, B3}
    closed: set[int] = set()
    for frame in frames:
        # On a busy machine a backend's FIN may go out twice, and the second acknowledgement finds nobody any more.
        assert "R" not in frame["flags"] or frame["port"] in closed, "connections are closed, not broken off"
        if "F" in frame["flags"]:
            closed.add(frame["port"])
    for entry in result["backends"]:
        assert entry["direct"] is True
        assert 0 < entry["rtt_ms"]["min"] <= entry["rtt_ms"]["median"] <= entry["rtt_ms"]["max"] < 2000


def test_in_check_mode_too(lab: Lab, lab_module: Any) -> None:
    assert totals(lab_module.ok("client", "dsr_probe", ask(), check=True)) == (30, 0, 30, 0)


def test_direct_return_of_datagrams(lab: Lab, lab_module: Any) -> None:
    result = lab_module.ok("client", "dsr_probe", ask(port=UDP, protocol="udp", payload="ping"))
    assert totals(result) == (30, 0, 30, 0)
    assert {entry["mac"] for entry in result["backends"]} == {B1, B2, B3}


def test_a_client_that_has_never_heard_of_the_vip(lab: Lab, lab_module: Any) -> None:
    lab.ip("client", "neighbour flush all")
    assert totals(lab_module.ok("client", "dsr_probe", ask())) == (30, 0, 30, 0)


def test_a_vip_off_the_clients_network(lab: Lab, lab_module: Any) -> None:
    """Routed to the load balancer's own address, as an outer network would be."""
    far = "203.0.113.80"
    for host in ("b1", "b2", "b3"):
        lab.ip(host, f"address add {far}/32 dev lo")
    lab.ip("client", f"route add {far}/32 via 10.77.0.2")
    lab.run("lb", ["nft", "-f", "-"], input=rules().replace(VIP, far))
    try:
        result = lab_module.ok("client", "dsr_probe", ask(address=far))
        assert totals(result) == (30, 0, 30, 0)
        assert result["lb_mac"] == LB
    finally:
        lab.ip("client", f"route delete {far}/32")
        for host in ("b1", "b2", "b3"):
            lab.ip(host, f"address delete {far}/32 dev lo")


def test_a_thousand_connections(lab: Lab, lab_module: Any) -> None:
    result = lab_module.ok("client", "dsr_probe", ask(connections=1000))
    assert totals(result) == (1000, 0, 1000, 0)
    assert min(entry["connections"] for entry in result["backends"]) > 200


def test_other_traffic_does_not_count(lab: Lab, lab_module: Any) -> None:
    """The same client downloads from the same VIP on another port meanwhile."""
    others = lab.start_traffic("client", "hold", VIP, 7000, "--count", 20, "--interval", 0.01)
    try:
        result = lab_module.ok("client", "dsr_probe", ask(connections=100))
    finally:
        others.close()
    assert totals(result) == (100, 0, 100, 0)


# -- not direct


def test_a_proxy_is_found_out(lab: Lab, lab_module: Any) -> None:
    lab.run("lb", ["nft", "flush", "ruleset"])
    with lab.start_traffic("lb", "serve", "--http", HTTP, "--udp", UDP):
        for protocol, port in (("tcp", HTTP), ("udp", UDP)):
            result = fails_with(lab_module, "client", protocol=protocol, port=port)
            assert totals(result) == (30, 0, 0, 30)
            assert [(entry["mac"], entry["direct"]) for entry in result["backends"]] == [(LB, False)]
            assert f"30 of 30 {'connections' if protocol == 'tcp' else 'datagrams'}" in result["msg"]
            assert f"answered through the load balancer (MAC {LB}), not directly" in result["msg"]


def test_half_a_proxy_is_found_out(lab: Lab, lab_module: Any) -> None:
    lab.run("lb", ["nft", "-f", "-"], input=rules(which=HALF))
    with lab.start_traffic("lb", "serve", "--http", HTTP):
        result = lab_module("client", "dsr_probe", ask(connections=60))
    answered, unanswered, direct, through = totals(result)
    assert (answered, unanswered, direct + through) == (60, 0, 60)
    assert direct > 0
    assert through > 0
    assert result["failed"] is True
    assert f"{through} of 60 connections to {VIP}:{HTTP}/tcp were answered through the load balancer" in result["msg"]
    marks = collections.Counter(entry["direct"] for entry in result["connections"])
    assert marks == {True: direct, False: through}


def test_the_lb_mac_can_be_given(lab: Lab, lab_module: Any) -> None:
    result = lab_module("client", "dsr_probe", ask(lb_mac=B2.upper()))
    assert result["lb_mac"] == B2
    share = next(entry["connections"] for entry in result["backends"] if entry["mac"] == B2)
    assert (result["through_lb"], result["direct"]) == (share, 30 - share)


def test_a_scheduler_that_picks_per_packet_is_found_out(lab: Lab, lab_module: Any) -> None:
    """Each SYN is answered, and no connection works."""
    lab.run("lb", ["nft", "-f", "-"], input=rules(PER_PACKET))
    result = fails_with(lab_module, "client")
    assert result["answered"] == 0
    assert "reset after the handshake by 02:d5:00:00:00:" in result["msg"]


def test_a_backend_that_answers_arp_is_found_out(lab: Lab, lab_module: Any) -> None:
    lab.run("b3", ["sysctl", "-qw", "net.ipv4.conf.all.arp_ignore=0"])
    try:
        result = fails_with(lab_module, "client")
        assert result["arp_macs"] == [LB, B3]
        assert f"several hosts answer ARP for {VIP} ({LB}, {B3})" in result["msg"]
    finally:
        lab.run("b3", ["sysctl", "-qw", "net.ipv4.conf.all.arp_ignore=1"])


def test_an_old_neighbour_entry_is_found_out(lab: Lab, lab_module: Any) -> None:
    """All replies come from a backend, and yet the load balancer has nothing to do with it."""
    lab.ip("client", f"neighbour replace {VIP} lladdr {B1} dev eth0 nud permanent")
    try:
        result = fails_with(lab_module, "client")
        assert totals(result) == (30, 0, 30, 0)
        assert f"this host sent the packets to {B1}, by an old neighbour entry: now {LB} answers ARP" in result["msg"]
    finally:
        lab.ip("client", f"neighbour delete {VIP} dev eth0")


# -- failures


def test_a_port_that_nobody_listens_on(lab: Lab, lab_module: Any) -> None:
    began = time.monotonic()
    result = lab_module("client", "dsr_probe", ask(port=CLOSED, timeout=60.0))
    assert time.monotonic() - began < 30, "a refusal is not waited out"
    assert totals(result) == (0, 30, 0, 0)
    assert f"none of 30 connections to {VIP}:{CLOSED}/tcp was answered" in result["msg"]
    causes = {entry["cause"] for entry in result["failures"]}
    assert causes == {f"refused (TCP RST) by {mac}" for mac in (B1, B2, B3)}
    assert result["backends"] == []


def test_a_datagram_port_that_nobody_listens_on(lab: Lab, lab_module: Any) -> None:
    result = lab_module("client", "dsr_probe", ask(port=CLOSED, protocol="udp", connections=3, timeout=0.5))
    assert totals(result) == (0, 3, 0, 0)
    assert "refused (ICMP unreachable: port) by 02:d5:00:00:00:" in result["msg"]


def test_one_dead_backend(lab: Lab, lab_module: Any) -> None:
    drop = f"table ip dead {{\n chain incoming {{\n type filter hook input priority 0; tcp dport {HTTP} drop\n }}\n}}\n"
    lab.run("b1", ["nft", "-f", "-"], input=drop)
    try:
        result = lab_module("client", "dsr_probe", ask(timeout=0.5, connections=60))
    finally:
        lab.run("b1", ["nft", "delete", "table", "ip", "dead"])
    answered, unanswered, direct, through = totals(result)
    assert (answered + unanswered, direct, through) == (60, answered, 0)
    assert unanswered > 0
    assert {entry["mac"] for entry in result["backends"]} == {B2, B3}
    assert result["failed"] is True
    assert (
        f"{unanswered} of 60 connections to {VIP}:{HTTP}/tcp were not answered: {unanswered} without an answer within"
        " 0.5 s" in result["msg"]
    )


def test_a_black_hole_takes_as_long_as_told(lab: Lab, lab_module: Any) -> None:
    hole = rules().replace("fwd to eth0", "drop")
    lab.run("lb", ["nft", "-f", "-"], input=hole)
    began = time.monotonic()
    result = lab_module("client", "dsr_probe", ask(timeout=0.4, connections=120))
    took = time.monotonic() - began
    assert totals(result) == (0, 120, 0, 0)
    assert "120 without an answer within 0.4 s" in result["msg"]
    assert 3 * 0.4 <= took < 15, "50 at a time, so three times and not 120 times"


def test_nobody_has_the_address(lab: Lab, lab_module: Any) -> None:
    result = lab_module("client", "dsr_probe", ask(address=NOBODYS, timeout=0.4))
    assert totals(result) == (0, 30, 0, 0)
    assert result["lb_mac"] is None
    assert f"nobody answers ARP for {NOBODYS} on eth0; is that address on its NIC?" in result["msg"]


def test_no_route(lab: Lab, lab_module: Any) -> None:
    assert "this host has no route to 203.0.113.1" in lab_module.fails(
        "client", "dsr_probe", ask(address="203.0.113.1")
    )


def test_a_client_that_drops_the_replies_itself(lab: Lab, lab_module: Any) -> None:
    """As reverse path filters do: the service is fine, and the client is told so."""
    drop = f"table ip own {{\n chain incoming {{\n type filter hook input priority 0; ip saddr {VIP} drop\n }}\n}}\n"
    lab.run("client", ["nft", "-f", "-"], input=drop)
    try:
        result = lab_module("client", "dsr_probe", ask(timeout=0.4, connections=3))
    finally:
        lab.run("client", ["nft", "delete", "table", "ip", "own"])
    assert totals(result) == (0, 3, 0, 0)
    assert "was seen but this host dropped it (reverse path filter or firewall?)" in result["msg"]


@pytest.mark.parametrize("host", ["lb", "b1"])
def test_a_holder_of_the_vip_is_no_client_of_it(lab: Lab, lab_module: Any, host: str) -> None:
    said = lab_module.fails(host, "dsr_probe", ask())
    assert f"address: this host holds {VIP} itself" in said
    assert "probe from another host of the segment, or give 'through'" in said


# -- through one backend


@pytest.mark.parametrize("protocol, port", [("tcp", HTTP), ("udp", UDP)])
@pytest.mark.parametrize("host", ["lb", "client"])
def test_each_backend_answers_for_the_vip(lab: Lab, lab_module: Any, host: str, protocol: str, port: int) -> None:
    for mac in (B1, B2, B3):
        result = lab_module.ok(host, "dsr_probe", ask(through=mac, protocol=protocol, port=port, connections=5))
        assert totals(result) == (5, 0, 5, 0)
        assert [(entry["mac"], entry["connections"]) for entry in result["backends"]] == [(mac, 5)]


def test_a_probe_through_a_backend_leaves_no_trace(lab: Lab, lab_module: Any) -> None:
    """SYN and RST, no more: the kernel of the load balancer, which holds the VIP, takes no part."""
    capture = lab.start_traffic("lb", "capture", "eth0", "--protocol", "tcp", "--records", 999)
    try:
        lab_module.ok("lb", "dsr_probe", ask(through=B1, connections=20))
        frames = capture.stop()["records"]
    finally:
        capture.close()
    seen = collections.Counter((frame["from_mac"], frame["to_mac"], frame["flags"]) for frame in frames)
    assert seen == {(LB, B1, "S"): 20, (B1, LB, "SA"): 20, (LB, B1, "RA"): 20}
    assert len({frame["source_port"] for frame in frames if frame["flags"] == "S"}) == 20
    assert lab.run("b1", ["ss", "-Htn", "state", "syn-recv", "dst", "10.77.0.2"]).stdout == ""
    assert lab.run("lb", ["ss", "-Htan"]).stdout == "", "ports are given back"


def test_it_sends_from_an_address_that_is_no_vip(lab: Lab, lab_module: Any) -> None:
    capture = lab.start_traffic("b1", "capture", "eth0", "--protocol", "tcp", "--destination", VIP, "--records", 9)
    try:
        lab_module.ok("lb", "dsr_probe", ask(through=B1, connections=1))
        frames = capture.stop()["records"]
    finally:
        capture.close()
    assert {frame["source"] for frame in frames} == {"10.77.0.2"}


def test_a_backend_without_the_service(lab: Lab, lab_module: Any) -> None:
    result = lab_module("lb", "dsr_probe", ask(through=B2, port=CLOSED, connections=4))
    assert totals(result) == (0, 4, 0, 0)
    assert f"4 refused (TCP RST) by {B2}" in result["msg"]


def test_a_backend_without_the_vip(lab: Lab, lab_module: Any) -> None:
    lab.ip("b2", f"address delete {VIP}/32 dev lo")
    try:
        result = lab_module("lb", "dsr_probe", ask(through=B2, connections=4, timeout=0.4))
    finally:
        lab.ip("b2", f"address add {VIP}/32 dev lo")
    assert totals(result) == (0, 4, 0, 0)
    assert "4 without an answer within 0.4 s" in result["msg"]


def test_a_backend_that_passes_the_vips_packets_on(lab: Lab, lab_module: Any) -> None:
    lab.ip("b2", f"address delete {VIP}/32 dev lo", f"neighbour replace {VIP} lladdr {B1} dev eth0 nud permanent")
    lab.run("b2", ["sysctl", "-qw", "net.ipv4.ip_forward=1"])
    try:
        result = lab_module("client", "dsr_probe", ask(through=B2, connections=4))
    finally:
        lab.run("b2", ["sysctl", "-qw", "net.ipv4.ip_forward=0"])
        lab.ip("b2", f"neighbour delete {VIP} dev eth0", f"address add {VIP}/32 dev lo")
    assert totals(result) == (4, 0, 0, 0)
    assert result["failed"] is True
    assert f"sent to {B2} were answered by {B1}" in result["msg"]


def test_a_mac_that_nobody_has(lab: Lab, lab_module: Any) -> None:
    result = lab_module("lb", "dsr_probe", ask(through="02:00:00:00:00:99", timeout=0.4, connections=4))
    assert totals(result) == (0, 4, 0, 0)


# -- IPv6

VIP6 = VIPS6[0]
NOBODYS6 = "fd00:77::199"


@pytest.fixture
def balanced6(lab: Lab) -> str:
    """The same by hand for IPv6; the VIP of it."""
    text = rules(which="ip6 saddr != ::").replace(f"ip daddr {VIP}", f"ip6 daddr {VIP6}")
    lab.run("lb", ["nft", "-f", "-"], input=text.replace("jhash ip saddr", "jhash @nh,128,64"))
    return VIP6


@pytest.mark.parametrize("protocol, port", [("tcp", HTTP), ("udp", UDP)])
def test_direct_return_of_ipv6_is_proven(lab: Lab, lab_module: Any, balanced6: str, protocol: str, port: int) -> None:
    lab.ip("client", "neighbour flush all")
    result = lab_module.ok("client", "dsr_probe", ask(address=balanced6, protocol=protocol, port=port, connections=60))
    assert totals(result) == (60, 0, 60, 0)
    assert (result["address"], result["lb_mac"], result["arp_macs"]) == (balanced6, LB, [LB])
    assert {entry["mac"] for entry in result["backends"]} == {B1, B2, B3}
    assert all(0 < entry["rtt_ms"]["min"] < 2000 for entry in result["backends"])


def test_an_answer_in_fragments_is_seen(lab: Lab, lab_module: Any, balanced6: str) -> None:
    wish = "token reply 4000 "
    for address in (VIP6, ADDRESSES6["b1"], ADDRESSES["b1"]):
        asked = ask(address=address, protocol="udp", port=UDP, payload=wish, lb_mac=LB, connections=5)
        assert totals(lab_module.ok("client", "dsr_probe", asked)) == (5, 0, 5, 0)


@pytest.mark.parametrize("protocol, port", [("tcp", HTTP), ("udp", UDP)])
def test_a_proxy_of_ipv6_is_found_out(lab: Lab, lab_module: Any, protocol: str, port: int) -> None:
    with lab.start_traffic("lb", "serve", "--http", HTTP, "--udp", UDP):
        result = fails_with(lab_module, "client", address=VIP6, protocol=protocol, port=port)
    assert totals(result) == (30, 0, 0, 30)
    assert f"[{VIP6}]:{port}/{protocol} were answered through the load balancer (MAC {LB})" in result["msg"]


def test_a_backend_that_answers_for_an_ipv6_vip_is_found_out(lab: Lab, lab_module: Any, balanced6: str) -> None:
    lab.ip("b3", f"address add {VIP6}/128 dev eth0 nodad")
    try:
        result = lab_module("client", "dsr_probe", ask(address=VIP6))
    finally:
        lab.ip("b3", f"address delete {VIP6}/128 dev eth0")
    assert result["arp_macs"] == [LB, B3]
    said = f"several hosts answer neighbour solicitations for {VIP6} ({LB}, {B3})"
    assert said in result["msg"]
    assert "one of them may be a backend that holds the VIP on its NIC and not on lo" in result["msg"]


def test_ports_of_ipv6_that_nobody_listens_on(lab: Lab, lab_module: Any, balanced6: str) -> None:
    result = lab_module("client", "dsr_probe", ask(address=balanced6, port=CLOSED, timeout=60.0, connections=9))
    assert totals(result) == (0, 9, 0, 0)
    assert "refused (TCP RST) by 02:d5:00:00:00:" in result["msg"]
    asked = ask(address=balanced6, port=CLOSED, protocol="udp", connections=3, timeout=0.5)
    result = lab_module("client", "dsr_probe", asked)
    assert totals(result) == (0, 3, 0, 0)
    assert "refused (ICMP unreachable: port) by 02:d5:00:00:00:" in result["msg"]


def test_nobody_has_the_ipv6_address(lab: Lab, lab_module: Any) -> None:
    result = lab_module("client", "dsr_probe", ask(address=NOBODYS6, timeout=0.4, connections=3))
    assert totals(result) == (0, 3, 0, 0)
    said = f"nobody answers neighbour solicitations for {NOBODYS6} on eth0; is that address on its NIC?"
    assert said in result["msg"]
    no_route = lab_module.fails("client", "dsr_probe", ask(address="2001:db8::1"))
    assert "this host has no route to 2001:db8::1" in no_route


@pytest.mark.parametrize("protocol, port", [("tcp", HTTP), ("udp", UDP)])
@pytest.mark.parametrize("host", ["lb", "client"])
def test_each_backend_answers_for_the_ipv6_vip(lab: Lab, lab_module: Any, host: str, protocol: str, port: int) -> None:
    for mac in (B1, B2, B3):
        asked = ask(address=VIP6, through=mac, protocol=protocol, port=port, connections=5)
        result = lab_module.ok(host, "dsr_probe", asked)
        assert totals(result) == (5, 0, 5, 0)
        assert [(entry["mac"], entry["connections"]) for entry in result["backends"]] == [(mac, 5)]


def test_it_sends_from_an_ipv6_address_that_is_no_vip(lab: Lab, lab_module: Any) -> None:
    """From the host's own address, and from its link-local one where it has no other."""

    def sources() -> set[str]:
        watched = ["eth0", "--protocol", "tcp", "--destination", VIP6, "--records", 9]
        with lab.start_traffic("b1", "capture", *watched) as capture:
            lab_module.ok("lb", "dsr_probe", ask(address=VIP6, through=B1, connections=2))
            return {frame["source"] for frame in capture.stop()["records"]}

    assert sources() == {ADDRESSES6["lb"]}
    lab.ip("lb", f"address delete {ADDRESSES6['lb']}/64 dev eth0")
    try:
        assert sources() == {"fe80::d5:ff:fe00:2"}
    finally:
        lab.ip("lb", f"address add {ADDRESSES6['lb']}/64 dev eth0 nodad")


def test_a_backend_without_the_ipv6_vip(lab: Lab, lab_module: Any) -> None:
    lab.ip("b2", f"address delete {VIP6}/128 dev lo")
    try:
        result = lab_module("lb", "dsr_probe", ask(address=VIP6, through=B2, connections=4, timeout=0.4))
    finally:
        lab.ip("b2", f"address add {VIP6}/128 dev lo")
    assert totals(result) == (0, 4, 0, 0)
    assert "4 without an answer within 0.4 s" in result["msg"]


@pytest.mark.parametrize("host", ["lb", "b1"])
def test_a_holder_of_the_ipv6_vip_is_no_client_of_it(lab: Lab, lab_module: Any, host: str) -> None:
    assert f"address: this host holds {VIP6} itself" in lab_module.fails(host, "dsr_probe", ask(address=VIP6))


# -- the filter in the kernel

WATCH = """
import json, socket, sys
from ansible_collections.dsr.layer2.plugins.module_utils.common import bpf, iproute, packet, packet_socket
from ipaddress import ip_address
vip, port, other = json.load(sys.stdin)
program = bpf.replies_from(ip_address(vip), packet.PROTOCOL_TCP, port)
link = packet_socket.ethernet_link(iproute.Iproute(), "eth0")
channel = packet_socket.PacketSocket(link, packet_socket.ALL_PROTOCOLS, program)
for target in (other, port, other):
    socket.create_connection((vip, target), 2).close()
seen = []
for frame, _when in channel.frames():
    kind = packet.IPv6 if ":" in vip else packet.IPv4
    ip = kind.parse(packet.Ethernet.parse(frame).payload)
    seen.append([str(ip.source), ip.protocol, packet.Tcp.parse(ip.payload).source_port])
print(json.dumps(seen))
"""


@pytest.mark.parametrize("address", [VIP, ADDRESSES6["b1"]])
def test_the_kernel_lets_through_what_was_asked_for_alone(lab: Lab, module_runner: ModuleRunner, address: str) -> None:
    python = ["/usr/bin/env", f"PYTHONPATH={module_runner.folder}", "PYTHONDONTWRITEBYTECODE=1", "/usr/bin/python3"]
    seen = lab.run("client", [*python, "-c", WATCH], input=json.dumps([address, HTTP, 8080])).json()
    assert seen, "the SYN-ACK at least"
    assert {tuple(entry) for entry in seen} == {(address, 6, HTTP)}
