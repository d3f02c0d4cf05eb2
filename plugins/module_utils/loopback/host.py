# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host that a module runs on: its files, sysctls, links and addresses. The only writer of this package.

Every path goes through ``root``, so that the whole can be run on a folder.
"""

from __future__ import annotations

import contextlib
import glob
import os
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from typing import Callable, Optional

from ..common import files
from ..common.command import Runner, find_program, must, run
from ..common.errors import DsrError, HostError
from ..common.iproute import HeldAddress, Iproute, Link
from . import arp
from .persisted import HEADER, is_ours
from .plan import AddAddress, DeleteAddress, FileState, Refresh, SetFile, SetSymlink, SetSysctl, Step

STATE_FOLDER = "/var/lib/nft-dsr"
_LOCK = "/run/lock/nft-dsr-addresses.lock"


class Host:
    """One host. ``find`` tells where a program is, as find_program does."""

    def __init__(
        self,
        root: str = "/",
        runner: Runner = run,
        find: Callable[[str], Optional[str]] = find_program,
        iproute: Optional[Iproute] = None,
    ) -> None:
        self.root = root.rstrip("/")
        self.run = runner
        self.find = find
        self.iproute = iproute or Iproute(runner)

    # --- reading ----------------------------------------------------------------------------------

    def path(self, path: str) -> str:
        return f"{self.root}{path}"

    def require_root(self) -> None:
        if not self.root and os.geteuid() != 0:
            raise HostError("this needs root: addresses, sysctls and files in /etc are changed; use 'become: true'")

    def exists(self, path: str) -> bool:
        return os.path.lexists(self.path(path))

    def file(self, path: str) -> Optional[FileState]:
        """A file as it is, or None when there is none."""
        text = files.read_text(self.path(path))
        mode = files.file_mode(self.path(path))
        return None if text is None or mode is None else FileState(text, mode)

    def own_file(self, path: str) -> Optional[FileState]:
        """The same, when the file is ours; None as well when it is somebody else's."""
        state = self.file(path)
        return state if state is not None and is_ours(state.text) else None

    def require_own(self, path: str, instead: str) -> None:
        """Refuse a file at our path that is somebody else's: it is never overwritten, never merged into."""
        state = self.file(path)
        if state is not None and not is_ours(state.text):
            raise HostError(
                f"{path} was not written by this collection, so it is left alone (ours starts with the line "
                f"'{HEADER}'); move it away or {instead}"
            )

    def foreign_text(self, path: str) -> Optional[str]:
        """What somebody else's file says; None when it cannot be read."""
        try:
            with open(self.path(path), encoding="utf-8", errors="replace") as handle:
                return handle.read()
        except OSError:
            return None

    def symlink(self, path: str) -> Optional[str]:
        """Where a symbolic link points to; None when ``path`` is none."""
        try:
            return os.readlink(self.path(path))
        except OSError:
            return None

    def glob(self, pattern: str) -> list[str]:
        """Paths below the root that match, sorted."""
        found = glob.glob(glob.escape(self.root) + pattern)
        return sorted(path[len(self.root) :] for path in found)

    @property
    def booted_with_systemd(self) -> bool:
        """Whether there is a systemd to talk to: it is the first process."""
        # /run/systemd/system says nothing: 'netplan generate' makes it anywhere
        return (self.foreign_text("/proc/1/comm") or "").strip() == "systemd"

    def links(self) -> dict[str, Link]:
        return self.iproute.links()

    def addresses(self) -> list[HeldAddress]:
        return self.iproute.addresses()

    def sysctl(self, interface: str, name: str) -> Optional[int]:
        """An IPv4 setting of an interface (or ``all``, ``default``); None when the kernel has none."""
        text = self.foreign_text(f"/proc/sys/{arp.path_of(interface, name)}")
        return int(text) if text and text.strip().lstrip("-").isdigit() else None

    def sysctl_writable(self, interface: str, name: str) -> bool:
        return os.access(self.path(f"/proc/sys/{arp.path_of(interface, name)}"), os.W_OK)

    def ipv6_disabled(self, interface: str) -> bool:
        text = self.foreign_text(f"/proc/sys/net/ipv6/conf/{interface}/disable_ipv6")
        return text is None or text.strip() == "1"

    def sysctl_files(self) -> list[arp.SysctlFile]:
        """All files of the sysctl.d folders."""
        found = (path for folder in arp.FOLDERS for path in self.glob(f"{folder}/*.conf"))
        texts = ((path, self.foreign_text(path)) for path in found)
        return [arp.SysctlFile(path, text) for path, text in texts if text is not None]

    def late_sysctl_file(self) -> Optional[arp.SysctlFile]:
        """/etc/sysctl.conf where it is read by 'sysctl --system' alone, not at boot by way of a link in sysctl.d."""
        path = "/etc/sysctl.conf"
        linked = {os.path.realpath(self.path(found)) for found in self.glob("/etc/sysctl.d/*.conf")}
        text = None if os.path.realpath(self.path(path)) in linked else self.foreign_text(path)
        return None if text is None else arp.SysctlFile(path, text)

    # --- changing ---------------------------------------------------------------------------------

    @contextlib.contextmanager
    def locked(self, check_mode: bool) -> Iterator[None]:
        """One run at a time. Check mode changes nothing, not even the lock's file."""
        if check_mode:
            yield
            return
        with files.lock(self.path(_LOCK)):
            yield

    def apply(self, steps: Sequence[Step]) -> None:
        """Take the steps in order. When one fails, those before it are taken back, last one first."""
        done: list[Step] = []
        try:
            for step in steps:
                self._take(step)
                done.append(step)
        except DsrError as error:
            raise HostError(f"{error}. {self._take_back(done)}") from error

    def _take_back(self, done: Sequence[Step]) -> str:
        troubles = []
        backwards = [step.undo() for step in reversed(done)]
        again = [step for step in done if isinstance(step, Refresh)]
        for step in [*(step for step in backwards if step is not None), *again]:
            try:
                self._take(step)
            except DsrError as error:
                troubles.append(str(error))
        if troubles:
            return f"Not all of what was done before it could be undone: {'; '.join(troubles)}"
        return "What was done before it was undone, so nothing has changed"

    def _take(self, step: Step) -> None:
        if isinstance(step, SetFile):
            self._set_file(step)
        elif isinstance(step, SetSymlink):
            self._set_symlink(step)
        elif isinstance(step, SetSysctl):
            self._set_sysctl(step)
        elif isinstance(step, AddAddress):
            self.iproute.add_address(step.link, step.address)
        elif isinstance(step, DeleteAddress):
            self.iproute.delete_address(step.link, step.address)
        else:
            must(self.run(list(step.argv), None))

    def _set_file(self, step: SetFile) -> None:
        if step.after is not None:
            files.write_text(self.path(step.path), step.after.text, step.after.mode)
        else:
            files.remove(self.path(step.path))
            self._remove_own_folder(step.path)

    def _set_symlink(self, step: SetSymlink) -> None:
        path = self.path(step.path)
        try:
            files.remove(path)
            if step.after is not None:
                os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
                os.symlink(step.after, path)
            else:
                self._remove_own_folder(step.path)
        except OSError as error:
            raise HostError(f"{step.path}: cannot be made: {error.strerror}") from error

    def _remove_own_folder(self, path: str) -> None:
        """Folders that exist for files such as ours alone go with the last of them."""
        folder = posixpath.dirname(path)
        if folder == STATE_FOLDER or folder.endswith((".network.d", ".device.wants")):
            with contextlib.suppress(OSError):
                os.rmdir(self.path(folder))

    def _set_sysctl(self, step: SetSysctl) -> None:
        path = self.path(f"/proc/sys/{arp.path_of(step.interface, step.name)}")
        try:
            with open(path, "w", encoding="ascii") as handle:
                handle.write(f"{step.after}\n")
        except OSError as error:
            raise HostError(f"{step.sysctl} cannot be set to {step.after}: {error.strerror}") from error


def file_steps(host: Host, wanted: Mapping[str, Optional[FileState]]) -> list[SetFile]:
    """The steps from the files as they are to the files as wanted; none where they agree."""
    steps = []
    for path, after in wanted.items():
        before = host.file(path)
        if before != after:
            steps.append(SetFile(path, before, after))
    return steps
