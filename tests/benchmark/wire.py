# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where packets are measured: one client, one load balancer for each peer, and one NIC that is all backends.

All peers stand on the same bridge at the same time, each on a load balancer of its own, so going from one to
the next takes no more than another destination MAC address, and can be done every few milliseconds.
"""

from __future__ import annotations

import os
from typing import NamedTuple, Optional

from lab import LabError
from lab.modules import ModuleRunner

from .asking import Asked
from .site import ACK, BACKENDS, SYN, Scene, Site, backend_mac
from .tools import Tools


class Slice(NamedTuple):
    """One measurement. ``nanoseconds`` is the median of short readings, for one packet."""

    packets: int
    seconds: float
    nanoseconds: float


class Wire(Site):
    """The bridge with everything on it."""

    def __init__(self, tools: Tools, runner: ModuleRunner) -> None:
        super().__init__(tools, runner)
        self._sender: Optional[Asked] = None
        self._sets: dict[str, int] = {}  # what the sender has made, by what was asked

    def build(self) -> None:
        self.add_host("client", 1)
        self.add_host("sink", 2)
        # All backends are one NIC: the bridge knows their MACs there, and what comes is dropped at once.
        lines = [f"fdb add {backend_mac(number)} dev sink-eth0 master static\n" for number in range(BACKENDS)]
        self.lab.run("switch", ["bridge", "-batch", "-"], input="".join(lines))
        self._drop_all("")
        processor = max(os.sched_getaffinity(0))
        self._sender = Asked(self.lab.popen("client", [str(self.tools.frames), "eth0", str(processor)]))

    @property
    def sender(self) -> Asked:
        assert self._sender is not None
        return self._sender

    def _drop_all(self, first: str) -> None:
        self.lab.run(
            "sink",
            ["nft", "-f", "-"],
            input=(
                "table netdev sink\ndelete table netdev sink\ntable netdev sink {\n"
                " map backends { type ether_addr : verdict; }\n"
                " set seen { type ether_addr; size 65535; flags dynamic; counter; }\n"
                " chain ingress { type filter hook ingress device eth0 priority 0; policy drop;\n"
                f"{first}\n }}\n}}\n"
            ),
        )

    def _set(self, scene: Scene) -> int:
        """The number of the sender's set of frames for this scene."""
        if scene.backends > BACKENDS:
            raise LabError(f"at most {BACKENDS} backends can be had here")
        if scene.command not in self._sets:
            number = len(self._sets)
            self.sender.ask(f"flows {number} {scene.command}")
            self._sets[scene.command] = number
        return self._sets[scene.command]

    def open_flows(self, scene: Scene, mac: str) -> None:
        """Every flow begins, and has its first packet after that."""
        number = self._set(scene)
        if scene.protocol == "tcp":
            self.sender.ask(f"pass {number} {mac} {SYN} {scene.flows}")
        self.sender.ask(f"pass {number} {mac} {ACK} {scene.flows}")

    def check_delivery(self, scene: Scene, mac: str) -> tuple[int, float]:
        """Send packets of flows, chosen from all of them: how many backends got some, and the share that arrived."""
        # Where flows are to begin while it is measured, only a few may have begun before.
        sent = min(scene.flows, 64 if scene.opening else 20000)
        self._drop_all("  add @seen { ether daddr }")
        try:
            self.sender.ask(f"pass {self._set(scene)} {mac} {scene.flags} {sent}")
            rows = self.lab.run("sink", ["nft", "-j", "list", "set", "netdev", "sink", "seen"]).json()["nftables"]
        finally:
            self._drop_all("")
        counts = {
            entry["elem"]["val"]: entry["elem"]["counter"]["packets"]
            for row in rows
            for entry in row.get("set", {}).get("elem", ())
        }
        backends = {backend_mac(number) for number in range(scene.backends)}
        arrived = sum(count for found, count in counts.items() if found in backends)
        return len(backends & set(counts)), arrived / sent

    def slice(self, scene: Scene, mac: str, first: int, warm: int, seconds: float) -> Slice:
        """Send for so long, from this flow on, after so many frames that do not count."""
        packets, nanoseconds, median = self.sender.ask(
            f"slice {self._set(scene)} {mac} {scene.flags} {first} {warm} {seconds * 1e6:.0f}"
        )
        return Slice(int(packets), nanoseconds / 1e9, median / 1000)
