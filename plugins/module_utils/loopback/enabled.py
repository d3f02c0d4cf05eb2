# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a service starts at boot, as its files say: systemd need not run to be asked."""

from __future__ import annotations

from .host import Host

# Where a unit is wanted from when something enabled it, a generator of netplan included.
_WANTED = (
    "/etc/systemd/system/*.wants",
    "/run/systemd/system/*.wants",
    "/run/systemd/generator*/*.wants",
    "/usr/lib/systemd/system/*.wants",
    "/lib/systemd/system/*.wants",
)
_MASK = "/dev/null"


def starts_at_boot(host: Host, unit: str) -> bool:
    masked = host.symlink(f"/etc/systemd/system/{unit}") == _MASK
    return not masked and any(host.glob(f"{folder}/{unit}") for folder in _WANTED)


def answers_to(host: Host, alias: str) -> bool:
    """Whether a service that is started when somebody calls it is enabled, by its other name."""
    return host.symlink(f"/etc/systemd/system/{alias}") not in (None, _MASK)
