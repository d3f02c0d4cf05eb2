# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The machine that figures were taken on, in words."""

from __future__ import annotations

import datetime
import os
import platform
import shutil
import subprocess
from pathlib import Path


def _said(*argv: str) -> str:
    """The first line that a program prints, '' where it is missing."""
    if shutil.which(argv[0]) is None:
        return ""
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", check=False)
    return (done.stdout.splitlines() or [""])[0].strip()


def _value(path: str, key: str, separator: str) -> str:
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        name, found, value = line.partition(separator)
        if found and name.strip() == key:
            return value.strip().strip('"')
    return "unknown"


def describe(command: str) -> dict[str, str]:
    """What a reader has to know to judge the figures."""
    memory = int(_value("/proc/meminfo", "MemTotal", ":").split()[0]) // 1024
    return {
        "Command": f"`{command}`",
        "Date": datetime.date.today().isoformat(),
        "Processor": f"{_value('/proc/cpuinfo', 'model name', ':')}, {len(os.sched_getaffinity(0))} usable",
        "Memory": f"{memory:,} MiB",
        "System": f"{_value('/etc/os-release', 'PRETTY_NAME', '=')}, Linux {platform.release()}",
        "nft": _said("nft", "--version") or "none",
        "nftlb": _said("nftlb", "-h").removeprefix("nftlb, nftables load balancer - ") or "none",
        "clang": _said("clang", "--version") or "none",
    }
