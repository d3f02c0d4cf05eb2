# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs that run in a lab host."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Optional

from .errors import LabError


class Result(NamedTuple):
    """How a program ended."""

    status: int
    stdout: str
    stderr: str

    def json(self) -> Any:
        """What it printed last, read as JSON."""
        return json.loads(self.stdout.strip().splitlines()[-1])


class Running:
    """A program in a host. It ends when this object is closed, or with its host."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], argv: Sequence[str]) -> None:
        self.argv = list(argv)
        self._output = b""
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # it lives as long as the program
        # In a group of its own: nsenter stands between us and the program, and signals are for both.
        self.process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=dict(environment),
            start_new_session=True,
        )

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_unused: object) -> None:
        self.close()

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def wait_for(self, text: str = "READY", timeout: float = 20.0) -> Running:
        """Wait until the program has printed the line ``text``."""
        until = time.monotonic() + timeout
        while text.encode() not in self._output.splitlines():
            if not self._read(until):
                why = "ended" if self.process.poll() is not None else f"is silent for {timeout:g} s"
                self.close()
                raise LabError(f"{' '.join(self.argv)}: {why} without '{text}': {self._said()}")
        return self

    def printed(self) -> str:
        """What the program has printed so far."""
        while self._read(time.monotonic()):
            pass
        return self._output.decode(errors="replace")

    def finish(self, input: Optional[str] = None, timeout: float = 60.0) -> Result:
        """Give the program its input, or the end of it, and wait until it ended."""
        try:
            # communicate() takes up what was not read before; both outputs come to one text.
            output, _unused = self.process.communicate(None if input is None else input.encode(), timeout)
        except subprocess.TimeoutExpired:
            self.close()
            raise LabError(f"{' '.join(self.argv)}: not done within {timeout:g} s: {self._said()}") from None
        except BaseException:
            self.close()
            raise
        self._output += output
        result = Result(self.process.returncode, self._output.decode(errors="replace"), self._said(whole=True))
        self._errors.close()
        return result

    def stop(self, timeout: float = 30.0) -> Any:
        """End the program by closing its standard input; what it reports then, as JSON."""
        result = self.finish(timeout=timeout)
        if result.status != 0:
            raise LabError(f"{' '.join(self.argv)}: exit status {result.status}: {result.stderr.strip()[-2000:]}")
        return result.json()

    def signal(self, number: int) -> None:
        """Send a signal to the program."""
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            pass

    def close(self) -> None:
        """End the program now, and what it started unless that left its process group."""
        if self.running:
            # The program first, so that nsenter buries it. An orphan from another process namespace is left to the
            # machine's init, and until that comes round to it the host's namespaces can't end.
            # nsenter may not have come to start it yet, so this is tried until it has.
            for _unused in range(500):
                for child in self._children():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(child, signal.SIGKILL)
                if self._ended_within(0.01):
                    break
            self.signal(signal.SIGKILL)
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()

    def _children(self) -> list[int]:
        """What nsenter started; it can't have been buried before nsenter is."""
        pid = self.process.pid
        try:
            with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as listed:
                return [int(child) for child in listed.read().split()]
        except OSError:
            return []

    def _ended_within(self, timeout: float) -> bool:
        handle = os.pidfd_open(self.process.pid)
        try:
            return bool(select.select([handle], [], [], timeout)[0])
        finally:
            os.close(handle)

    def _read(self, until: float) -> bool:
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], max(0.0, until - time.monotonic()))[0]:
            return False
        more = os.read(self.process.stdout.fileno(), 65536)
        self._output += more
        return bool(more)

    def _said(self, whole: bool = False) -> str:
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace")
        return said if whole else " ".join(said.split())[-500:] or "it says nothing"
