# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Running a program of the host: an argument list, never a shell, the C locale, a time limit."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Callable, Optional

from .errors import CommandError, HostError

_PATH = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin"


@dataclass(frozen=True)
class Completed:
    """How a program ended. ``status`` is negative when a signal (such as an abort) ended it."""

    argv: tuple[str, ...]
    status: int
    stdout: str
    stderr: str

    @property
    def ok(self) -> bool:
        return self.status == 0


# Anything that takes (argv, standard input) and says how it ended; tests pass their own.
Runner = Callable[[Sequence[str], Optional[str]], Completed]


def find_program(name: str) -> Optional[str]:
    """The full path of a program of the host, or None."""
    return shutil.which(name, path=_PATH)


def run(argv: Sequence[str], stdin: Optional[str] = None, timeout: float = 300.0) -> Completed:
    """Run ``argv`` and wait for it, for ``timeout`` seconds at most.

    Raises HostError when the program is missing, CommandError when it takes too long. An exit
    status other than 0 is the caller's to judge.
    """
    program = find_program(argv[0])
    if program is None:
        raise HostError(f"the program '{argv[0]}' is not installed on this host")
    environment = {"PATH": _PATH, "LC_ALL": "C", "HOME": os.environ.get("HOME", "/root")}
    try:
        # Not AnsibleModule.run_command: the agent, which is no module, runs the same code.
        done = subprocess.run(  # pylint: disable=ansible-bad-function
            [program, *argv[1:]],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            encoding="utf-8",
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise CommandError(f"'{' '.join(argv)}' did not end within {timeout:g} s") from error
    except OSError as error:
        raise CommandError(f"'{' '.join(argv)}' could not be started: {error.strerror}") from error
    return Completed(tuple(argv), done.returncode, done.stdout, done.stderr)


def must(done: Completed) -> Completed:
    """``done`` itself when it succeeded; a CommandError with what the program printed otherwise."""
    if done.ok:
        return done
    how = f"signal {-done.status}" if done.status < 0 else f"exit status {done.status}"
    said = (done.stderr.strip() or done.stdout.strip() or "it printed nothing")[:4000]
    raise CommandError(f"'{' '.join(done.argv)}' failed ({how}): {said}")
