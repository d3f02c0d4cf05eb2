# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The load balancer of a test: told what to serve by the modules, and met with real traffic."""

from __future__ import annotations

from typing import Any, Optional

from lab import Lab
from lab.running import Running
from lab.standard import beside

WEB, OTHER = "10.77.0.100", "10.77.0.101"
LINES, HTTP, UDP = 7000, 80, 5300
WEB6, OTHER6 = beside(WEB), beside(OTHER)
ADDRESSES = {"b1": "10.77.0.21", "b2": "10.77.0.22", "b3": "10.77.0.23"}
ADDRESSES6 = {name: beside(address) for name, address in ADDRESSES.items()}
# A client that only crafted packets come from: no host of the lab answers for it.
NOBODY = {4: "10.77.0.11", 6: "fd00:77::11"}
HASHED = ("source_hash", "connection_hash")
TURNS = ("round_robin", "weighted_round_robin")
LEAST = ("least_connections",)  # in turns, while no agent steers
TCP_AND_UDP = [("tcp", LINES), ("udp", UDP)]


def pool(version: int = 4, **changes: Any) -> list[dict[str, Any]]:
    """The three backends; ``b1={...}`` changes one, ``b1=None`` leaves it out."""
    return [
        {"name": name, "address": address, **(changes.get(name) or {})}
        for name, address in (ADDRESSES if version == 4 else ADDRESSES6).items()
        if changes.get(name, {}) is not None
    ]


class Balancer:
    """The load balancer of the test's lab, told what to serve by the module."""

    def __init__(self, lab: Lab, module: Any) -> None:
        self.lab = lab
        self.module = module
        self.version = 4  # of the VIP that is served
        self.protocol = "tcp"

    @property
    def address(self) -> str:
        return WEB if self.version == 4 else WEB6

    def serve(
        self,
        scheduler: str,
        protocol: str = "tcp",
        ports: Optional[tuple[int, ...]] = (HTTP, LINES),
        backends: Any = None,
        others: Any = (),
        version: int = 4,
        **options: Any,
    ) -> dict[str, Any]:
        """Serve one VIP (and ``others``), and make sure that the next run finds nothing to do."""
        self.version = version
        self.protocol = protocol
        vip = {
            "name": "web",
            "address": self.address,
            "protocol": protocol,
            "ports": None if ports is None else [str(port) for port in ports],
            "scheduler": scheduler,
            "backends": pool(version) if backends is None else backends,
            **options,
        }
        arguments = {"vips": [vip, *others], "purge": True}
        result = self.module.ok("lb", "nft_dsr_vips", arguments)
        self.forget()
        again = self.module.ok("lb", "nft_dsr_vips", arguments, diff=True)
        assert not again["changed"], again["diff"]
        return result

    def forget(self) -> None:
        """Let the next run ask the kernel for everything: somebody else's transaction came in between."""
        self.nft("add table netdev somebody; delete table netdev somebody")

    def info(self) -> dict[str, Any]:
        return self.module.ok("lb", "nft_dsr_vip_info", {"name": "web"})["vips"][0]

    def flows(self) -> dict[str, int]:
        return {backend["name"]: backend["flows"] for backend in self.info()["backends"]}

    def nft(self, *arguments: str, text: str | None = None) -> str:
        return self.lab.run("lb", ["nft", *arguments], input=text).stdout

    def connect(self, port: int = HTTP, count: int = 300, *arguments: object, protocol: str = "tcp") -> dict[str, Any]:
        return self.lab.traffic(
            "client",
            "connect",
            self.address,
            port,
            "--count",
            count,
            "--concurrency",
            5,
            "--protocol",
            protocol,
            *arguments,
        )

    def hold(
        self,
        count: int = 40,
        port: int = LINES,
        protocol: str = "tcp",
        *arguments: object,
        address: Optional[str] = None,
    ) -> Running:
        """Connections that are kept open and busy until ``stop()``."""
        return self.lab.start_traffic(
            "client",
            "hold",
            address or self.address,
            port,
            "--count",
            count,
            "--interval",
            0.02,
            "--protocol",
            protocol,
            *arguments,
        )

    def frames_to(self, *arguments: object) -> Running:
        """Count the frames that the load balancer sends out, until ``stop()``."""
        return self.lab.start_traffic("lb", "capture", "eth0", "--direction", "out", *arguments)

    def send(self, flags: str = "S", source_port: int = 41000, count: int = 1, **options: Any) -> None:
        """Send crafted frames to the load balancer, by default as a client that no host of the lab is."""
        given = {
            "source": NOBODY[self.version],
            "destination": self.address,
            "port": LINES,
            "source_ports": source_port,
            "protocol": self.protocol,
            "flags": flags,
            "count": count,
            **options,
        }
        words = [word for key, value in given.items() if value is not None for word in (_option(key), value)]
        self.lab.traffic("client", "send", "eth0", "--to-mac", self.lab.hosts["lb"].mac, *words)

    def where(self, expected: int = 1, **options: Any) -> str:
        """To which backend crafted frames go, that is all ``expected`` of them; '' when none is sent on."""
        capture = self.frames_to(
            "--destination",
            options.get("destination", self.address),
            "--source",
            options.get("source", NOBODY[self.version]),
        )
        self.send(**options)
        macs = capture.stop()["by_destination"]
        if not macs:
            return ""
        names = {host.mac: name for name, host in self.lab.hosts.items()}
        assert len(macs) == 1 and next(iter(macs.values()))["frames"] == expected, (options, macs)
        return names[next(iter(macs))]


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def clean(held: dict[str, Any]) -> None:
    """Nothing happened to these connections."""
    assert held["opened"] == held["connections"] and held["broken"] == 0 and held["moved"] == 0, held
    assert held["lines"] > held["connections"], held
