# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Other releases of nft: what is there is found, and what cannot be had is said."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from tools import nft_versions


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("DSR_DEBIAN_MIRROR", raising=False)
    monkeypatch.setattr(nft_versions, "CACHE", tmp_path / "nft")
    return tmp_path / "nft"


def test_a_release_that_was_fetched_is_found_again(cache: Path) -> None:
    assert nft_versions.cached("trixie") is None
    (cache / "1.1.3").mkdir(parents=True)
    (cache / "1.1.3" / "nft").write_text(
        nft_versions._WRAPPER.format(version="v1.1.3", release="trixie", loader="a", libraries="b", program="c"),
        encoding="utf-8",
    )
    assert nft_versions.cached("trixie") == cache / "1.1.3"
    assert nft_versions.cached("sid") is None


def test_the_wrapper_hands_arguments_on(cache: Path) -> None:
    cache.mkdir()
    wrapper = cache / "nft"
    wrapper.write_text(
        nft_versions._WRAPPER.format(
            version="v1.1.3", release="trixie", loader=shutil.which("echo"), libraries="libs", program="program"
        ),
        encoding="utf-8",
    )
    done = subprocess.run(["sh", str(wrapper), "-f", "a b"], capture_output=True, text=True, check=True)
    assert done.stdout == "--library-path libs program -f a b\n"


def test_a_machine_without_apt_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(nft_versions.Unavailable, match="no apt-get"):
        nft_versions.fetch("trixie")


def test_a_machine_without_the_keys_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setenv("DSR_DEBIAN_MIRROR", "http://127.0.0.1:9/debian")
    release = nft_versions.Release("Debian", tmp_path / "keys.gpg")
    monkeypatch.setitem(nft_versions.RELEASES, "trixie", release)
    with pytest.raises(nft_versions.Unavailable, match=r"keys\.gpg"):
        nft_versions.fetch("trixie")


def test_a_distribution_without_a_mirror_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DSR_UBUNTU_MIRROR", raising=False)
    monkeypatch.setattr(nft_versions, "_run", lambda *command: "http://127.0.0.1:9/debian/ Debian\n")
    assert nft_versions._mirror("Debian") == "http://127.0.0.1:9/debian/"
    with pytest.raises(nft_versions.Unavailable, match="DSR_UBUNTU_MIRROR"):
        nft_versions._mirror("Ubuntu")


def test_what_a_failed_command_said_is_kept() -> None:
    with pytest.raises(nft_versions.Unavailable, match="second"):
        nft_versions._run("sh", "-c", "echo first >&2; echo second >&2; exit 1")
