# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A unit of our own that puts addresses back at boot, for interfaces that nothing else does it for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from ..common.iproute import IPAddress
from .host import Host
from .persisted import LOOPBACK, UNIT, UNIT_FOLDER, command_addresses, device_unit, unit_text
from .plan import FileState, Refresh, Wanted

_FILE = f"{UNIT_FOLDER}/{UNIT}"
_MODE = 0o644


class SystemdUnit:
    """nft-dsr-addresses.service. It is enabled and never started: the module itself sets what is missing now."""

    name = "systemd"

    def __init__(self, host: Host) -> None:
        self._host = host

    def own_addresses(self) -> dict[str, tuple[IPAddress, ...]]:
        state = self._host.own_file(_FILE)
        return command_addresses(state.text) if state else {}

    def wanted(self, link: str, addresses: Sequence[IPAddress]) -> Wanted:
        """The unit when ``link`` shall have ``addresses``, and what enables it."""
        held = {**self.own_addresses(), link: tuple(addresses)}
        devices = {name: self._device(name) for name, group in held.items() if group}
        text = unit_text(self._host.find("ip") or "/usr/sbin/ip", held, [unit for unit in devices.values() if unit])
        if text is not None:
            self._host.require_own(_FILE, "choose another 'persist'")
        wanted_by = {"multi-user.target": text is not None}
        for path in self._host.glob(f"{UNIT_FOLDER}/*.device.wants/{UNIT}"):
            wanted_by[path.split("/")[-2][: -len(".wants")]] = False
        wanted_by.update({unit: True for unit in devices.values() if unit})
        links = {f"{UNIT_FOLDER}/{target}.wants/{UNIT}": _FILE if on else None for target, on in wanted_by.items()}
        return Wanted(
            files={_FILE: None if text is None else FileState(text, _MODE)},
            symlinks=links,
            refresh=(Refresh(("systemctl", "daemon-reload")),) if self._host.booted_with_systemd else (),
        )

    def _device(self, link: str) -> Optional[str]:
        """The device unit of a NIC; None where udev makes none, as in containers: it would be waited for in vain."""
        if link == LOOPBACK or not self._host.booted_with_systemd:
            return None
        unit = device_unit(link)
        if self._host.symlink(f"{UNIT_FOLDER}/{unit}.wants/{UNIT}") is not None:
            return unit  # it was there before, and may be away only for now
        done = self._host.run(["systemctl", "show", "--property=ActiveState", "--value", unit], None)
        return unit if done.ok and done.stdout.strip() == "active" else None
