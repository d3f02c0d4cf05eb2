# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A VIP together with what its host adds to it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from .dialect import CURRENT, Dialect
from .model import Backend, IPAddress, Vip
from .packet_fields import Family, family_of

# How a VIP tracks flows
PLAIN = "plain"  # a hash VIP that tracks nothing
DRAINING = "draining"  # a hash VIP that tracks because a backend drains
RELEASED = "released"  # a hash VIP with entries left over from such a time, or from another scheduler
TRACKED = "tracked"  # a VIP that tracks always: by its scheduler, or because clients are to stay


@dataclass(frozen=True)
class ResolvedVip:
    """A VIP and what the host adds to it: the NICs, and the MAC of each backend that has one."""

    vip: Vip
    interface: str
    backend_interface: str
    macs: Mapping[IPAddress, str]
    dialect: Dialect = CURRENT
    unhealthy: frozenset[IPAddress] = frozenset()  # backends that fail their check now

    def usable(self, backend: Backend) -> bool:
        """Packets may be sent to it: neither down nor unhealthy, and its MAC is known."""
        return not backend.down and backend.address in self.macs and backend.address not in self.unhealthy

    def eligible(self, backend: Backend) -> bool:
        """It gets new flows."""
        return self.usable(backend) and not backend.draining

    @property
    def family(self) -> Family:
        return family_of(self.vip.address.version, self.dialect)

    def mark(self, backend: Backend) -> int:
        """The number of the backend in the kernel's maps."""
        return self.vip.marks[backend.address]

    def weights(self, backup: bool = False) -> dict[int, int]:
        """The weights of the pool, or of its backups, by the backends' numbers."""
        return {
            self.mark(backend): self.vip.table_weight(backend)
            for backend in self.vip.backends
            if backend.backup == backup
        }

    @property
    def could_serve(self) -> bool:
        """Somebody gets new flows, as far as it was configured; health, which comes and goes, changes no rules."""
        return any(replace(self, unhealthy=frozenset()).eligible(backend) for backend in self.vip.backends)

    @property
    def takers(self) -> list[Backend]:
        """Who gets new flows: of the pool, or if nobody can, of its backups."""
        eligible = [backend for backend in self.vip.backends if self.eligible(backend)]
        return [backend for backend in eligible if not backend.backup] or eligible
