# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The benchmark runs and leaves nothing behind. What it measures is not judged here: that takes a quiet machine."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import xml.etree.ElementTree
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.state import ROOT

_RUN = Path(__file__).resolve().parents[1] / "benchmark" / "run.py"


@contextmanager
def _start(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A run; one that has not ended by itself is ended, and cleans up after itself."""
    (folder / "tmp").mkdir()
    with subprocess.Popen(
        [sys.executable, str(_RUN), *arguments, "--output", str(folder / "written")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        env={**os.environ, "TMPDIR": str(folder / "tmp")},
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.kill()


def _left(folder: Path, process: subprocess.Popen[str]) -> list[str]:
    """What is still there of a run that has ended."""
    labs = [str(path) for path in ROOT.glob(f"test-{process.pid}-*")]
    return labs + [str(path) for path in (folder / "tmp").iterdir()]


def test_a_short_run_writes_tables_and_drawings(tmp_path: Path) -> None:
    with _start(tmp_path, "--quick", "--only", "packets,flows,throughput,loading") as process:
        said, _unused = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert _left(tmp_path, process) == []
    page = (tmp_path / "written" / "results.md").read_text(encoding="utf-8")
    figure = r"[\d,.]+ \[[\d,.]+–[\d,.]+\]"
    for peer in ("no load balancer", "nft, constant MAC rewrite", "ours connection_hash", "ours round_robin"):
        # In the table of packets, by number of flows, and of bulk TCP.
        assert len(re.findall(rf"^\| {peer} \| {figure} \|", page, re.MULTILINE)) == 3, page
    for step in ("load into an empty kernel", "run again", "one backend of one VIP", "the boot's way"):
        assert re.search(rf"^\| ours: {step}[^|]*\| 1 \| {figure} \|", page, re.MULTILINE), page
    assert "failed" not in page, page
    for name in ("packets.svg", "scaling.svg"):
        drawing = xml.etree.ElementTree.parse(tmp_path / "written" / name).getroot()
        assert any("ours connection_hash" in (text.text or "") for text in drawing.iter()), name


def test_an_interrupted_run_leaves_nothing_behind(tmp_path: Path) -> None:
    with _start(tmp_path, "--quick", "--only", "packets", "--rounds", "1000000") as process:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if "measuring" in line:
                break
        assert list(ROOT.glob(f"test-{process.pid}-*")), said  # its lab is up
        process.send_signal(signal.SIGINT)
        rest, _unused = process.communicate(timeout=30)
    assert process.returncode == 130, "".join(said) + rest
    assert _left(tmp_path, process) == []
    assert not (tmp_path / "written").exists()


def test_a_peer_from_a_file_is_measured(tmp_path: Path) -> None:
    rules = tmp_path / "mine.nft"
    rules.write_text(
        "table netdev mine {\n chain ingress {\n  type filter hook ingress device eth0 priority 0;\n"
        "  ip daddr VIP_0 PROTOCOL dport PORT ether daddr set BACKEND_MAC_1 ether saddr set LB_MAC fwd to eth0\n"
        " }\n}\n",
        encoding="utf-8",
    )
    arguments = ["--quick", "--peers", "none,constant", "--ruleset", str(rules), "--rounds", "2"]
    with _start(tmp_path, *arguments) as process:
        said, _unused = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert re.search(r"^mine\.nft +\d+ .* 1 backends$", said, re.MULTILINE), said
    assert _left(tmp_path, process) == []
