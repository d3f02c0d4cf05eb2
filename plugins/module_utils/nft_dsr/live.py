# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the agent found out: which backends are unhealthy, and where backends moved. It publishes; modules read.

Modules render desired state, overrides and this, so that a run in the middle of a failure neither brings a
dead backend back nor takes what the agent changed for drift. When no agent runs, what it found out once is
nobody's knowledge any more and is left aside. That it runs is seen from a lock that dies with it.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, Optional

from ..common.errors import DsrError
from ..common.files import lock, read_foreign, write_text
from . import model
from .failing import Failing, failing_document, parse_failing, parse_names
from .resolved import ResolvedVip

# The agent's own folder: it is no root, and what it writes there is read with care.
AGENT_FOLDER = "/run/nft-dsr/agent"
STATE_FILE = f"{AGENT_FOLDER}/state.json"
AGENT_LOCK = f"{AGENT_FOLDER}/lock"
_VERSION = 1
_LOOKING = 1.0  # seconds; agent_runs() holds the lock for a moment


@dataclass(frozen=True)
class Live:
    """``unhealthy`` has the backends of each VIP that are out of service as they fail their check; ``macs`` the MAC
    addresses that changed.

    For people, who fails why and since when, also where that is ``ignored``: on these VIPs all serve, by their floor.
    """

    unhealthy: Mapping[str, frozenset[model.IPAddress]] = field(default_factory=dict)
    macs: Mapping[model.IPAddress, str] = field(default_factory=dict)
    failing: Mapping[str, Mapping[model.IPAddress, Failing]] = field(default_factory=dict)
    ignored: frozenset[str] = frozenset()

    def applied_to(self, item: ResolvedVip) -> ResolvedVip:
        """The VIP as it is served now. A MAC address that the user pinned stays."""
        vip = item.vip
        pinned = {backend.address for backend in vip.backends if backend.mac}
        moved = {
            backend.address: self.macs[backend.address]
            for backend in vip.backends
            if backend.address in self.macs and backend.address not in pinned
        }
        # A check that is not asked for any more says nothing.
        unhealthy = self.unhealthy.get(vip.name, frozenset()) if vip.health_check else frozenset()
        if not moved and not unhealthy:
            return item
        return replace(item, macs={**item.macs, **moved}, unhealthy=unhealthy)


def settled(resolved: Sequence[ResolvedVip], old: Sequence[ResolvedVip], live: Live) -> list[ResolvedVip]:
    """What a run has found out of ``resolved``, less what is no news: MACs that the agent has followed already.

    Where a backend is at the MAC that the agent published, a VIP that had it before keeps what it had: where backends
    are while the agent runs is the agent's to say, and a run after it changes nothing.
    """
    before = {item.vip.name: item for item in old}
    return [_settled(item, before.get(item.vip.name), live) for item in resolved]


def _settled(item: ResolvedVip, old: Optional[ResolvedVip], live: Live) -> ResolvedVip:
    if old is None or old.backend_interface != item.backend_interface:
        return item
    had = {backend.address for backend in old.vip.backends if not backend.mac}
    kept = {
        backend.address
        for backend in item.vip.backends
        if not backend.mac
        and backend.address in had
        and backend.address in live.macs
        and item.macs.get(backend.address) == live.macs[backend.address]
    }
    if not kept:
        return item
    macs = {address: old.macs.get(address, "") if address in kept else mac for address, mac in item.macs.items()}
    return replace(item, macs={address: mac for address, mac in macs.items() if mac})


class LiveFile:
    """The published state, and the lock that says whether anybody stands behind it."""

    def __init__(self, path: str = STATE_FILE, lock_path: str = AGENT_LOCK) -> None:
        self._path = path
        self._lock_path = lock_path

    def agent_runs(self) -> bool:
        """Whether an agent holds the lock."""
        try:
            descriptor = os.open(self._lock_path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
        except OSError:
            return True
        finally:
            os.close(descriptor)

    def held(self) -> AbstractContextManager[None]:
        """Be the agent. HostError when another one is: for longer than it takes to look whether one is."""
        busy = f"another agent runs on this host ({self._lock_path} is locked)"
        return lock(self._lock_path, busy, _LOOKING)

    def read(self) -> Live:
        """What the running agent says; nothing if none runs, or if it says nothing that can be understood."""
        return self.read_last() if self.agent_runs() else Live()

    def read_last(self) -> Live:
        """What was published last, by whomever: where a new agent begins."""
        try:
            document: Any = json.loads(read_foreign(self._path) or "{}")
            if document.get("version") != _VERSION:
                return Live()
            return Live(
                {
                    model.parse_name(vip, "unhealthy"): frozenset(
                        model.parse_address(address, f"unhealthy.{vip}") for address in addresses
                    )
                    for vip, addresses in document["unhealthy"].items()
                },
                {
                    model.parse_address(address, "macs"): model.parse_mac(mac, f"macs.{address}")
                    for address, mac in document["macs"].items()
                },
                parse_failing(document.get("failing")),
                parse_names(document.get("ignored")),
            )
        except (DsrError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return Live()

    def publish(self, live: Live) -> None:
        """Say it to whoever asks."""
        document = {
            "version": _VERSION,
            "unhealthy": {
                vip: sorted(str(address) for address in addresses)
                for vip, addresses in sorted(live.unhealthy.items())
                if addresses
            },
            "macs": {str(address): live.macs[address] for address in sorted(live.macs, key=str)},
            "failing": failing_document(live.failing),
            "ignored": sorted(live.ignored),
        }
        write_text(self._path, json.dumps(document, indent=2) + "\n", 0o644)
