# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the benchmark is built from: small programs of its own, compiled here, and what the machine has."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path
from typing import Optional

from lab import LabError

_HERE = Path(__file__).resolve().parent


class Tools:
    """The compiled programs, in ``folder``, which the hosts of the lab have to see."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.frames = self._compile("frames")
        self.watched = self._compile("watched")

    def _compile(self, name: str) -> Path:
        compiler = shutil.which("gcc") or shutil.which("cc")
        if compiler is None:
            raise LabError("no C compiler here; install gcc and libc6-dev")
        made = self.folder / name
        self._run([compiler, "-O2", "-o", str(made), str(_HERE / f"{name}.c")])
        return made

    def mac_rewrite(self, destination: str, source: str, index: int) -> Optional[Path]:
        """The BPF program that writes these MACs and sends out of this NIC; None where there is no clang."""
        compiler = shutil.which("clang")
        if compiler is None:
            return None
        macs = ",".join(f"0x{part}" for mac in (destination, source) for part in mac.split(":"))
        made = self.folder / f"mac_rewrite-{source.replace(':', '')}.o"
        self._run(
            [
                *(compiler, "-O2", "-target", "bpf", f"-DMACS={macs}", f"-DIFINDEX={index}"),
                *(f"-I/usr/include/{platform.machine()}-linux-gnu", "-c", str(_HERE / "mac_rewrite.bpf.c")),
                *("-o", str(made)),
            ]
        )
        return made

    @staticmethod
    def _run(argv: list[str]) -> None:
        done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", check=False)
        if done.returncode:
            raise LabError(f"{argv[0]} failed: {done.stdout.strip()[-2000:]}")
