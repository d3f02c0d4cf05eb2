# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ARP suppression of a whole host: when it is needed, how it comes into force, how it is lifted, what defeats it."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from typing import Optional

from ..common.errors import HostError
from . import arp
from .host import Host, file_steps
from .observed import Observed, deaf_nics, is_nic
from .persisted import SYSCTL_FILE, sysctl_text
from .plan import FileState, SetSysctl, Step

_MODE = 0o644


class Suppression:
    """arp_ignore and arp_announce of ``all``.

    ``needed``: a virtual IP of ours is IPv4. ``remembered``: files that we wrote earlier; that one of them is a
    sysctl file tells, as does a file of ours, that it was us who raised the suppression.
    """

    def __init__(self, host: Host, file: str, observed: Observed, needed: bool, remembered: Iterable[str]) -> None:
        self._host = host
        self._file = file
        self._observed = observed
        self.needed = needed
        earlier = {path for path in remembered if posixpath.dirname(path) in arp.FOLDERS}
        self._own = [path for path in sorted({file, SYSCTL_FILE, *earlier}) if host.own_file(path) is not None]
        self._raised_before = bool(self._own or earlier)
        self._others = [other for other in host.sysctl_files() if other.path not in (*self._own, file)]
        if needed:
            host.require_own(file, "name another one with 'sysctl_file'")

    @property
    def files(self) -> list[str]:
        """Our files when all is done."""
        return [self._file] if self.needed else []

    @property
    def lifted(self) -> bool:
        """Whether it goes: it is needed no more, and it was us who raised it."""
        return not self.needed and self._raised_before

    def raising(self) -> list[Step]:
        """The steps that put it in force: for the next boot, then now."""
        if not self.needed:
            return []
        wanted: dict[str, Optional[FileState]] = {self._file: FileState(self._text(), _MODE)}
        wanted.update({path: None for path in self._own if path != self._file})
        return [*file_steps(self._host, wanted), *self._settings()]

    def lifting(self) -> list[Step]:
        """Back to what a boot without our file comes to: the value of the other files, or the kernel's own 0."""
        if not self.lifted:
            return []
        boot = arp.Boot(self._others)
        settings: list[Step] = [
            SetSysctl("all", name, current, boot.number("all", name) or 0)
            for name, current in self._current()
            if current != (boot.number("all", name) or 0)
        ]
        return [*settings, *file_steps(self._host, dict.fromkeys(self._own))]

    def check(self) -> list[str]:
        """Refuse what defeats it now or at the next boot; warnings of what may defeat it later."""
        if not self.needed:
            return []
        for step in self._settings():
            if not self._host.sysctl_writable(step.interface, step.name):
                raise HostError(
                    f"{step.sysctl} is {step.before} and cannot be set to {step.after}, since /proc/sys is read-only "
                    f"here (a container?); without it this host would answer ARP for the virtual IPs"
                )
        all_ignore = arp.wanted_value(arp.IGNORE, self._observed.all_ignore)
        now = arp.culprits_now(self._observed.interfaces, all_ignore)
        boot = arp.Boot([*self._others, arp.SysctlFile(self._file, self._text())])
        certain, possible = arp.culprits_at_boot(
            boot, self._file, self._observed.presence(), self._host.late_sysctl_file()
        )
        if now or certain:
            raise HostError("; ".join([*now, *certain]))
        return [*self._silent(all_ignore), *self._deaf(), *possible]

    # --- its parts -----------------------------------------------------------------------------------

    def _current(self) -> list[tuple[str, int]]:
        return [(arp.ANNOUNCE, self._observed.all_announce), (arp.IGNORE, self._observed.all_ignore)]

    def _settings(self) -> list[SetSysctl]:
        wanted = [(name, current, arp.wanted_value(name, current)) for name, current in self._current()]
        return [SetSysctl("all", name, current, after) for name, current, after in wanted if after != current]

    def _text(self) -> str:
        # A stricter value that the administrator has set is kept; our file, applied later, would lower it at boot.
        return sysctl_text(arp.wanted_value(arp.IGNORE, arp.Boot(self._others).number("all", arp.IGNORE)))

    def _silent(self, all_ignore: int) -> list[str]:
        """NICs that are down, or ports of a bridge, and would answer if they were not."""
        return [
            f"{arp.key(interface.name, arp.IGNORE)} is {interface.ignore}, which defeats {arp.key('all', arp.IGNORE)}: "
            f"once {interface.name} is up, it answers ARP for addresses that are on lo; set it to 0"
            for interface in self._observed.interfaces
            if is_nic(self._observed.links[interface.name])
            and not interface.speaks_arp
            and not arp.suppresses(max(all_ignore, interface.ignore))
        ]

    def _deaf(self) -> list[str]:
        return [
            f"{name} answers no ARP at all, since arp_ignore is 8 there: the load balancer cannot find this host's MAC "
            f"by itself"
            for name in deaf_nics(self._observed)
        ]
