# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ARP as the kernel answers it, and sysctl.d as it is applied at boot. Pure: text and numbers in, verdicts out.

The kernel uses the higher of ``all`` and of the value of the NIC that received the request; the value of
the interface that holds the address (``lo``) plays no part.
"""

from __future__ import annotations

import fnmatch
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

IGNORE = "arp_ignore"
ANNOUNCE = "arp_announce"

# In order of precedence: of two files with one name, the one in the earlier folder is read.
FOLDERS = ("/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d", "/lib/sysctl.d")

# Values of arp_ignore with which an address that only lo holds is not answered for.
# 1: the NIC that was asked must hold it; 2: and the asker must be on its network; 8: never.
# 3 and all others are no "stricter 2": they let it be answered.
SUPPRESSING = (1, 2, 8)
WANTED_IGNORE = 1
WANTED_ANNOUNCE = 2


def suppresses(ignore: int) -> bool:
    """Whether this effective arp_ignore keeps a virtual IP on lo unanswered."""
    return ignore in SUPPRESSING


def key(interface: str, name: str) -> str:
    """A sysctl as people write it; a dot in the name of an interface stands as a slash there."""
    return f"net.ipv4.conf.{interface.replace('.', '/')}.{name}"


def path_of(interface: str, name: str) -> str:
    """The same below /proc/sys."""
    return f"net/ipv4/conf/{interface}/{name}"


@dataclass(frozen=True)
class Interface:
    """What counts about an interface when somebody asks for an address by ARP."""

    name: str
    speaks_arp: bool  # a NIC that is up, is no port of another one, and does ARP at all
    ignore: int
    announce: int


@dataclass(frozen=True)
class Held:
    """An address that an interface holds. ``host_scope`` as in ``scope host``: valid on this host only."""

    interface: str
    address: str
    host_scope: bool = False


def who_answers(address: str, all_ignore: int, interfaces: Iterable[Interface], held: Iterable[Held]) -> list[str]:
    """The NICs that would answer an ARP request for ``address``, by name."""
    holders = [entry for entry in held if entry.address == address]
    if not holders:
        return []
    return sorted(
        interface.name
        for interface in interfaces
        if interface.speaks_arp and _answers(interface.name, max(all_ignore, interface.ignore), holders)
    )


def _answers(name: str, ignore: int, holders: Sequence[Held]) -> bool:
    if ignore == 8:
        return False
    if ignore in (1, 2):
        return any(holder.interface == name for holder in holders)
    if ignore == 3:
        return any(not holder.host_scope for holder in holders)
    return True


# --- sysctl.d -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class SysctlFile:
    path: str
    text: str

    @property
    def name(self) -> str:
        return posixpath.basename(self.path)


@dataclass(frozen=True)
class Setting:
    """One line of a file: ``key`` with slashes, below /proc/sys. ``value`` None: kept out of patterns."""

    key: str
    value: Optional[str]
    path: str
    line: int

    @property
    def pattern(self) -> bool:
        return any(sign in self.key for sign in "*?[")

    @property
    def number(self) -> Optional[int]:
        try:
            return int(self.value or "", 0)
        except ValueError:
            return None

    @property
    def where(self) -> str:
        return f"{self.path} line {self.line}"


def normalise(name: str) -> str:
    """A sysctl's name with slashes. Its first separator decides what dots and slashes mean in it."""
    separators = [sign for sign in name if sign in "./"]
    if separators and separators[0] == ".":
        name = name.translate({ord("."): "/", ord("/"): "."})
    return name


def parse(file: SysctlFile) -> list[Setting]:
    """The settings of one file, in order. Lines that sysctl would skip are skipped."""
    settings = []
    for number, line in enumerate(file.text.splitlines(), start=1):
        line = line.strip()
        if not line or line[0] in "#;":
            continue
        name, equals, value = line.partition("=")
        name = name.strip()
        if equals:
            settings.append(Setting(normalise(name.lstrip("-").strip()), value.strip(), file.path, number))
        elif name.startswith("-"):
            settings.append(Setting(normalise(name[1:].strip()), None, file.path, number))
    return settings


def in_force(files: Iterable[SysctlFile]) -> list[SysctlFile]:
    """The files that are read at boot, in the order in which they are applied: by name, later wins."""
    chosen: dict[str, SysctlFile] = {}
    for file in files:
        folder = posixpath.dirname(file.path)
        if folder not in FOLDERS or not file.name.endswith(".conf"):
            continue
        other = chosen.get(file.name)
        if other is None or FOLDERS.index(folder) < FOLDERS.index(posixpath.dirname(other.path)):
            chosen[file.name] = file
    return [chosen[name] for name in sorted(chosen)]


class Boot:
    """What sysctl.d leaves in force once a boot is over."""

    def __init__(self, files: Iterable[SysctlFile]) -> None:
        self._explicit: dict[str, Setting] = {}
        self._patterns: list[Setting] = []
        self._excluded: list[Setting] = []
        for file in in_force(files):
            for setting in parse(file):
                if setting.value is None:
                    self._excluded.append(setting)
                elif setting.pattern:
                    self._patterns.append(setting)
                else:
                    self._explicit[setting.key] = setting

    def setting(self, interface: str, name: str) -> Optional[Setting]:
        """The line that decides about ``name`` of ``interface`` (or ``all``, ``default``), or None."""
        wanted = path_of(interface, name)
        # A key that is written out is never touched by a pattern, wherever that stands.
        if wanted in self._explicit:
            return self._explicit[wanted]
        if any(_matches(setting.key, wanted) for setting in self._excluded):
            return None
        for setting in reversed(self._patterns):
            if _matches(setting.key, wanted):
                return setting
        return None

    def number(self, interface: str, name: str) -> Optional[int]:
        setting = self.setting(interface, name)
        return None if setting is None else setting.number

    def interfaces(self, name: str) -> list[str]:
        """The interfaces that a line of their own names for ``name``, patterns aside."""
        found = (re.fullmatch(rf"net/ipv4/conf/([^/]+)/{name}", key) for key in self._explicit)
        return sorted(match.group(1) for match in found if match and match.group(1) not in ("all", "default"))


def _matches(pattern: str, key: str) -> bool:
    """Shell pattern against a path: no sign matches a slash."""
    parts, names = pattern.split("/"), key.split("/")
    return len(parts) == len(names) and all(map(fnmatch.fnmatchcase, names, parts))


# --- what stands in the way -----------------------------------------------------------------------


def wanted_value(name: str, current: Optional[int]) -> int:
    """The value to set where ``current`` is there: a stricter one that serves as well is not lowered."""
    if name == IGNORE:
        return current if current is not None and suppresses(current) else WANTED_IGNORE
    return WANTED_ANNOUNCE


def culprits_now(interfaces: Iterable[Interface], all_ignore: int) -> list[str]:
    """NICs whose own arp_ignore defeats ``all``: with them the virtual IP is answered whatever ``all`` says."""
    return [
        f"{key(interface.name, IGNORE)} is {interface.ignore}, and the kernel uses the higher of it and "
        f"{key('all', IGNORE)}: {interface.name} would answer ARP for addresses that are on lo; "
        f"set it to 0 (values that suppress are 1, 2 and 8)"
        for interface in interfaces
        if interface.speaks_arp and not suppresses(max(all_ignore, interface.ignore))
    ]


def culprits_at_boot(
    boot: Boot, own_path: str, present: Mapping[str, bool], late: Optional[SysctlFile] = None
) -> tuple[list[str], list[str]]:
    """What in sysctl.d would undo ``own_path`` at the next boot: (certainly, under circumstances).

    ``present``: the interfaces of this host and whether each speaks ARP. ``late``: a file that a boot does not read,
    and that ``sysctl --system`` reads after all others.
    """
    certain = []
    possible = []
    for name in (IGNORE, ANNOUNCE):
        setting = boot.setting("all", name)
        if setting is not None and setting.path != own_path and not _serves(name, setting):
            certain.append(
                f"{setting.where} sets {key('all', name)} to {setting.value} and is applied after {own_path}; "
                f"remove that line, or choose a 'sysctl_file' whose name sorts after it"
            )
        for setting in parse(late) if late else ():
            if setting.key == path_of("all", name) and not _serves(name, setting):
                possible.append(
                    f"{setting.where} sets {key('all', name)} to {setting.value}, and 'sysctl --system' applies it "
                    f"after {own_path}; remove that line"
                )
    all_ignore = boot.number("all", IGNORE) or 0
    defeated: dict[Setting, list[str]] = {}
    for interface in sorted({*present, *boot.interfaces(IGNORE), "default"} - {"lo"}):
        setting = boot.setting(interface, IGNORE)
        if setting is None or setting.number is None or setting.number <= all_ignore or suppresses(setting.number):
            continue
        defeated.setdefault(setting, []).append(interface)
    for setting, interfaces in defeated.items():
        speaking = [interface for interface in interfaces if present.get(interface)]
        (certain if speaking else possible).append(
            f"{setting.where} sets {IGNORE} of {', '.join(speaking or interfaces)} to {setting.value}, which defeats "
            f"{key('all', IGNORE)}: with it the virtual IPs are answered for by ARP; remove that line"
        )
    return certain, possible


def _serves(name: str, setting: Setting) -> bool:
    """Whether the suppression can live with this setting of ``all``."""
    if name == IGNORE:
        return setting.number is not None and suppresses(setting.number)
    return setting.number == WANTED_ANNOUNCE
