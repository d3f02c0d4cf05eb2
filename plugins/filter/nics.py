# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""NICs of a load balancer: the addresses that they hold, and their names in systemd."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Callable

Vips = Iterable[Mapping[str, Any]]


def _holdings(vips: Vips) -> list[tuple[str, str]]:
    # Several VIPs may share an address.
    return list(dict.fromkeys((vip["interface"], vip["address"]) for vip in vips))


def addresses_by_nic(vips: Vips, without: Sequence[Mapping[str, Any]] = ()) -> dict[str, list[str]]:
    """The addresses of the VIPs by their NIC, less those that the others have on the same NIC."""
    by_nic: dict[str, list[str]] = {}
    others = frozenset(_holdings(without))
    for nic, address in _holdings(vips):
        if (nic, address) not in others:
            by_nic.setdefault(nic, []).append(address)
    return by_nic


def device_unit(nic: str) -> str:
    """The device unit of a NIC, escaped as systemd-escape(1) does."""
    escaped = re.sub(r"^\.|[^A-Za-z0-9:_.]", lambda found: "".join(f"\\x{byte:02x}" for byte in found[0].encode()), nic)
    return f"sys-subsystem-net-devices-{escaped}.device"


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"addresses_by_nic": addresses_by_nic, "device_unit": device_unit}
