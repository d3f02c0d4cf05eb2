# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""systemd-networkd: our addresses beside the .network file that manages an interface already."""

from __future__ import annotations

import ipaddress
import json
import posixpath
from collections.abc import Sequence
from typing import Any, Optional

from ..common.iproute import IPAddress, Link
from . import match
from .enabled import starts_at_boot
from .host import Host
from .model import ordered
from .persisted import (
    DROP_IN,
    NETWORKD_FOLDER,
    drop_in_interface,
    drop_in_text,
    network_addresses,
    network_text,
)
from .plan import FileState, Wanted

# Sorts before all others, so that a file for every interface does not take lo with it.
_OWN_FILE = f"{NETWORKD_FOLDER}/00-dsr-lo.network"
_FOLDERS = (NETWORKD_FOLDER, "/run/systemd/network", "/usr/local/lib/systemd/network", "/usr/lib/systemd/network")
_UNIT = "systemd-networkd.service"
_MODE = 0o644  # systemd-networkd does not run as root


class Networkd:
    """systemd-networkd of a host."""

    name = "networkd"

    def __init__(self, host: Host) -> None:
        self._host = host

    @property
    def in_charge(self) -> bool:
        """Whether systemd-networkd starts at boot."""
        return starts_at_boot(self._host, _UNIT)

    def network_file(self, link: Link) -> Optional[str]:
        """The .network file by which a running systemd-networkd manages ``link``."""
        if not self._host.booted_with_systemd or self._host.find("networkctl") is None:
            return None
        status = self._status(link)
        if status:
            return status.get("NetworkFile") or None
        # Before version 250 there is no JSON
        done = self._host.run(["networkctl", "--no-pager", "status", link.name], None)
        for line in done.stdout.splitlines() if done.ok else ():
            name, _unused, value = line.strip().partition(": ")
            if name == "Network File" and value not in ("", "n/a"):
                return value
        return None

    def remembered(self, link: Link) -> tuple[IPAddress, ...]:
        """The addresses that a running systemd-networkd has from its files, as it last read them."""
        entries = self._status(link).get("Addresses") or ()
        return ordered(
            ipaddress.ip_address(bytes(entry["Address"])) for entry in entries if entry.get("ConfigSource") == "static"
        )

    def _status(self, link: Link) -> Any:
        """What a running systemd-networkd says about ``link``; empty when it says nothing."""
        if not self._host.booted_with_systemd or self._host.find("networkctl") is None:
            return {}
        done = self._host.run(["networkctl", "--json=short", "status", link.name], None)
        try:
            status = json.loads(done.stdout) if done.ok else {}
        except ValueError:
            return {}
        return status if isinstance(status, dict) else {}

    def is_exact(self, file: str, link: Link) -> bool:
        """Whether a .network file can be for no other interface than ``link``."""
        return match.names_only(self._host.foreign_text(file) or "", link)

    def target(self, link: Link) -> Optional[str]:
        """The file of ours that would give ``link`` its addresses; None when networkd does not manage it."""
        if link.loopback:
            file = self._file_for_loopback(link)
            return _OWN_FILE if file is None else _drop_in_of(file)
        file = self.network_file(link)
        return None if file is None else _drop_in_of(file)

    def own_files(self, link: Link) -> list[str]:
        """The files of ours that give ``link`` addresses now."""
        found = [_OWN_FILE] if link.loopback and self._host.own_file(_OWN_FILE) else []
        for path in self._host.glob(f"{NETWORKD_FOLDER}/*.network.d/{DROP_IN}"):
            state = self._host.own_file(path)
            if state is not None and drop_in_interface(state.text) == link.name:
                found.append(path)
        return found

    def own_addresses(self, link: Link) -> tuple[IPAddress, ...]:
        texts = (self._host.own_file(path) for path in self.own_files(link))
        return tuple(address for state in texts if state for address in network_addresses(state.text))

    def wanted(self, link: Link, target: Optional[str], addresses: Sequence[IPAddress]) -> Wanted:
        """Our files when ``target`` shall give ``link`` these addresses. What networkd has read stays as it is."""
        files: dict[str, Optional[FileState]] = dict.fromkeys(self.own_files(link))
        if target is not None and addresses:
            self._host.require_own(target, "choose another 'persist'")
            own = target == _OWN_FILE
            text = network_text(link.name, addresses) if own else drop_in_text(link.name, addresses)
            files[target] = FileState(text, _MODE)
        return Wanted(files=files)

    def _file_for_loopback(self, link: Link) -> Optional[str]:
        """The .network file that somebody else wrote for lo alone.

        One for many interfaces is passed over: an addition to it would put the addresses on all of them. So is what
        netplan renders, which has been asked before.
        """
        chosen: dict[str, str] = {}
        for folder in _FOLDERS:
            for path in self._host.glob(f"{folder}/*.network"):
                chosen.setdefault(posixpath.basename(path), path)
        for name in sorted(chosen):
            path = chosen[name]
            text = self._host.foreign_text(path) or ""
            if path != _OWN_FILE and not name.startswith("10-netplan-") and match.matches(text, link):
                return path if match.names_only(text, link) else None
        return None


def _drop_in_of(file: str) -> str:
    return f"{NETWORKD_FOLDER}/{posixpath.basename(file)}.d/{DROP_IN}"
