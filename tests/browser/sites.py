# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What load balancers, backends and clients could have returned to `report`: a small site, a sick one, a large one."""

from __future__ import annotations

from typing import Any

from ansible_collections.dsr.layer2.plugins.plugin_utils.report.model import Answer, Gathered, Probed

AT = "2026-11-23T20:05:00Z"
SINCE = "2026-11-23T16:00:00Z"
# What a backend could say to a health check, and an inventory call a host
SCRIPT = "<script>window.hacked = 1</script>"
IMAGE = "\"><img src=x onerror='window.hacked = 2'>"
ENTITY = "&lt;b&gt; {{ 7 * 7 }} </title></style>\u202e\x1b[31m"


def backend(number: int, **more: Any) -> dict[str, Any]:
    return {
        "address": f"192.0.2.{20 + number}" if number < 200 else f"198.51.100.{number - 199}",
        "name": f"web{number}",
        "mac": f"02:00:00:00:{number // 256:02x}:{number % 256:02x}",
        "weight": 1,
        "state": "up",
        "backup": False,
        "packets": 300_000 + 1000 * number,
        "bytes": 100_000_000 + 98_000 * number,
        "flows": 0,
        "healthy": True,
        "cause": None,
        "since": None,
        **more,
    }


def failing(number: int, cause: str = "connection refused", **more: Any) -> dict[str, Any]:
    return backend(number, healthy=False, cause=cause, since=SINCE, **more)


def vip(name: str = "web", **more: Any) -> dict[str, Any]:
    backends = more.pop("backends", None) or [backend(number) for number in (1, 2, 3)]
    return {
        "name": name,
        "address": "192.0.2.100",
        "protocol": "tcp",
        "ports": ["80", "443"],
        "scheduler": "connection_hash",
        "on_empty": "drop",
        "health_check": {"type": "http"},
        "health_ignored": False,
        "in_sync": True,
        "differences": [],
        "packets": sum(row["packets"] for row in backends),
        "bytes": sum(row["bytes"] for row in backends),
        "backends": backends,
        **more,
    }


def balancer(*vips: dict[str, Any], host: str = "lb1") -> Answer:
    return Answer(host, {"present": True, "vips": list(vips)})


def holder(number: int, *problems: str) -> Answer:
    return Answer(f"web{number}", {"vips": [{"address": "192.0.2.100"}], "problems": list(problems)})


def probed(name: str = "web", **more: Any) -> Probed:
    shares = [{"mac": f"02:00:00:00:00:0{number}", "connections": 2 * number} for number in (2, 3)]
    found = {"answered": 10, "unanswered": 0, "direct": 10, "through_lb": 0, "backends": shares, **more}
    return Probed("client1", name, found)


def small() -> Gathered:
    """One VIP, and all is well."""
    return Gathered(
        AT,
        [balancer(vip())],
        backends=[holder(number) for number in (1, 2, 3)],
        clients=[Answer("client1", {"ping": "pong"})],
        probes=[probed()],
    )


def sick() -> Gathered:
    """Some of everything that can go wrong, with texts that nobody should trust."""
    web = [
        backend(1, weight=2),
        backend(2, state="drain", name="web2" + IMAGE),
        failing(3, f"{SCRIPT} said {IMAGE} {ENTITY}"),
    ]
    first = [
        vip(backends=web),
        vip(
            "api",
            address="192.0.2.101",
            scheduler="weighted_least_connections",
            backends=[backend(1, flows=40), backend(2, flows=7, backup=True), backend(3, flows=70)],
        ),
        vip(
            "dns",
            address="192.0.2.102",
            protocol="udp",
            ports=["53"],
            in_sync=False,
            differences=[f"chain vip_dns: {SCRIPT}"],
            backends=[backend(1, state="down"), failing(2, "timed out")],
        ),
        vip("mail", address="2001:db8::100", ports=["25", "465", "587"], backends=[backend(4, mac=None), backend(5)]),
    ]
    second = [vip(backends=[*web[:2], backend(3)], scheduler="source_hash"), *first[1:3]]
    long_way = probed(
        "api",
        direct=7,
        through_lb=3,
        msg="3 of 10 connections were answered through the load balancer (MAC 02:00:00:00:00:01)",
    )
    return Gathered(
        AT,
        [
            balancer(*first),
            balancer(*second, host="lb2"),
            Answer("lb3", problem="Failed to connect to the host via ssh: " + SCRIPT),
        ],
        neighbours=[
            Answer("lb1", {"answers": [{"address": "192.0.2.100", "macs": ["02:00:00:00:00:01"]}]}),
            Answer("lb2", {"answers": [{"address": "192.0.2.101", "macs": ["02:00:00:aa:00:01"]}]}),
        ],
        backends=[
            holder(1, f"answers ARP for 192.0.2.100 on eth0 {IMAGE}"),
            holder(2),
            Answer("web3", problem="timed out"),
        ],
        clients=[Answer("client1", {"ping": "pong"}), Answer("client2", asked=False)],
        probes=[probed(), long_way],
        wanted=[first[0], first[1], vip("gone", address="192.0.2.109")],
    )


def large(vips: int = 1000, backends: int = 8) -> Gathered:
    """So many VIPs, each with so many of 240 backends."""
    schedulers = ("connection_hash", "source_hash", "round_robin", "weighted_least_connections")
    served = []
    for number in range(vips):
        rows = [
            backend(
                (number // 4 % 30) * 8 + place + 1,
                packets=(number * 7919 + place * 104729) % 1_000_000,
                bytes=(number * 7919 + place * 104729) * 900,
            )
            for place in range(backends)
        ]
        if number % 100 == 7:
            rows[2].update(healthy=False, cause="connection refused", since=SINCE)
        if number % 100 == 9:
            rows[3]["state"] = "drain"
        if number == 600:
            rows = [{**row, "healthy": False, "cause": "timed out", "since": SINCE} for row in rows]
        served.append(
            vip(
                f"service-{number:04d}",
                address=f"203.0.{number // 250}.{number % 250 + 1}",
                ports=[str(8000 + number % 50)],
                scheduler=schedulers[number % 4],
                backends=rows,
                in_sync=number != 500,
                differences=["chain pool_web: is missing"] if number == 500 else [],
            )
        )
    hosts = [Answer(f"web{number}", {"vips": [{"address": "203.0.0.1"}], "problems": []}) for number in range(1, 241)]
    return Gathered(AT, [balancer(*served)], backends=hosts, untested="the inventory has no host in dsr_clients")
