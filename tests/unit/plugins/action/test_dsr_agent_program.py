# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action, run by Ansible on this very machine: what it changes, what it shows, what it leaves."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.dsr.layer2.plugins.action.dsr_agent_program import readable
from ansible_collections.dsr.layer2.plugins.plugin_utils.agent_archive import build

COLLECTIONS = Path(__file__).parents[4] / ".cache/collections"


class Controller:
    """Runs the one task."""

    def __init__(self, folder: Path) -> None:
        self.dest = folder / "nft-dsr.pyz"
        self.temporary = folder / "local"
        self._home = folder / "home"

    def run(self, *flags: str, **options: Any) -> tuple[str, str]:
        """How the task ended (CHANGED, SUCCESS, FAILED), and all that was printed."""
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self._home),
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_HOME": str(self._home),
            "ANSIBLE_LOCAL_TEMP": str(self.temporary),
            "ANSIBLE_REMOTE_TMP": str(self._home / "remote"),
            "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
            "ANSIBLE_NOCOLOR": "1",
        }
        arguments = json.dumps({"dest": str(self.dest), **options})
        command = [sys.executable, "-m", "ansible", "adhoc", "localhost", "--connection", "local"]
        command += ["--extra-vars", f"ansible_python_interpreter={sys.executable}"]
        command += ["--module-name", "dsr.layer2.dsr_agent_program", "--args", arguments, *flags]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        ended = re.search(r"^localhost \| (\w+)", done.stdout, re.MULTILINE)
        assert ended, done.stdout + done.stderr
        return ended[1], done.stdout


@pytest.fixture
def controller(tmp_path: Path) -> Controller:
    return Controller(tmp_path)


def test_a_run_and_the_next(controller: Controller) -> None:
    ended, shown = controller.run("--check", "--diff")
    assert ended == "CHANGED"
    assert f"{controller.dest}: a program of " in shown
    assert "diff skipped" not in shown
    assert not controller.dest.exists()

    assert controller.run()[0] == "CHANGED"
    assert controller.dest.read_bytes() == build()
    assert controller.dest.stat().st_mode & 0o777 == 0o755
    ended, shown = controller.run("--diff")
    assert ended == "SUCCESS"
    assert "a program of" not in shown
    assert list(controller.temporary.iterdir()) == []


def test_options(controller: Controller) -> None:
    """Permissions alone are shown as copy shows them."""
    assert controller.run(interpreter="/opt/python/bin/python3")[0] == "CHANGED"
    assert controller.dest.read_bytes() == build("/opt/python/bin/python3")
    ended, shown = controller.run("--diff", interpreter="/opt/python/bin/python3", mode="0700")
    assert ended == "CHANGED"
    assert controller.dest.stat().st_mode & 0o777 == 0o700
    assert '+    "mode": "0700"' in shown
    assert "a program of" not in shown


def test_an_option_that_there_is_not(controller: Controller) -> None:
    ended, shown = controller.run(source="/tmp")
    assert ended == "FAILED"
    assert "Unsupported parameters" in shown


def test_readable() -> None:
    """The number of files, whatever copy had against showing them; anything else stays."""
    permissions = {"before": {"mode": "0644"}, "after": {"mode": "0755"}}
    for reason in ("src_binary", "dst_binary", "src_larger", "dst_larger"):
        shown = readable([{reason: 1}, permissions], "/place", build())
        assert shown[0].keys() == {"prepared"}
        assert shown[1] == permissions
    assert readable(permissions, "/place", build()) == [permissions]
