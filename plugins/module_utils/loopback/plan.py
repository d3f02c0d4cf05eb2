# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A change as an ordered list of steps, each with what was there before. Pure: nothing is done here.

Check mode shows the same steps that a run does, the diff is made from them, and so is the way back
when a step fails.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Optional, Union

from ..common.iproute import IPInterface, add_address_arguments


@dataclass(frozen=True)
class FileState:
    """A file as it is or shall be."""

    text: str
    mode: int


@dataclass(frozen=True)
class SetFile:
    """Write a file (``after``) or remove it (None)."""

    path: str
    before: Optional[FileState]
    after: Optional[FileState]

    def __str__(self) -> str:
        return f"write {self.path}" if self.after else f"remove {self.path}"

    def undo(self) -> SetFile:
        return SetFile(self.path, self.after, self.before)


@dataclass(frozen=True)
class SetSymlink:
    """Make a symbolic link to ``after``, or remove it (None)."""

    path: str
    before: Optional[str]
    after: Optional[str]

    def __str__(self) -> str:
        return f"link {self.path} to {self.after}" if self.after else f"remove {self.path}"

    def undo(self) -> SetSymlink:
        return SetSymlink(self.path, self.after, self.before)


@dataclass(frozen=True)
class SetSysctl:
    interface: str
    name: str
    before: int
    after: int

    def __str__(self) -> str:
        return f"sysctl {self.sysctl}={self.after}"

    @property
    def sysctl(self) -> str:
        return f"net.ipv4.conf.{self.interface}.{self.name}"

    def undo(self) -> SetSysctl:
        return SetSysctl(self.interface, self.name, self.after, self.before)


@dataclass(frozen=True)
class AddAddress:
    link: str
    address: IPInterface

    def __str__(self) -> str:
        return " ".join(["ip", *add_address_arguments(self.link, self.address)])

    def undo(self) -> DeleteAddress:
        return DeleteAddress(self.link, self.address)


@dataclass(frozen=True)
class DeleteAddress:
    link: str
    address: IPInterface

    def __str__(self) -> str:
        return f"ip address delete {self.address} dev {self.link}"

    def undo(self) -> AddAddress:
        return AddAddress(self.link, self.address)


@dataclass(frozen=True)
class Refresh:
    """Have a program read our files again. It has no way back of its own: it is run again after one."""

    argv: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join(self.argv)

    def undo(self) -> None:
        return None


@dataclass(frozen=True)
class Wanted:
    """What something that brings addresses back at boot wants on disk. None: no such file.

    ``refresh`` has it read again; that is needed when a file changes, or when ``stale``.
    """

    files: Mapping[str, Optional[FileState]] = field(default_factory=dict)
    symlinks: Mapping[str, Optional[str]] = field(default_factory=dict)
    refresh: tuple[Refresh, ...] = ()
    stale: bool = False


Step = Union[SetFile, SetSymlink, SetSysctl, AddAddress, DeleteAddress, Refresh]


def diff(steps: Sequence[Step]) -> list[dict[str, str]]:
    """The steps as Ansible shows differences: the kernel's part first, then file by file."""
    before: list[str] = []
    after: list[str] = []
    for step in steps:
        if isinstance(step, SetSysctl):
            before.append(f"{step.sysctl} = {step.before}")
            after.append(f"{step.sysctl} = {step.after}")
        elif isinstance(step, DeleteAddress):
            before.append(f"{step.address} dev {step.link}")
        elif isinstance(step, AddAddress):
            after.append(" ".join(add_address_arguments(step.link, step.address)[2:]))
    shown = []
    if before or after:
        shown.append(_part("kernel", _lines(before), _lines(after)))
    for path, (old, new) in _files(steps).items():
        old_text, new_text = (_shown(state) for state in (old, new))
        if old_text == new_text and old is not None and new is not None:
            # The text is right and the permissions are not
            old_text, new_text = f"mode: {_mode(old)}\n", f"mode: {_mode(new)}\n"
        if old_text != new_text:
            shown.append(_part(path, old_text, new_text))
    return shown


def _files(steps: Sequence[Step]) -> dict[str, tuple[object, object]]:
    """Every file of the steps, as before the first and after the last of them."""
    found: dict[str, tuple[object, object]] = {}
    for step in steps:
        if isinstance(step, (SetFile, SetSymlink)):
            first = found[step.path][0] if step.path in found else step.before
            found[step.path] = (first, step.after)
    return found


def _shown(state: object) -> str:
    if isinstance(state, FileState):
        return state.text
    return f"link to {state}\n" if state else ""


def _mode(state: object) -> str:
    return f"{state.mode:04o}" if isinstance(state, FileState) else ""


def _lines(lines: Sequence[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _part(header: str, before: str, after: str) -> dict[str, str]:
    return {"before_header": header, "after_header": header, "before": before, "after": after}
