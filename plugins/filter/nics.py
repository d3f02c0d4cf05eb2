# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How systemd names a NIC."""

from __future__ import annotations

import re
from typing import Callable


def device_unit(nic: str) -> str:
    """The device unit of a NIC, escaped as systemd-escape(1) does."""
    escaped = re.sub(r"^\.|[^A-Za-z0-9:_.]", lambda found: "".join(f"\\x{byte:02x}" for byte in found[0].encode()), nic)
    return f"sys-subsystem-net-devices-{escaped}.device"


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., str]]:
        return {"device_unit": device_unit}
