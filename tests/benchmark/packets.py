# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cost of a packet: every peer in turn for some milliseconds, many times over, each round in another order."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Callable, Optional

from lab import LabError
from lab.modules import ModuleRunner

from .peers import Peer, Unavailable
from .site import Scene
from .tools import Tools
from .wire import Wire

# After another peer's turn the processor's caches are not a busy load balancer's: so many frames do not count.
WARM = 512
# With more flows than this only peers that remember flows are shown each of them beforehand.
_SHOWN_FLOWS = 10000


@dataclass
class Row:
    """What was measured of one peer in one scene."""

    peer: Peer
    scene: Scene
    nanoseconds: list[float] = field(default_factory=list)  # of a packet: the median of each round's readings
    rates: list[float] = field(default_factory=list)  # packets in a second, over each round's whole slice
    unavailable: str = ""
    used: int = 0  # backends that got packets
    sent: int = 0  # to it, so that each turn goes on where the last one ended
    name: str = ""
    mac: str = ""

    def data(self) -> dict[str, Any]:
        """What a report needs of it."""
        peer = self.peer
        return {
            "peer": peer.key,
            "title": peer.title,
            "ours": peer.ours,
            "tracks": peer.tracks,
            "spreads": peer.spreads,
            "scene": asdict(self.scene),
            "nanoseconds": self.nanoseconds,
            "rates": self.rates,
            "used": self.used,
            "unavailable": self.unavailable,
        }


def measure(
    wire: Wire,
    entries: Iterable[tuple[Peer, Scene]],
    rounds: int,
    seconds: float,
    say: Callable[[str], None],
    keep: Optional[Callable[[Row], None]] = None,
) -> list[Row]:
    """Bring all of them up beside one another, then measure them in turns."""
    rows = [Row(peer, scene) for peer, scene in entries]
    for row in rows:
        _set_up(wire, row, say)
        if keep is not None and not row.unavailable:
            keep(row)
    ready = [row for row in rows if not row.unavailable]
    gc.collect()
    say(f"  measuring {len(ready)} in {rounds} rounds")
    for number in range(rounds):
        at = number * 7 % max(1, len(ready))
        for row in [*ready[at:], *ready[:at]]:
            warm = min(WARM, 4 * row.scene.flows)
            one = wire.slice(row.scene, row.mac, row.sent % row.scene.flows, warm, seconds)
            row.sent += warm + one.packets
            row.nanoseconds.append(one.nanoseconds)
            row.rates.append(one.packets / one.seconds)
    return rows


def _set_up(wire: Wire, row: Row, say: Callable[[str], None]) -> None:
    scene = row.scene
    try:
        if row.peer.direct:
            row.mac = scene.mac(0)
        else:
            row.name, host = wire.add_balancer()
            row.mac = host.mac
            row.peer.serve(wire, row.name, host, scene)
        if not scene.opening and (row.peer.tracks or scene.flows <= _SHOWN_FLOWS):
            wire.open_flows(scene, row.mac)
        row.used, arrived = wire.check_delivery(scene, row.mac)
        if arrived < 1:
            raise Unavailable(f"it forwards {arrived:.1%} of the packets")
    except Unavailable as reason:
        row.unavailable = str(reason)
    except LabError as error:
        row.unavailable = f"failed: {' '.join(str(error).split())[:160]}"
    if row.unavailable:
        say(f"  {row.peer.title}: {row.unavailable}")


# The scenes of the tables. What is compared is in one wire, beside one another.

_BASE = Scene()


@dataclass(frozen=True)
class Plan:
    """How much of everything."""

    rounds: int = 100
    seconds: float = 0.008
    vips: tuple[int, ...] = (1, 100, 1000, 10000)
    backends: tuple[int, ...] = (2, 32, 256)
    flows: tuple[int, ...] = (1, 10000, 1000000)
    # As many as are begun in so many rounds, and fewer than the 65,535 that nftlb has room for.
    new_flows: int = 60000
    new_rounds: int = 30
    few: bool = False  # only some peers, only TCP over IPv4


SCALED = ("none", "constant", "nftlb-hash", "nftlb-persistence", "connection-hash", "round-robin")
SIX = ("none", "tc-bpf", "constant", "nftlb-hash", "nftlb-persistence", "connection-hash", "round-robin")
FEW = ("none", "constant", "connection-hash", "round-robin")


def cases(plan: Plan) -> Mapping[str, Scene]:
    """The scenes in which every peer is measured, by what they show."""
    shown = {
        "TCP, packets of established flows": _BASE,
        "TCP, packets that begin flows (SYN)": replace(_BASE, opening=True, flows=plan.new_flows),
        "UDP": replace(_BASE, protocol="udp"),
        "TCP over IPv6, packets of established flows": replace(_BASE, family=6, length=74),
    }
    return {name: scene for name, scene in shown.items() if not plan.few or scene == _BASE}


def scaled(plan: Plan) -> Mapping[str, tuple[str, Sequence[Scene]]]:
    """The scenes that differ in one number, by group: what the number is, and the scenes."""
    # So many flows that each VIP, and each backend, gets packets all the time.
    many = max(plan.vips)
    return {
        "vips": ("VIPs", [replace(_BASE, vips=number, flows=many) for number in plan.vips]),
        "backends": ("backends", [replace(_BASE, backends=number, flows=8192) for number in plan.backends]),
        "flows": ("live flows", [replace(_BASE, flows=number) for number in plan.flows]),
    }


def group_packets(
    tools: Tools, runner: ModuleRunner, peers: Sequence[Peer], plan: Plan, say: Callable[[str], None]
) -> list[dict[str, Any]]:
    tables = []
    for title, scene in cases(plan).items():
        say(f"  {title}")
        keys = FEW if plan.few else SIX if scene.family == 6 else None
        chosen = [peer for peer in peers if keys is None or peer.key in keys]
        with Wire(tools, runner) as wire:
            rounds = min(plan.rounds, plan.new_rounds) if scene.opening else plan.rounds
            rows = measure(wire, [(peer, scene) for peer in chosen], rounds, plan.seconds, say)
        tables.append({"title": title, "rows": [row.data() for row in rows]})
    return tables


def group_scaled(
    tools: Tools, runner: ModuleRunner, peers: Sequence[Peer], plan: Plan, name: str, say: Callable[[str], None]
) -> dict[str, Any]:
    what, scenes = scaled(plan)[name]
    keys = FEW if plan.few else SCALED
    with Wire(tools, runner) as wire:
        entries = [(peer, scene) for scene in scenes for peer in peers if peer.key in keys]
        rows = measure(wire, entries, plan.rounds, plan.seconds, say)
    return {"what": what, "field": name, "rows": [row.data() for row in rows]}
