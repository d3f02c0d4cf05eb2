# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent as one file that Python runs: a zip archive of the very modules that the collection itself runs.

So a load balancer's agent and the modules that configure it are always of one source. The same source makes the
same bytes, on whatever controller: members are in order, have no times of their own, and are not compressed, as
what a compression makes depends on the library that does it.
"""

from __future__ import annotations

import io
import re
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "dsr_layer2"
INTERPRETER = "/usr/bin/python3"

_SOURCE = Path(__file__).resolve().parents[1] / "module_utils"
_PARTS = ("common", "nft_dsr", "agent")
_OF_ANSIBLE = {"nft_dsr/arguments.py"}  # what imports Ansible, which a load balancer does not have
# Not what an editor keeps beside a file
_MODULE = re.compile(r"[A-Za-z_]\w*\.py\Z")
_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the first moment that an archive can tell

# Old releases of Python are to understand this file, or they could not be told what is wrong.
_MAIN = f"""\
import sys

if sys.version_info < (3, 9):
    sys.exit("nft-dsr: Python 3.9 or newer is needed, this is %d.%d (%s)" % (sys.version_info[:2] + (sys.executable,)))

from {PACKAGE}.agent.cli import main

if __name__ == "__main__":
    sys.exit(main())
"""


def build(interpreter: str = INTERPRETER) -> bytes:
    """The archive, which is also a program: ``interpreter`` runs it, isolated from what the environment says."""
    buffer = io.BytesIO()
    buffer.write(f"#!{interpreter} -I\n".encode())
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_STORED) as archive:
        for name, content in _members():
            info = zipfile.ZipInfo(name, _LONG_AGO)
            info.create_system = 3  # Unix, where permissions count
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(info, content)
    return buffer.getvalue()


def _members() -> Iterator[tuple[str, bytes]]:
    """Names and contents, in the order in which they are written."""
    yield "__main__.py", _MAIN.encode()
    yield f"{PACKAGE}/__init__.py", b""
    for part in _PARTS:
        for path in sorted((_SOURCE / part).iterdir()):
            place = f"{part}/{path.name}"
            if _MODULE.match(path.name) and place not in _OF_ANSIBLE:
                yield f"{PACKAGE}/{place}", path.read_bytes()
