# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A program on a lab host that answers each line with a line of numbers."""

from __future__ import annotations

import os
import select
import time

from lab import LabError
from lab.running import Running


class Asked:
    """The program, which has said READY."""

    def __init__(self, running: Running) -> None:
        self._running = running.wait_for("READY")

    def ask(self, command: str, timeout: float = 120.0) -> list[float]:
        """Give a command and wait for the numbers of its answer."""
        process = self._running.process
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(f"{command}\n".encode())
        process.stdin.flush()
        said = b""
        until = time.monotonic() + timeout
        while not said.endswith(b"\n"):
            ready = select.select([process.stdout], [], [], max(0.0, until - time.monotonic()))[0]
            more = os.read(process.stdout.fileno(), 4096) if ready else b""
            if not more:
                why = self._running.finish(timeout=5.0).stderr.strip() if ready else "no answer"
                self._running.close()
                raise LabError(f"{' '.join(self._running.argv)}: '{command}': {why}")
            said += more
        return [float(word) for word in said.split()]

    def close(self) -> None:
        self._running.close()
