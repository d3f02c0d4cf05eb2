# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine of the lab: namespaces that live as long as their first process."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Optional

from .errors import LabError
from .running import Result, Running
from .state import LabState, ProcessId

_HERE = Path(__file__).resolve().parent
_NEEDED = ("unshare", "nsenter", "ip", "mount", "umount", "pivot_root", "sh")
# What someone who logs in gets: nothing of the caller's environment.
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "USER": "root",
    "SHELL": "/bin/sh",
    "LANG": "C.UTF-8",
}


def check_machine() -> None:
    """LabError when this machine cannot have a lab."""
    if os.geteuid() != 0:
        raise LabError("the lab needs root: it makes network and mount namespaces (try sudo)")
    missing = [name for name in _NEEDED if shutil.which(name, path=ENVIRONMENT["PATH"]) is None]
    if missing:
        raise LabError(f"not installed on this machine: {', '.join(missing)} (packages util-linux and iproute2)")


class Machine:
    """A switch (a network namespace) or a host (namespaces for all that the lab needs, and a disk of its own)."""

    def __init__(self, state: LabState, name: str, process: ProcessId) -> None:
        self.name = name
        self.process = process
        self._state = state
        self._child: Optional[subprocess.Popen[str]] = None

    @classmethod
    def start(cls, state: LabState, name: str, *, host: bool, linger: bool, shown: Iterable[Path] = ()) -> Machine:
        """Start a machine and wait until it is ready. It ends with this process unless it is to ``linger``."""
        spaces = ["--mount", "--net", *(["--pid", "--uts", "--ipc"] if host else [])]
        kind, life = "host" if host else "switch", "lingering" if linger else "owned"
        init = ["sh", str(_HERE / "machine-init"), kind, life, name, str(state.folder), *map(str, shown)]
        child = subprocess.Popen(
            ["unshare", *spaces, "--fork", "--kill-child", "--", *init],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=ENVIRONMENT,
            encoding="utf-8",
            start_new_session=True,  # Ctrl-C is for the caller, not for the hosts
        )
        process = None
        try:
            process = ProcessId.of(int(_line(child) or 0))
            if process is None:
                raise LabError(_complaint(child, name))
            state.note(name, process)
            machine = cls(state, name, process)
            machine._child = child
            assert child.stdin is not None
            child.stdin.write("go\n")
            child.stdin.flush()
            if _line(child) != "READY":
                raise LabError(_complaint(child, name))
            if linger:
                child.stdin.close()
            return machine
        except BaseException:
            child.kill()  # takes the machine's first process with it
            _bury(child)
            if process is not None:
                state.forget(name, process)
            raise

    def stop(self) -> None:
        """End the machine with everything that runs in it."""
        self.process.kill()
        if self._child is not None:
            _bury(self._child)
        self._state.forget(self.name, self.process)

    def enter(self, argv: Sequence[str], *spaces: str) -> list[str]:
        """The command that runs ``argv`` inside, in all namespaces or those named."""
        if not self.process.alive:
            raise LabError(f"the machine '{self.name}' of the lab '{self._state.name}' is down")
        chosen = spaces or ("mount", "uts", "ipc", "net", "pid")
        return ["nsenter", "--target", str(self.process.pid), *(f"--{space}" for space in chosen), "--", *argv]

    def run(self, argv: Sequence[str], input: Optional[str] = None, timeout: float = 60.0) -> Result:
        """Run ``argv`` inside and wait for it; what it left running after ``timeout`` is ended."""
        return Running(self.enter(argv), ENVIRONMENT, argv=argv).finish(input, timeout)

    def popen(self, argv: Sequence[str]) -> Running:
        """Start ``argv`` inside."""
        return Running(self.enter(argv), ENVIRONMENT, argv=argv)

    def ip(self, *lines: str) -> None:
        """Give commands to this machine's `ip`, in this machine's network."""
        done = Running(self.enter(["ip", "-batch", "-"], "net"), ENVIRONMENT, argv=["ip", "-batch", "-"])
        result = done.finish("".join(f"{line}\n" for line in lines), 30.0)
        if result.status != 0:
            raise LabError(f"{self.name}: {'; '.join(lines)}: {result.stderr.strip()}")


def _line(child: subprocess.Popen[str], timeout: float = 30.0) -> str:
    """The next line that a starting machine says; '' at its end."""
    assert child.stdout is not None
    said = b""
    until = time.monotonic() + timeout
    # Read byte by byte: what a buffer holds can't be waited for.
    while not said.endswith(b"\n"):
        if not select.select([child.stdout], [], [], max(0.0, until - time.monotonic()))[0]:
            raise LabError("a machine of the lab does not start")
        byte = os.read(child.stdout.fileno(), 1)
        if not byte:
            return ""
        said += byte
    return said.decode().strip()


def _bury(child: subprocess.Popen[str]) -> None:
    child.wait()
    for stream in (child.stdin, child.stdout, child.stderr):
        if stream is not None:
            stream.close()


def _complaint(child: subprocess.Popen[str], name: str) -> str:
    child.kill()
    child.wait()
    assert child.stderr is not None
    said = " ".join(child.stderr.read().split())
    if "overlay" in said and ("unknown filesystem" in said or "wrong fs type" in said):
        said = f"this kernel has no overlayfs, or not for this root file system ({said})"
    elif "not permitted" in said:
        said = f"this machine does not let root make namespaces or mounts, as in a container ({said})"
    return f"{name}: the machine does not start: {said or 'it says nothing'}"
