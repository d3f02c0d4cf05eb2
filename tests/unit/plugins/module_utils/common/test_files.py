# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Locks: who waits for whom, and whose file it is."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ansible_collections.dsr.layer2.plugins.module_utils.common.errors import HostError
from ansible_collections.dsr.layer2.plugins.module_utils.common.files import lock


@contextmanager
def held(path: Path, kind: int, seconds: float) -> Iterator[None]:
    """Somebody else's lock, let go after a while."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, kind)
    timer = threading.Timer(seconds, os.close, (descriptor,))
    timer.start()
    try:
        yield
    finally:
        timer.join()


@pytest.mark.parametrize("kind", [fcntl.LOCK_SH, fcntl.LOCK_EX])
def test_a_lock_is_waited_for_as_long_as_was_said(tmp_path: Path, kind: int) -> None:
    path = tmp_path / "lock"
    with held(path, kind, 0.3), lock(str(path), "somebody has it", 20):
        pass
    with held(path, kind, 0.5), pytest.raises(HostError, match="somebody has it"), lock(str(path), "somebody has it"):
        raise AssertionError("there are two")
    with held(path, kind, 0.3), lock(str(path)):
        pass


def test_who_only_may_read_it_may_hold_it(tmp_path: Path) -> None:
    """It is shared with a user who must not write to it."""
    (tmp_path / "lock").touch(0o440)
    with lock(str(tmp_path / "lock")):
        assert (tmp_path / "lock").read_text() == ""


def test_no_link_is_followed(tmp_path: Path) -> None:
    """Whose folder it is may not have root make files elsewhere."""
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(HostError, match="lock: cannot be locked: "), lock(str(tmp_path / "lock")):
        raise AssertionError("it is held")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_root_makes_in_anothers_folder_is_theirs(tmp_path: Path) -> None:
    """Who would be locked out by it else."""
    os.chown(tmp_path, 65534, 65533)
    with lock(str(tmp_path / "lock")):
        pass
    found = (tmp_path / "lock").stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (65534, 65533, 0o600)
    os.chown(tmp_path / "lock", 0, 0)
    with lock(str(tmp_path / "lock")):
        pass
    assert (tmp_path / "lock").stat().st_uid == 0, "what was there already is not given away"
