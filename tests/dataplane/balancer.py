# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The load balancer of a test: told what to serve by the modules, and met with real traffic."""

from __future__ import annotations

from typing import Any

from lab import Lab
from lab.running import Running

WEB, OTHER = "10.77.0.100", "10.77.0.101"
LINES, HTTP, UDP = 7000, 80, 5300
ADDRESSES = {"b1": "10.77.0.21", "b2": "10.77.0.22", "b3": "10.77.0.23"}
HASHED = ("source_hash", "connection_hash")
TURNS = ("round_robin", "weighted_round_robin")
TCP_AND_UDP = [("tcp", LINES), ("udp", UDP)]


def pool(**changes: Any) -> list[dict[str, Any]]:
    """The three backends; ``b1={...}`` changes one, ``b1=None`` leaves it out."""
    return [
        {"name": name, "address": address, **(changes.get(name) or {})}
        for name, address in ADDRESSES.items()
        if changes.get(name, {}) is not None
    ]


class Balancer:
    """The load balancer of the test's lab, told what to serve by the module."""

    def __init__(self, lab: Lab, module: Any) -> None:
        self.lab = lab
        self.module = module

    def serve(
        self,
        scheduler: str,
        protocol: str = "tcp",
        ports: tuple[int, ...] = (HTTP, LINES),
        backends: Any = None,
        others: Any = (),
        **options: Any,
    ) -> dict[str, Any]:
        """Serve one VIP (and ``others``), and make sure that the next run finds nothing to do."""
        vip = {
            "name": "web",
            "address": WEB,
            "protocol": protocol,
            "ports": [str(port) for port in ports],
            "scheduler": scheduler,
            "backends": pool() if backends is None else backends,
            **options,
        }
        arguments = {"vips": [vip, *others], "purge": True}
        result = self.module.ok("lb", "nft_dsr_vips", arguments)
        again = self.module.ok("lb", "nft_dsr_vips", arguments, diff=True)
        assert not again["changed"], again["diff"]
        return result

    def info(self) -> dict[str, Any]:
        return self.module.ok("lb", "nft_dsr_vip_info", {"name": "web"})["vips"][0]

    def flows(self) -> dict[str, int]:
        return {backend["name"]: backend["flows"] for backend in self.info()["backends"]}

    def nft(self, *arguments: str, text: str | None = None) -> str:
        return self.lab.run("lb", ["nft", *arguments], input=text).stdout

    def connect(self, port: int = HTTP, count: int = 300, *arguments: object, protocol: str = "tcp") -> dict[str, Any]:
        return self.lab.traffic(
            "client", "connect", WEB, port, "--count", count, "--concurrency", 5, "--protocol", protocol, *arguments
        )

    def hold(
        self, count: int = 40, port: int = LINES, protocol: str = "tcp", *arguments: object, address: str = WEB
    ) -> Running:
        """Connections that are kept open and busy until ``stop()``."""
        return self.lab.start_traffic(
            "client", "hold", address, port, "--count", count, "--interval", 0.02, "--protocol", protocol, *arguments
        )

    def frames_to(self, *arguments: object) -> Running:
        """Count the frames that the load balancer sends out, until ``stop()``."""
        return self.lab.start_traffic("lb", "capture", "eth0", "--direction", "out", *arguments)

    def send(self, flags: str, source_port: int, count: int = 1, **options: Any) -> None:
        """Send crafted frames as the client, to the load balancer."""
        more = [word for key, value in options.items() for word in (f"--{key.replace('_', '-')}", value)]
        self.lab.traffic(
            "client", "send", "eth0", "--to-mac", self.lab.hosts["lb"].mac, "--source", "10.77.0.11",
            "--destination", WEB, "--port", LINES, "--source-ports", source_port, "--flags", flags,
            "--count", count, *more,
        )  # fmt: skip


def clean(held: dict[str, Any]) -> None:
    """Nothing happened to these connections."""
    assert held["opened"] == held["connections"] and held["broken"] == 0 and held["moved"] == 0, held
    assert held["lines"] > held["connections"], held
