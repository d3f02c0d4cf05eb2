# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The preflight on real hosts: frames that harm nobody, what the kernel says of NICs, firewalls, listeners."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from lab import Lab
from lab.modules import ModuleRunner
from lab.standard import ADDRESSES, ADDRESSES6, VIPS, VIPS6

MARKER = "0123456789abcdef"
B1 = "02:d5:00:00:00:15"
POOLS = [
    {
        "vips": [
            {"name": "web", "address": VIPS[0], "ports": ["80"]},
            {"name": "six", "address": VIPS6[0], "ports": ["80"]},
        ],
        "backends": [{"address": ADDRESSES["b1"], "name": "b1"}, {"address": ADDRESSES6["b2"], "name": "b2"}],
    }
]
TO_VIPS = [
    {"mac": B1, "interface": "eth0", "sources": [own["lb"]], "destinations": [own["b1"], vip]}
    for own, vip in ((ADDRESSES, VIPS[0]), (ADDRESSES6, VIPS6[0]))
]


def look(lab_module: Any, host: str, end: str, **how: Any) -> dict[str, list[tuple[str, str]]]:
    """Findings by check: result and text."""
    found: dict[str, list[tuple[str, str]]] = {}
    for one in lab_module.ok(host, "dsr_preflight_info", {"end": end, "pools": POOLS, **how})["findings"]:
        found.setdefault(one["check"], []).append((one["result"], one["what"]))
    return found


@pytest.fixture
def listening(lab_module: Any) -> Iterator[Any]:
    """Starts listeners; none of them is left."""
    hosts = []

    def listen(host: str, **how: Any) -> None:
        lab_module.ok(host, "dsr_vip_frames", {"state": "listen", "marker": MARKER, **how})
        hosts.append(host)

    yield listen
    for host in hosts:
        lab_module(host, "dsr_vip_frames", {"state": "heard", "marker": MARKER})


def heard(lab_module: Any, host: str) -> Any:
    return lab_module.ok(host, "dsr_vip_frames", {"state": "heard", "marker": MARKER})["heard"]


def send(lab_module: Any, host: str, frames: list[dict[str, Any]]) -> Any:
    return lab_module.ok(host, "dsr_vip_frames", {"state": "send", "marker": MARKER, "sender": host, "frames": frames})


def test_frames_arrive_and_nobody_answers(lab: Lab, lab_module: Any, listening: Any) -> None:
    listening("b1")
    with lab.start_traffic("b1", "capture", "eth0", "--direction", "out", "--records", 100) as answers:
        assert send(lab_module, "lb", TO_VIPS)["sent"] == 4
        (found,) = heard(lab_module, "b1")
        told = answers.stop()
    assert (found["interface"], found["sender"]) == ("eth0", "lb")
    assert found["packets"] == sorted(
        f"{own['lb']} > {to}" for own, vip in ((ADDRESSES, VIPS[0]), (ADDRESSES6, VIPS6[0])) for to in (own["b1"], vip)
    )
    # Neighbour discovery may speak; no datagram comes back, and no ICMP error.
    kinds = [(one["protocol"], one.get("type", 0)) for one in told["records"]]
    assert [kind for kind in kinds if kind[0] in ("udp", "icmp") or (kind[0] == "icmpv6" and kind[1] < 128)] == []


def test_a_backend_without_the_vip_that_forwards_sends_nothing_on(lab: Lab, lab_module: Any, listening: Any) -> None:
    lab.ip("b1", f"address delete {VIPS[0]}/32 dev lo")
    lab.run("b1", ["sysctl", "-qw", "net.ipv4.ip_forward=1"])
    try:
        listening("b1")
        with lab.start_traffic(
            "b1", "capture", "eth0", "--direction", "out", "--protocol", "udp", "--destination", VIPS[0]
        ) as sent_on:
            send(lab_module, "lb", TO_VIPS[:1])
            assert len(heard(lab_module, "b1")[0]["packets"]) == 2
            assert sent_on.stop()["frames"] == 0
    finally:
        lab.run("b1", ["sysctl", "-qw", "net.ipv4.ip_forward=0"])
        lab.ip("b1", f"address add {VIPS[0]}/32 dev lo")


def test_a_live_vip_of_any_protocol_passes_none_of_it_on(
    lab: Lab, lab_module: Any, balancer: Any, listening: Any
) -> None:
    vip = {"name": "all", "address": VIPS[0], "protocol": "any", "backends": [{"address": ADDRESSES["b1"]}]}
    lab_module.ok("lb", "nft_dsr_vips", {"vips": [vip]})
    listening("lb")
    as_vip = [{"sources": [VIPS[0], ADDRESSES["b1"]], "destinations": [ADDRESSES["lb"]]}]
    with lab.start_traffic("b1", "capture", "eth0", "--direction", "in", "--protocol", "udp") as came_back:
        assert send(lab_module, "b1", as_vip)["sent"] == 2
        (found,) = heard(lab_module, "lb")
        assert came_back.stop()["frames"] == 0
    assert found["packets"] == sorted(f"{one} > {ADDRESSES['lb']}" for one in (VIPS[0], ADDRESSES["b1"]))


def test_a_listener_is_alone_with_its_marker_and_ends_by_itself(lab: Lab, lab_module: Any, listening: Any) -> None:
    listening("b2", seconds=2)
    given = {"state": "listen", "marker": MARKER}
    assert "somebody listens with the marker" in lab_module.fails("b2", "dsr_vip_frames", given)
    # It holds the port, so that this host does not say that nobody is there.
    sockets = ["ss", "-Hlun", "sport = :9"]
    assert lab.run("b2", sockets).stdout.count(":9") == 2
    until = time.monotonic() + 20
    while lab.run("b2", sockets).stdout and time.monotonic() < until:
        time.sleep(0.1)
    assert "nobody listens with the marker" in lab_module.fails(
        "b2", "dsr_vip_frames", {"state": "heard", "marker": MARKER}
    )


FLAGS = """
import json
from ansible_collections.dsr.layer2.plugins.module_utils.preflight import offloads
print(json.dumps([offloads.lro("eth0"), offloads.gro("eth0"), offloads.lro("eth7")]))
"""


def test_the_driver_is_asked(lab: Lab, module_runner: ModuleRunner) -> None:
    """A virtual NIC has no LRO to turn on; GRO is read in the same way, and follows what ethtool sets."""
    python = ["/usr/bin/env", f"PYTHONPATH={module_runner.folder}", "PYTHONDONTWRITEBYTECODE=1", "/usr/bin/python3"]

    def read() -> Any:
        return lab.run("lb", [*python, "-c", FLAGS]).json()

    try:
        for state in ("on", "off"):
            lab.run("lb", ["ethtool", "-K", "eth0", "gro", state])
            assert read() == [False, state == "on", None]
    finally:
        lab.run("lb", ["ethtool", "-K", "eth0", "gro", "off"])


def test_a_load_balancer(lab: Lab, lab_module: Any) -> None:
    found = look(lab_module, "lb", "load_balancer")
    assert {result for rows in found.values() for result, _what in rows} == {"ok"}
    assert ("ok", "2 of 2 backends answer on eth0") in found["segment"]
    # An operator's drain counts: nothing of that backend fails any more.
    lab.unplug("b1")
    try:
        assert look(lab_module, "lb", "load_balancer", timeout=0.2)["segment"] == [
            ("FAILED", "b1 (10.77.0.21): no answer to ARP on eth0"),
            ("ok", "1 of 2 backends answer on eth0"),
        ]
        document = {"version": 1, "drained": [{"backend": ADDRESSES["b1"], "vip": None}]}
        lab.write("lb", "/etc/nft-dsr/overrides.json", json.dumps(document))
        (gone, _there) = look(lab_module, "lb", "load_balancer", timeout=0.2)["segment"]
        assert gone[0] == "warning"
    finally:
        lab.plug("b1")
        lab.run("lb", ["rm", "-rf", "/etc/nft-dsr"])


def test_a_service_that_listens_at_the_backends_own_address(lab: Lab, lab_module: Any) -> None:
    code = (
        "import socket, time; s = socket.socket(); s.bind(('10.77.0.21', 4711)); s.listen(); print('READY', flush=True)"
    )
    code += "; time.sleep(60)"
    pools = [{"vips": [{"address": VIPS[0], "ports": ["4711"]}], "backends": [{"address": ADDRESSES["b1"]}]}]
    with lab.popen("b1", ["/usr/bin/python3", "-c", code]).wait_for("READY"):
        (found,) = look(lab_module, "b1", "backend", pools=pools)["service"]
    assert found[0] == "FAILED"
    assert found[1].startswith("tcp 4711 is served at 10.77.0.21 (python3")


def test_rules_of_iptables_are_seen(lab: Lab, lab_module: Any) -> None:
    """Those of iptables-nft are nft's; what its extensions say can't be told, so nothing is claimed."""
    rules = (
        "table ip filter {\nchain INPUT {\ntype filter hook input priority 0; policy accept;\ntcp dport 80 drop\n}\n}\n"
    )
    lab.run("b1", ["nft", "-f", "-"], input=rules)
    own = [{**POOLS[0], "backends": POOLS[0]["backends"][:1]}]
    try:
        (found,) = look(lab_module, "b1", "backend", pools=own)["firewall"]
        assert found == (
            "warning",
            "the rule 'tcp dport 80 drop' of ip filter INPUT (handle 2) drops 10.77.0.100 tcp 80",
        )
    finally:
        lab.run("b1", ["nft", "delete", "table", "ip", "filter"])


def test_a_thousand_vips(lab: Lab, lab_module: Any) -> None:
    vips = [{"address": f"10.77.{4 + n // 250}.{n % 250}", "ports": ["80", "443"]} for n in range(1000)]
    pools = [{"vips": vips, "backends": [{"address": ADDRESSES["b1"]}]}]
    took = {}
    for host, end in (("lb", "load_balancer"), ("b1", "backend"), ("client", "client")):
        began = time.monotonic()
        lab_module.ok(host, "dsr_preflight_info", {"end": end, "pools": pools})
        took[end] = time.monotonic() - began
    assert max(took.values()) < 30, took


SINK = """
import socket, threading
server = socket.create_server(("", 4712))
print("READY", flush=True)
def take(peer):
    size = 0
    while data := peer.recv(65536):
        size += len(data)
    peer.sendall(str(size).encode())
    peer.close()
while True:
    threading.Thread(target=take, args=(server.accept()[0],)).start()
"""
UPLOAD = """
import socket
peer = socket.create_connection(("10.77.0.100", 4712), 10)
peer.settimeout(3)
try:
    peer.sendall(b"x" * 200000)
    peer.shutdown(socket.SHUT_WR)
    print(peer.recv(99).decode())
except TimeoutError:
    print("stalls")
"""


def test_which_way_another_mtu_is_dangerous(lab: Lab, lab_module: Any, balancer: Any) -> None:
    """The page says it: a smaller one of the load balancer stalls uploads, a smaller one of the backend does not."""
    vip = {"name": "up", "address": VIPS[0], "ports": ["4712"], "backends": [{"address": ADDRESSES["b1"]}]}
    lab_module.ok("lb", "nft_dsr_vips", {"vips": [vip]})
    # Else the lab's NICs hand over several frames as one, which no wire does.
    lab.run("client", ["ethtool", "-K", "eth0", "tso", "off", "gso", "off"])
    try:
        with lab.popen("b1", ["/usr/bin/python3", "-c", SINK]).wait_for("READY"):
            for host, expected in (("b1", "200000"), ("lb", "stalls"), ("client", "200000")):
                lab.ip(host, "link set eth0 mtu 1400")
                assert lab.run("client", ["/usr/bin/python3", "-c", UPLOAD]).stdout.strip() == expected, host
                lab.ip(host, "link set eth0 mtu 1500")
    finally:
        for host in ("b1", "lb", "client"):
            lab.ip(host, "link set eth0 mtu 1500")
        lab.run("client", ["ethtool", "-K", "eth0", "tso", "on", "gso", "on"])
