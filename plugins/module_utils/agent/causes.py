# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why backends are unhealthy, and since when, as it is published.

It is noted when the verdict falls and stays as it is until the next one: a cause that is another with each check would
be news each time. The time of day is for people; nothing is decided by it, as somebody may set the clock.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence

from ..nft_dsr.failing import Failing
from ..nft_dsr.health_check import HealthCheck
from ..nft_dsr.model import Backend, IPAddress, Vip
from .probe_base import Target
from .verdicts import Transition

_Key = tuple[HealthCheck, Target]


class Causes:
    """What is known of those that are unhealthy."""

    def __init__(self) -> None:
        self._noted: dict[_Key, Failing] = {}

    def note(self, key: _Key, transition: Transition) -> None:
        """It has come or gone, just now."""
        self._noted.pop(key, None)
        if not transition.healthy:
            since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time()))
            self._noted[key] = Failing(transition.cause, since)

    def of(
        self,
        unhealthy: Collection[_Key],
        wanting: Mapping[_Key, Sequence[tuple[Vip, Backend]]],
        published: Mapping[str, Mapping[IPAddress, Failing]],
    ) -> dict[str, dict[IPAddress, Failing]]:
        """By VIP and address. What was not noted here is as it was ``published``, by or for another."""
        self._noted = {key: self._noted[key] for key in unhealthy if key in self._noted}
        found: dict[str, dict[IPAddress, Failing]] = {}
        for key in unhealthy:
            for vip, backend in wanting.get(key, ()):
                failing = self._noted.get(key) or published.get(vip.name, {}).get(backend.address)
                if failing is not None:
                    found.setdefault(vip.name, {})[backend.address] = failing
        return found
