# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""NetworkManager: a script of our own that its dispatcher runs each time it has set an interface.

It takes addresses that it does not know off an interface that it manages when a profile is activated or applied again,
and when the carrier comes back. The profile is the user's. One of our own is no way out for ``lo`` either: it would
have NetworkManager take over ``lo``, and with it every address that somebody else put there.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..common.iproute import IPAddress, Link
from .enabled import answers_to, starts_at_boot
from .host import Host
from .persisted import command_addresses, dispatcher_text
from .plan import FileState, Wanted

_FOLDER = "/etc/NetworkManager/dispatcher.d"
_FILE = f"{_FOLDER}/90-nft-dsr"
# Run at once, beside the other scripts, which may take their time.
_NO_WAIT = f"{_FOLDER}/no-wait.d/90-nft-dsr"
_MODE = 0o755
_UNIT = "NetworkManager.service"
_DISPATCHER = "dbus-org.freedesktop.nm-dispatcher.service"
_UNMANAGED = 10
_EXTERNALLY = "externally"


class NetworkManager:
    """NetworkManager of a host, and the script in which it has our addresses."""

    name = "networkmanager"

    def __init__(self, host: Host) -> None:
        self._host = host

    def own_addresses(self) -> dict[str, tuple[IPAddress, ...]]:
        state = self._host.own_file(_FILE)
        return command_addresses(state.text) if state else {}

    @property
    def in_charge(self) -> bool:
        """Whether it starts at boot."""
        return starts_at_boot(self._host, _UNIT)

    def owns(self, link: Link) -> bool:
        """Whether it has set ``link`` itself, and looks on at nobody else's work."""
        number, text = self._state(link)
        return number > _UNMANAGED and _EXTERNALLY not in text

    def why_not(self, link: Link) -> str:
        """Why it can't keep addresses of ``link``; '' when it can.

        It tells of the loopback even where it looks on only, as it does from version 1.42 on.
        """
        if not self.in_charge:
            return "NetworkManager is not enabled on this host"
        if not answers_to(self._host, _DISPATCHER):
            return "NetworkManager-dispatcher.service is not enabled, which runs scripts"
        number, text = self._state(link)
        if not number:
            # It is down for now, or there is no nmcli: what was found earlier still holds
            return "" if link.name in self.own_addresses() else "NetworkManager does not run, and can't be asked"
        if number <= _UNMANAGED:
            more = ", which no version before 1.42 does" if link.loopback else ""
            return f"NetworkManager does not manage {link.name}{more}"
        if _EXTERNALLY in text and not link.loopback:
            return f"something else than NetworkManager has set {link.name}"
        return ""

    def wanted(self, link: str, addresses: Sequence[IPAddress]) -> Wanted:
        """The script when ``link`` shall have ``addresses``. It is read each time, so that nothing is to be told."""
        held = {**self.own_addresses(), link: tuple(addresses)}
        text = dispatcher_text(self._host.find("ip") or "/usr/sbin/ip", held)
        if text is not None:
            self._host.require_own(_FILE, "choose another 'persist'")
        return Wanted(
            files={_FILE: None if text is None else FileState(text, _MODE)},
            symlinks={_NO_WAIT: None if text is None else f"../{_FILE.rpartition('/')[2]}"},
        )

    def _state(self, link: Link) -> tuple[int, str]:
        """What it says of ``link``, such as (100, '100 (connected)'); (0, '') when it says nothing."""
        if self._host.find("nmcli") is None:
            return 0, ""
        done = self._host.run(["nmcli", "--get-values", "GENERAL.STATE", "device", "show", link.name], None)
        text = done.stdout.strip() if done.ok else ""
        number = text.partition(" ")[0]
        return (int(number), text) if number.isdigit() else (0, "")
