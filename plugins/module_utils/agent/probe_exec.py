# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The probe that runs a command of the user's, which exits with 0 if the backend is well.

The processes of asyncio end in a thread each, up to Python 3.11. A descriptor that stands for the process, which the
loop can watch like any other, needs none.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Mapping

from ..nft_dsr.health_check import HealthCheck
from .probe_base import READ_SIZE, Failure, Progress, Target

_PATH = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin"
_TAIL = 4096  # bytes of output that are kept


async def ask(check: HealthCheck, target: Target, progress: Progress) -> None:
    progress.lacking = "the command did not end"
    environment = {
        "PATH": _PATH,
        "LC_ALL": "C",
        "DSR_VIP": str(target.vip),
        "DSR_BACKEND": str(target.backend),
        "DSR_PORT": str(target.port or ""),
    }
    try:
        run = _Run(check.command, environment)
    except OSError as error:
        raise Failure(f"this host: cannot run {check.command[0]}: {error.strerror}", own=True) from None
    try:
        status = await run.ended
    finally:
        run.close()
    if status:
        how = f"exit status {status}" if status > 0 else f"ended by {_signal(-status)}"
        raise Failure(f"{how}: {run.last_line}" if run.last_line else how)


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class _Run:
    """A command that runs, as a group of its own; ``ended`` becomes its exit status.

    Nothing of its group outlives it, so that checks that leave processes behind do not fill the host.
    """

    def __init__(self, command: tuple[str, ...], environment: Mapping[str, str]) -> None:
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[int] = self._loop.create_future()
        self._tail = b""
        self._output, written = os.pipe()
        try:
            # Not AnsibleModule.run_command: the agent is no module.
            self._process = subprocess.Popen(  # pylint: disable=ansible-bad-function
                command,
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=written,
                env=environment,
                cwd="/",
                start_new_session=True,
            )
            try:
                self._handle = os.pidfd_open(self._process.pid)
            except BaseException:
                self._kill()
                self._process.wait()
                raise
        except BaseException:
            os.close(self._output)
            raise
        finally:
            os.close(written)
        self._loop.add_reader(self._handle, self._on_end)
        self._loop.add_reader(self._output, self._on_output)

    @property
    def last_line(self) -> str:
        lines = self._tail.decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def close(self) -> None:
        """Kill what still runs. A process that the kernel cannot end at once is collected when it can."""
        if self._output >= 0:
            self._loop.remove_reader(self._output)
            os.close(self._output)
            self._output = -1
        if not self.ended.done() or self.ended.cancelled():
            self._kill()

    def _kill(self) -> None:
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass

    def _on_output(self) -> None:
        """Keep the end of it."""
        data = os.read(self._output, READ_SIZE)
        if not data:
            self._loop.remove_reader(self._output)
        self._tail = (self._tail + data)[-_TAIL:]

    def _on_end(self) -> None:
        """All that it has written is read in the same turn of the loop, as a pipe holds no more than one read takes."""
        self._kill()  # as long as the dead leader is not collected, its number is nobody else's
        status = self._process.wait()
        self._loop.remove_reader(self._handle)
        os.close(self._handle)
        if not self.ended.done():
            self.ended.set_result(status)
