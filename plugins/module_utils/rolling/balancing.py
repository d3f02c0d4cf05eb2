# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""On a load balancer: until a backend gets no packets any more, or until it serves."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Any, Callable, Optional

from ..agent.agent import targets_of
from ..agent.checking import Probe
from ..agent.probe_base import Outcome
from ..agent.probes import probe as carry_out
from ..common.errors import ConfigError, DsrError
from ..nft_dsr.engine import LoadBalancer
from ..nft_dsr.live import Live, LiveFile
from ..nft_dsr.model import IPAddress, Vip, find_backends
from ..nft_dsr.resolved import ResolvedVip
from ..probe.request import parse
from ..probe.run import probe
from .waiting import Clock, parse_seconds, wait

QUIET, SERVING = "quiet", "serving"
_TIMEOUT = 1.0  # seconds for a handshake


def look(options: Mapping[str, Any], balancer: LoadBalancer, clock: Optional[Clock] = None) -> dict[str, Any]:
    """All that the module returns."""
    seconds = parse_seconds(options["timeout"], "timeout")
    calm = parse_seconds(options["quiet"], "quiet")
    wanted = _address(options["backend"], [item.vip for item in balancer.desired()])
    clock = clock or Clock()
    if options["until"] == QUIET:
        standing = Standing(balancer, wanted, calm, clock)
        # Before that time is over nobody can know, so to wait for less would be to fail in any case.
        waited = wait(standing.look, lambda seen: not seen, max(seconds, 1.5 * calm + 1), clock)
    else:
        waited = wait(Serving(balancer, wanted).look, lambda seen: not seen, seconds, clock)
    return {"reached": waited.done, "left": waited.seen, "waited": round(waited.seconds, 1)}


def _address(wanted: str, vips: Sequence[Vip]) -> IPAddress:
    """The backend that is meant; a load balancer that does not have it has nothing to say."""
    found = set(find_backends(vips, wanted.strip()).values())
    if len(found) == 1:
        return found.pop()
    there = ", ".join(sorted({backend.label for vip in vips for backend in vip.backends})) or "none"
    none = f"is not a backend of any VIP; there are: {there}"
    raise ConfigError("backend", f"{wanted!r} {'names different backends; give the address' if found else none}")


class Standing:
    """Packets that a load balancer sends to a backend, of VIPs whose connections nobody else knows.

    Those of TCP the backend itself knows, and strays that belong to none come there as long as it drains.
    """

    def __init__(self, balancer: LoadBalancer, backend: IPAddress, calm: float, clock: Clock) -> None:
        self._balancer = balancer
        self._backend = backend
        self._calm = calm
        self._clock = clock
        self._last: dict[str, tuple[int, float]] = {}

    def look(self) -> list[str]:
        """What moves still, in words; at first nobody knows."""
        names = [
            item.vip.name
            for item in self._balancer.desired()
            if item.vip.protocol != "tcp" and any(backend.address == self._backend for backend in item.vip.backends)
        ]
        moving = []
        for name in names:
            packets = self._packets(name)
            before, since = self._last.get(name, (-1, 0.0))
            now = self._clock.now()
            if packets != before:
                self._last[name] = (packets, now)
                since = now
            if now - since < self._calm:
                moving.append(f"packets to {self._backend} of the VIP {name}, the last within {self._calm:g} s")
        return moving

    def _packets(self, name: str) -> int:
        _present, rows = self._balancer.info(name)
        return sum(
            backend["packets"]
            for row in rows
            for backend in row["backends"]
            if ip_address(backend["address"]) == self._backend
        )


class Serving:
    """Whether a backend serves all its VIPs: by its health checks, carried out now, or by a handshake of TCP."""

    def __init__(
        self,
        balancer: LoadBalancer,
        backend: IPAddress,
        live: Optional[LiveFile] = None,
        asking: Probe = carry_out,
        connecting: Optional[Callable[[ResolvedVip, str], str]] = None,
    ) -> None:
        self._balancer = balancer
        self._backend = backend
        self._live = live or LiveFile()
        self._asking = asking
        self._connecting = connecting or _handshake

    def look(self) -> list[str]:
        """Why it does not, in words."""
        runs = self._live.agent_runs()
        live = self._live.read() if runs else Live()
        items = [live.applied_to(item) for item in self._balancer.desired()]
        mine = [
            (item, backend)
            for item in items
            for backend in item.vip.backends
            if backend.address == self._backend and not backend.down
        ]
        failing = self._checked(items)
        for item, backend in mine:
            name = item.vip.name
            if name in failing:
                continue
            if backend.address not in item.macs:
                failing[name] = "its MAC address is not known"
            elif item.vip.health_check is None:
                why = self._connecting(item, item.macs[backend.address])
                if why:
                    failing[name] = why
            # What the agent found out it unlearns after as many answers as it was told to wait for.
            elif backend.address in live.failing.get(name, {}) or backend.address in item.unhealthy:
                failing[name] = "it answers, and the agent waits until it does so for long enough"
        return [f"the VIP {name}: {why}" for name, why in sorted(failing.items())]

    def _checked(self, items: Sequence[ResolvedVip]) -> dict[str, str]:
        """What its health checks say, by VIP."""
        questions = [
            (question, [vip.name for vip, backend in users if backend.address == self._backend])
            for question, users in targets_of(items).items()
        ]
        asked = [(question, names) for question, names in questions if names]

        async def ask_all() -> list[Outcome]:
            return list(await asyncio.gather(*(self._asking(*question) for question, _names in asked)))

        outcomes = asyncio.run(ask_all()) if asked else []
        return {
            name: outcome.cause
            for (_question, names), outcome in zip(asked, outcomes)
            for name in names
            if not outcome.ok
        }


def _handshake(item: ResolvedVip, mac: str) -> str:
    """What keeps a VIP without a health check from taking a connection; '' for what cannot be tried."""
    vip = item.vip
    if vip.protocol != "tcp" or not vip.ports:
        return ""
    request = parse(
        {
            "address": str(vip.address), "port": vip.ports[0].first, "protocol": "tcp", "connections": 1,
            "timeout": _TIMEOUT, "interface": item.backend_interface, "expect_direct": True, "lb_mac": None,
            "through": mac, "payload": None, "hold": 0, "interval": 0.2, "max_broken": 0, "max_moved": 0,
        }
    )  # fmt: skip
    try:
        _figures, problem = probe(request)
    except DsrError as error:
        return str(error)
    return problem
