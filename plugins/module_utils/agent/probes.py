# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One health check, carried out once. Hundreds at once share one thread, which none of them holds up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Callable, Optional

from ..nft_dsr.health_check import HealthCheck
from . import probe_dns, probe_exec, probe_http, probe_icmp
from .probe_base import Connection, Failure, Outcome, Progress, Target, printable

__all__ = ["Outcome", "Target", "probe"]


async def probe(check: HealthCheck, target: Target) -> Outcome:
    """Ask the target once, for ``check.timeout`` seconds at most in all.

    What goes wrong out there, or on this host, is in the outcome and never an exception. When this returns, or is
    cancelled, all that was opened is closed; a command that had to be killed is collected as soon as it is dead.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    progress = Progress()
    limit = _Limit()
    timer = loop.call_later(check.timeout, limit.end)
    try:
        failure = await _attempt(check, target, progress)
    except asyncio.CancelledError:
        if not limit.over:
            raise
        return Outcome(False, f"{progress.lacking} within {check.timeout:g} s", loop.time() - began)
    finally:
        timer.cancel()
    seconds = loop.time() - began
    if failure is not None:
        return Outcome(False, printable(str(failure)), seconds, failure.own)
    return Outcome(True, "", seconds)


class _Limit:
    """Ends the task in which it was made, and remembers that it was it.

    Who cancels that task in the same moment is given the outcome instead: there is nothing left to cancel. A task of
    the probe's own would tell the two apart, and take as much time as the whole of a connection.
    """

    def __init__(self) -> None:
        self._task = asyncio.current_task()
        self.over = False

    def end(self) -> None:
        self.over = True
        if self._task is not None:
            self._task.cancel()


async def _attempt(check: HealthCheck, target: Target, progress: Progress) -> Optional[Failure]:
    try:
        await _KINDS[check.type](check, target, progress)
    except Failure as failure:
        return failure
    except OSError as error:
        return Failure.of(error)
    return None


async def _tcp(check: HealthCheck, target: Target, progress: Progress) -> None:
    """A connection, and what the server says first if something is expected of it."""
    wanted = (check.expect or "").encode()
    connection = await Connection.to(target)
    try:
        progress.lacking = "connected, but nothing more came" if wanted else progress.lacking
        got = b""
        while not got.startswith(wanted):
            data = await connection.receive()
            got += data
            if not data or not wanted.startswith(got[: len(wanted)]):
                said = printable(got.decode(errors="replace"), 40)
                raise Failure(f"server said {said!r}, wanted {check.expect!r}" if got else "connection closed silently")
    finally:
        connection.close()


_KINDS: Mapping[str, Callable[[HealthCheck, Target, Progress], Awaitable[None]]] = {
    "tcp": _tcp,
    "http": probe_http.ask,
    "https": probe_http.ask,
    "dns": probe_dns.ask,
    "icmp": probe_icmp.ask,
    "exec": probe_exec.ask,
}
