# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bulk TCP through each peer, in turns: what a download in the other direction would see."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable

from lab import LabError

from .asking import Asked
from .peers import Peer, Unavailable
from .site import PORT, Scene, Site, backend_mac

_STREAM = ["/usr/bin/python3", "-I", str(Path(__file__).resolve().with_name("stream.py"))]
_BACKENDS = 2
# How large the packets are that pass the load balancer.
SIZES = ("64 KiB (segmentation offload)", "1,500 bytes")


class Streams(Site):
    """A client and two backends that take what comes."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        processors = sorted(os.sched_getaffinity(0))
        self._sending, self._taking = processors[-1], processors[0]

    def build(self) -> None:
        self.add_host("client", 1)
        for number in range(_BACKENDS):
            name = f"b{number}"
            self.lab.add_host(name, Scene().backend(number), 16, mac=backend_mac(number))
            self.lab.run(name, ["sysctl", "-qw", "net.ipv4.conf.all.arp_ignore=1", "net.ipv4.conf.all.arp_announce=2"])

    def serve(self) -> None:
        for number in range(_BACKENDS):
            self.lab.popen(f"b{number}", [*_STREAM, "serve", str(PORT), str(self._taking)]).wait_for("READY")

    def segmentation(self, on: bool) -> None:
        """Whether the client leaves cutting its data into packets to its NIC, which here does nothing of the kind."""
        word = "on" if on else "off"
        self.lab.run("client", ["ethtool", "-K", "eth0", "tso", word, "gso", word])

    def sender(self, addresses: Sequence[str]) -> Asked:
        return Asked(self.lab.popen("client", [*_STREAM, "send", str(PORT), str(self._sending), *addresses]))


def group(
    site: Streams, chosen: Sequence[Peer], rounds: int, seconds: float, say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """All of it, as rows for a report."""
    rows: list[dict[str, Any]] = []
    ready = []
    for number, peer in enumerate(chosen):
        scene = Scene("tcp", backends=_BACKENDS, skip=number)
        row: dict[str, Any] = {"peer": peer.key, "title": peer.title, "unavailable": "", "rates": {}}
        rows.append(row)
        for backend in range(_BACKENDS):
            site.lab.ip(f"b{backend}", f"address add {scene.vip(0)}/32 dev lo")
        mac = scene.mac(0)
        try:
            if not peer.direct:
                name, host = site.add_balancer()
                mac = host.mac
                peer.serve(site, name, host, scene)
        except (Unavailable, LabError) as reason:
            row["unavailable"] = str(reason)
            say(f"  {peer.title}: {reason}")
            continue
        site.lab.ip("client", f"neighbour replace {scene.vip(0)} lladdr {mac} nud permanent dev eth0")
        ready.append((scene.vip(0), row))
    site.serve()
    sizes = SIZES if shutil.which("ethtool") else SIZES[:1]
    for size in sizes:
        site.segmentation(size == SIZES[0]) if len(sizes) > 1 else None
        asked = site.sender([address for address, _row in ready])
        for number in range(rounds):
            for step in range(len(ready)):
                at = (step + number) % len(ready)
                acknowledged, took = asked.ask(f"{at} {seconds}")
                ready[at][1]["rates"].setdefault(size, []).append(acknowledged * 8 / took)
        asked.close()
    return rows
