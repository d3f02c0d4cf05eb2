# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of a lab outside of the process that made it: /run/dsr-lab/NAME.

``processes/MACHINE`` holds the id and the start time of a machine's first process, and is the only place that
does; ``lab.json`` holds the topology. Whoever wants a lab's name takes it by making the folder.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import re
import select
import shutil
import signal
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Optional

from .errors import LabError

ROOT = Path("/run/dsr-lab")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,40}")
_numbers = itertools.count(1)


def unused_name() -> str:
    """A name that no other lab of this machine has."""
    return f"test-{os.getpid()}-{next(_numbers)}"


class ProcessId(NamedTuple):
    """A process, named so that it can't be taken for a later one with the same number."""

    pid: int
    started: int  # clock ticks after boot

    @classmethod
    def of(cls, pid: int) -> Optional[ProcessId]:
        """The process that has this number now; None when there is none, or only its remains."""
        try:
            # The name in parentheses may hold anything; fields are counted from what follows it.
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] in "ZX" else cls(pid, int(fields[19]))

    @property
    def alive(self) -> bool:
        return ProcessId.of(self.pid) == self

    def kill(self, timeout: float = 10.0) -> None:
        """End the process and wait for its end. One that is gone already is fine."""
        try:
            handle = os.pidfd_open(self.pid)
        except OSError:
            return
        try:
            # The handle keeps naming the same process from here on.
            if not self.alive:
                return
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            if not select.select([handle], [], [], timeout)[0]:
                raise LabError(f"process {self.pid} does not end")
        except ProcessLookupError:
            return
        finally:
            os.close(handle)


class LabState:
    """The folder of one lab."""

    def __init__(self, name: str) -> None:
        if not _NAME.fullmatch(name):
            raise LabError(f"'{name}' is no name for a lab: use lower-case letters, digits, - and _")
        self.name = name
        self.folder = ROOT / name
        self._token = ""

    @property
    def exists(self) -> bool:
        return self.folder.is_dir()

    def claim(self) -> None:
        """Take the name. Labs whose makers were killed have ended with them; what is noted of them is forgotten."""
        with _lock():
            for path in filter(lambda path: _NAME.fullmatch(path.name), ROOT.iterdir()):
                noted = LabState(path.name).processes().values()
                if noted and not any(process.alive for process in noted):
                    shutil.rmtree(path, ignore_errors=True)
            try:
                (self.folder / "processes").mkdir(parents=True)
            except FileExistsError:
                raise LabError(
                    f"a lab named '{self.name}' is up already; take it down first or use another name"
                ) from None
            self._token = uuid.uuid4().hex
            (self.folder / "token").write_text(self._token, encoding="ascii")

    def release(self) -> None:
        """Give the name back, unless the lab was removed meanwhile and the name is another lab's now."""
        if self._token and self._written_token() == self._token:
            self.remove()

    def remove(self) -> None:
        """End every process of the lab, and with them its namespaces and mounts, and forget it."""
        for process in self.processes().values():
            process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _written_token(self) -> str:
        try:
            return (self.folder / "token").read_text(encoding="ascii")
        except OSError:
            return ""

    def processes(self) -> dict[str, ProcessId]:
        """The first process of every machine of the lab."""
        found = {}
        for path in sorted((self.folder / "processes").glob("[!.]*")):
            try:
                pid, started = path.read_text(encoding="ascii").split()
            except (OSError, ValueError):
                continue
            found[path.name] = ProcessId(int(pid), int(started))
        return found

    def note(self, machine: str, process: ProcessId) -> None:
        _replace(self.folder / "processes" / machine, f"{process.pid} {process.started}\n")

    def forget(self, machine: str, process: ProcessId) -> None:
        """Undo note(), unless the machine of this name is another one by now."""
        if self.processes().get(machine) == process:
            (self.folder / "processes" / machine).unlink(missing_ok=True)

    def save(self, topology: dict[str, Any]) -> None:
        _replace(self.folder / "lab.json", json.dumps(topology, indent=2) + "\n")

    def load(self) -> dict[str, Any]:
        try:
            topology: dict[str, Any] = json.loads((self.folder / "lab.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise LabError(f"there is no lab named '{self.name}'") from None
        self._token = self._written_token()
        return topology


@contextmanager
def _lock() -> Iterator[None]:
    try:
        ROOT.mkdir(mode=0o755, parents=True, exist_ok=True)
        descriptor = os.open(ROOT, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise LabError(f"{ROOT}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except FileNotFoundError:
        raise LabError("the lab was taken down by someone else") from None
