# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands, and that nothing is left of them."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.dsr.layer2.plugins.module_utils.agent import probe_exec
from ansible_collections.dsr.layer2.plugins.module_utils.agent.probes import Outcome, Target, probe
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.agent.probing import (
    LOCAL,
    LOCAL6,
    descriptors,
    health_check,
    run,
    target,
)


async def collected(before: int) -> None:
    """Wait until what was killed is dead, which the kernel says by itself and to nobody in particular."""
    until = time.monotonic() + 20
    while descriptors() > before and time.monotonic() < until:
        await asyncio.sleep(0.001)
    assert descriptors() == before


async def ask(script: str, *words: str, asked: Target = target(80), **options: Any) -> Outcome:  # noqa: B008 -- frozen
    before = descriptors()
    command = ["/bin/sh", "-c", script, "check", *words]
    outcome = await probe(health_check("exec", command=command, **options), asked)
    await collected(before)
    return outcome


def alive(pid: int) -> bool:
    """Neither gone nor a zombie that nobody has collected yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_dead(pid: int) -> None:
    until = time.monotonic() + 20
    while alive(pid):
        assert time.monotonic() < until, "it lives"
        time.sleep(0.001)


def test_a_command_says_that_all_is_well() -> None:
    outcome = run(ask("echo fine; exit 0"))
    assert (outcome.ok, outcome.cause) == (True, "")


@pytest.mark.parametrize(
    ("script", "cause"),
    [
        ("exit 3", "exit status 3"),
        ("echo first; echo 'no database' >&2; exit 1", "exit status 1: no database"),
        ("printf 'first\\nlast\\n\\n  \\n'; exit 1", "exit status 1: last"),
        ("printf 'a\\033[31m\\377b'; exit 1", "exit status 1: a?[31m\ufffdb"),
        ("kill -KILL $$", "ended by SIGKILL"),
        ("kill -42 $$", "ended by signal 42"),
        ("yes | head -c 1000000; echo; echo last; exit 1", "exit status 1: last"),
        ("printf %0999d 0; exit 1", "exit status 1: " + "0" * 142 + "..."),
    ],
)
def test_a_command_says_that_something_is_wrong(script: str, cause: str) -> None:
    outcome = run(ask(script))
    assert (outcome.ok, outcome.cause, outcome.own) == (False, cause, False)


def test_words_are_words() -> None:
    """There is no shell but the one that the test asks for."""
    outcome = run(ask('printf "%s|" "$@"; exit 1', "a  b", "$(id)", "", "*"))
    assert outcome.cause == "exit status 1: a  b|$(id)||*|"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (target(80), "10.77.0.100 10.77.0.21 80"),
        (target(0), "10.77.0.100 10.77.0.21"),
        (target(80, LOCAL6), "fd00:77::100 fd00:77::21 80"),
    ],
)
def test_a_command_is_told_whom_it_is_about(asked: Target, said: str) -> None:
    assert run(ask("echo $DSR_VIP $DSR_BACKEND $DSR_PORT; exit 1", asked=asked)).cause == f"exit status 1: {said}"


def test_a_command_has_an_environment_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of this process's, neither variables nor descriptors, nor its folder."""
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    os.dup2(0, 200, inheritable=True)
    try:
        said = run(ask('test -e /proc/$$/fd/200; echo "$PWD ${NOTIFY_SOCKET-none} $? $(cat)"; exit 1')).cause
    finally:
        os.close(200)
    assert said == "exit status 1: / none 1"


@pytest.mark.parametrize(
    ("command", "cause"),
    [
        ("/nonexistent/check", "this host: cannot run /nonexistent/check: No such file or directory"),
        ("/etc/passwd", "this host: cannot run /etc/passwd: Permission denied"),
    ],
)
def test_a_command_that_cannot_be_run(command: str, cause: str) -> None:
    outcome = run(probe(health_check("exec", command=[command]), target()))
    assert (outcome.ok, outcome.own, outcome.cause) == (False, True, cause)


@pytest.mark.parametrize("script", ["exec sleep 1000", "sleep 1000", "trap '' TERM INT HUP; sleep 1000; sleep 1000"])
def test_a_command_that_does_not_end(script: str, tmp_path: Path) -> None:
    """It is killed, and all that it has begun."""
    noted = tmp_path / "pids"
    outcome = run(ask(f"sleep 1000 & echo $$ $! >{noted}; {script}", timeout=0.5))
    assert (outcome.ok, outcome.cause) == (False, "the command did not end within 0.5 s")
    assert outcome.seconds < 10
    for pid in noted.read_text().split():
        wait_until_dead(int(pid))


def test_nothing_outlives_a_command_that_ends(tmp_path: Path) -> None:
    """And nobody waits for what it has left behind, which still has its output open."""
    noted = tmp_path / "pid"
    outcome = run(ask(f"sleep 1000 & echo $! >{noted}; echo over; exit 1"))
    assert outcome.cause == "exit status 1: over"
    wait_until_dead(int(noted.read_text()))


def test_what_writes_for_ever_is_killed() -> None:
    assert run(ask("exec yes", timeout=0.3)).cause == "the command did not end within 0.3 s"
    assert run(ask("yes & exit 1")).cause.startswith("exit status 1")


def test_of_what_it_writes_only_the_end_is_kept() -> None:
    """However much that is: here 40 MB, without a single line end, in which the beginning is gone."""
    tails: list[int] = []

    class Watched(probe_exec._Run):
        def _on_output(self) -> None:
            super()._on_output()
            tails.append(len(self._tail))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probe_exec, "_Run", Watched)
        outcome = run(ask("printf A; head -c 40000000 /dev/zero | tr '\\0' b; exit 1"))
    assert outcome.cause == "exit status 1: " + "b" * 142 + "..."
    assert len(tails) > 100 and max(tails) == 4096


def test_a_probe_that_is_cancelled_leaves_nothing(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)

    async def main() -> int:
        loop = asyncio.get_running_loop()
        before = descriptors()
        reading = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        came = asyncio.Event()
        loop.add_reader(reading, came.set)
        script = ["/bin/sh", "-c", f"echo $$ >{fifo}; exec sleep 1000"]
        task = asyncio.create_task(probe(health_check("exec", command=script), target()))
        await came.wait()
        loop.remove_reader(reading)
        pid = int(os.read(reading, 100))
        os.close(reading)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await collected(before)
        return pid

    assert not alive(run(main()))


def test_a_command_may_have_ended_before_anybody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    open_handle = os.pidfd_open

    def late(pid: int) -> int:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        return open_handle(pid)

    monkeypatch.setattr(os, "pidfd_open", late)
    assert run(ask("echo over; exit 1")).cause == "exit status 1: over"


def test_without_descriptors_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[int] = []

    def refuse(pid: int) -> int:
        started.append(pid)
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    outcome = run(ask("sleep 1000"))
    assert (outcome.ok, outcome.own) == (False, True)
    assert outcome.cause == "this host: cannot run /bin/sh: Too many open files"
    assert not Path(f"/proc/{started[0]}").exists()


def test_many_at_once() -> None:
    async def main() -> list[Outcome]:
        before = descriptors()
        asked = health_check("exec", command=["/bin/sh", "-c", "exit 0"])
        outcomes = await asyncio.gather(*(probe(asked, target(80, LOCAL)) for _number in range(60)))
        await collected(before)
        return outcomes

    assert all(outcome.ok for outcome in run(main()))
