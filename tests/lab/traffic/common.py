# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all actions share: how they report, and when they end."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import time
from collections.abc import Sequence
from typing import Any, Optional

# Not in Python's socket module
SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33


def report(result: dict[str, Any]) -> None:
    print(json.dumps(result), flush=True)


def ready() -> None:
    print("READY", flush=True)


class Stop:
    """Says when to end: at a signal, and after some seconds or else at the end of standard input."""

    def __init__(self, seconds: Optional[float], watch_input: bool = True) -> None:
        self.until = time.monotonic() + seconds if seconds else None
        self._watch_input = watch_input and not seconds
        self._read, write = os.pipe()
        os.set_blocking(write, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_unused: None)

    def left(self) -> Optional[float]:
        """Seconds left; None when there is no limit."""
        return None if self.until is None else max(0.0, self.until - time.monotonic())

    def wait(self, others: Sequence[Any] = ()) -> bool:
        """Wait until one of ``others`` can be read (False) or it is time to end (True)."""
        mine = [self._read, 0] if self._watch_input else [self._read]
        readable, _unused, _unused = select.select([*mine, *others], [], [], self.left())
        if self._read in readable or (0 in readable and not os.read(0, 4096)):
            return True
        return self.until is not None and time.monotonic() >= self.until

    async def come(self) -> None:
        """Wait for it in a loop of asyncio."""
        import asyncio  # takes longer to load than most of what does without it

        loop = asyncio.get_running_loop()
        done = asyncio.Event()

        def look() -> None:
            if not os.read(0, 4096):
                loop.remove_reader(0)
                done.set()

        if self._watch_input:
            # Standard input may be a file or /dev/null, which epoll does not take; that is its end.
            try:
                loop.add_reader(0, look)
            except PermissionError:
                done.set()
        loop.add_reader(self._read, done.set)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(done.wait(), self.left())


def enlarge_buffers(sock: socket.socket, size: int = 1 << 22) -> None:
    """Room for many large datagrams in both directions, as far as this process may."""
    for force, usual in ((SO_RCVBUFFORCE, socket.SO_RCVBUF), (SO_SNDBUFFORCE, socket.SO_SNDBUF)):
        try:
            sock.setsockopt(socket.SOL_SOCKET, force, size)
        except OSError:
            sock.setsockopt(socket.SOL_SOCKET, usual, size)
