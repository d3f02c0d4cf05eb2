# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's archive is complete, needs nothing but Python, and is the same whenever it is made."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ansible_collections.dsr.layer2.plugins.plugin_utils import agent_archive
from ansible_collections.dsr.layer2.plugins.plugin_utils.agent_archive import build

_IMPORT_ALL = """
import importlib, sys, zipfile
sys.path.insert(0, sys.argv[1])
for name in zipfile.ZipFile(sys.argv[1]).namelist():
    if name != "__main__.py":
        importlib.import_module(name[:-3].replace("/", ".").replace(".__init__", ""))
        print(name)
"""
_MAIN = "import sys\ndef main(argv=None):\n    print('main', argv, sys.argv[1:], sys.flags.isolated)\n    return 3\n"


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small tree in the place of the collection's own."""
    for name, text in {
        "common/__init__.py": "",
        "common/b.py": "B = 1\n",
        "common/a.py": "A = 1\n",
        "nft_dsr/__init__.py": "",
        "nft_dsr/arguments.py": "import ansible\n",
        "agent/__init__.py": "",
        "agent/cli.py": _MAIN,
        "probe/__init__.py": "",
    }.items():
        path = tmp_path / "module_utils" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(agent_archive, "_SOURCE", tmp_path / "module_utils")
    return tmp_path / "module_utils"


def names(archive: bytes) -> list[str]:
    return zipfile.ZipFile(io.BytesIO(archive)).namelist()


def test_members(source: Path) -> None:
    assert names(build()) == [
        "__main__.py",
        "dsr_layer2/__init__.py",
        "dsr_layer2/common/__init__.py",
        "dsr_layer2/common/a.py",
        "dsr_layer2/common/b.py",
        "dsr_layer2/nft_dsr/__init__.py",
        "dsr_layer2/agent/__init__.py",
        "dsr_layer2/agent/cli.py",
    ]


def test_what_lies_about_changes_nothing(source: Path) -> None:
    before = build()
    (source / "common/__pycache__").mkdir()
    (source / "common/__pycache__/a.cpython-39.pyc").write_bytes(b"\0")
    for name in ("a.py~", ".a.py", ".a.py.swp", ".#a.py", "#a.py#", "a.pyc", "notes.txt"):
        (source / "common" / name).write_text("left by an editor")
    for path in source.rglob("*.py"):
        path.chmod(0o600)
    (source / "common/a.py").touch()
    assert build() == before


def test_what_the_code_says_changes_it(source: Path) -> None:
    before = build()
    (source / "common/a.py").write_text("A = 2\n")
    assert build() != before


def test_nothing_of_the_moment_or_the_machine_is_in_it(source: Path) -> None:
    """No compression either: its result depends on the library."""
    for info in zipfile.ZipFile(io.BytesIO(build())).infolist():
        assert (info.date_time, info.create_system, info.external_attr) == ((1980, 1, 1, 0, 0, 0), 3, 0o100644 << 16)
        assert info.compress_type == zipfile.ZIP_STORED


def test_it_is_a_program(source: Path, tmp_path: Path) -> None:
    """It ends as its main function says, called by its name, through a link as well, or given to Python."""
    program, link = tmp_path / "program.pyz", tmp_path / "nft-dsr"
    program.write_bytes(build(sys.executable))
    program.chmod(0o755)
    link.symlink_to(program)
    for command, isolated in (([str(program)], 1), ([str(link)], 1), ([sys.executable, str(program)], 0)):
        done = subprocess.run([*command, "status"], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (3, f"main None ['status'] {isolated}\n", "")


def test_an_old_python_is_told(source: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(build())) as archive:
        main = archive.read("__main__.py").decode()
    pretend = "import sys; sys.version_info = (3, 6, 8, 'final', 0)\n"
    done = subprocess.run([sys.executable, "-c", pretend + main], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Python 3.9 or newer is needed, this is 3.6" in done.stderr


def test_the_collection_itself(tmp_path: Path) -> None:
    """Every module can be imported by a Python that has its standard library alone."""
    program = tmp_path / "program.pyz"
    program.write_bytes(build())
    command = [sys.executable, "-I", "-S", "-W", "error", "-c", _IMPORT_ALL, str(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) == set(names(program.read_bytes())) - {"__main__.py"}
    assert {"dsr_layer2/agent/agent.py", "dsr_layer2/nft_dsr/engine.py", "dsr_layer2/common/files.py"} <= set(
        done.stdout.split()
    )
