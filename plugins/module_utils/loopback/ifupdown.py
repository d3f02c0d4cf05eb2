# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ifupdown of Debian: our addresses in a file of our own beside the host's, which ifup reads for a trial first."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from typing import Optional

from ..common.errors import HostError
from ..common.files import write_text
from ..common.iproute import IPAddress, Link
from .enabled import starts_at_boot
from .host import Host
from .model import ordered
from .persisted import add_commands, command_addresses, interfaces_read, interfaces_text
from .plan import FileState, Wanted

_FOLDER = "/etc/network"
_MAIN = f"{_FOLDER}/interfaces"
# The second is for hosts that read files of that ending alone.
_FILES = (f"{_FOLDER}/interfaces.d/nft-dsr", f"{_FOLDER}/interfaces.d/nft-dsr.cfg")
_UNIT = "networking.service"
_SYSV = "/etc/rcS.d/S*networking"
_MODE = 0o644


class Ifupdown:
    """ifupdown of a host, and the file in which it has our addresses."""

    name = "ifupdown"

    def __init__(self, host: Host) -> None:
        self._host = host

    def own_addresses(self) -> dict[str, tuple[IPAddress, ...]]:
        found: dict[str, tuple[IPAddress, ...]] = {}
        for path in _FILES:
            state = self._host.own_file(path)
            for link, group in command_addresses(state.text).items() if state else ():
                found[link] = ordered([*found.get(link, ()), *group])
        return found

    @property
    def in_charge(self) -> bool:
        """Whether it brings interfaces up at boot."""
        if self._host.find("ifup") is None or self._host.find("ifquery") is None or not self._host.exists(_MAIN):
            return False
        started = starts_at_boot(self._host, _UNIT) or (
            bool(self._host.glob(_SYSV)) and self._host.find("systemctl") is None
        )
        # Programs of the same name (ifupdown2, ifupdown-ng) read these files in their own ways
        return started and "ifquery version" in self._host.run(["ifquery", "--version"], None).stdout

    def why_not(self, link: Link) -> str:
        """Why it can't keep addresses of ``link``; '' when it can."""
        if not self.in_charge:
            return "ifupdown is not enabled on this host, or is another program of that name"
        if link.name not in self._names(["--list"]) and link.name not in self._names(["--list", "--allow=hotplug"]):
            return f"ifupdown does not manage {link.name}: no line 'auto' or 'allow-hotplug' names it"
        if any(name.startswith(f"{link.name}=") for name in self._names(["--state"]) - {f"{link.name}={link.name}"}):
            return f"ifupdown has set {link.name} by the stanza of another name"
        if self._file() is None:
            return f"{_MAIN} does not have the files in {_FOLDER}/interfaces.d read (no line 'source' for them)"
        return ""

    def wanted(self, link: str, addresses: Sequence[IPAddress]) -> Wanted:
        """Our file when ``link`` shall have ``addresses``; ifup itself has checked any change."""
        held = {**self.own_addresses(), link: tuple(addresses)}
        ip = self._host.find("ip") or "/usr/sbin/ip"
        text = interfaces_text(ip, held)
        # What keeps one that is gone from there needs no file to go to
        file = self._file() or next((path for path in _FILES if self._host.own_file(path) is not None), None)
        files: dict[str, Optional[FileState]] = dict.fromkeys(_FILES)
        if text is not None and file is not None:
            self._host.require_own(file, "choose another 'persist'")
            state = self._host.own_file(file)
            if addresses and (state is None or state.text != text):
                self._try_out(text, {link: add_commands(ip, link, addresses)})
            files[file] = FileState(text, _MODE)
        return Wanted(files=files)

    def _names(self, arguments: Sequence[str]) -> set[str]:
        done = self._host.run(["ifquery", *arguments], None)
        return set(done.stdout.split()) if done.ok else set()

    def _file(self) -> Optional[str]:
        """The first of our paths that ifup reads; None when it reads neither."""
        main = self._host.foreign_text(_MAIN) or ""
        return next((path for path in _FILES if interfaces_read(main, _FOLDER, path)), None)

    def _try_out(self, text: str, commands: Mapping[str, Sequence[str]]) -> None:
        """Have ifup say what it would do with the host's files and ours, and do nothing."""
        folder = tempfile.mkdtemp(prefix="dsr-ifupdown-")
        try:
            trial = os.path.join(folder, "interfaces")
            write_text(trial, f"source {self._host.path(_MAIN)}\n{text}", 0o600)
            for link, wanted in commands.items():
                argv = ["ifup", "--no-act", "--force", "--verbose", "--interfaces", trial, f"{link}={link}"]
                done = self._host.run(argv, None)
                said = f"{done.stdout}\n{done.stderr}"
                if not done.ok:
                    raise HostError(
                        f"ifup refuses this host's configuration (nothing was changed): {said.strip()[-2000:]}"
                    )
                lacking = [command for command in wanted if command not in said]
                if lacking:
                    raise HostError(
                        f"the addresses were not given to ifupdown: with them it would not run '{lacking[0]}' for "
                        f"{link}; choose another 'persist'"
                    )
        finally:
            shutil.rmtree(folder, ignore_errors=True)
