# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that this collection owns on a host: read, written atomically, removed, locked."""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Optional

from .errors import HostError


def read_text(path: str) -> Optional[str]:
    """The text of ``path``, or None when there is no such file. HostError when it can't be read."""
    try:
        with open(path, encoding="utf-8") as handle:
            return handle.read()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise HostError(f"{path}: cannot be read: {error}") from error


def file_mode(path: str) -> Optional[int]:
    """The permission bits of ``path`` (symbolic links followed), or None when there is no such file."""
    try:
        return stat.S_IMODE(os.stat(path).st_mode)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise HostError(f"{path}: cannot be read: {error}") from error


def write_text(path: str, text: str, mode: int = 0o644) -> None:
    """Replace ``path`` by ``text`` in one step: a reader sees the old file or the new one, no half.

    The folder is made when it is missing (0755). The data is on disk when this returns.
    """
    folder = os.path.dirname(path) or "."
    temporary = ""
    try:
        os.makedirs(folder, mode=0o755, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{os.path.basename(path)}.", dir=folder)
        with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
            handle.write(text)
            handle.flush()
            os.fchmod(handle.fileno(), mode)
            os.fsync(handle.fileno())
        os.replace(temporary, path)
        temporary = ""
        directory = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise HostError(f"{path}: cannot be written: {error.strerror}") from error
    finally:
        if temporary:
            remove(temporary)


def remove(path: str) -> bool:
    """Remove a file; False when there was none."""
    try:
        os.unlink(path)
        return True
    except FileNotFoundError:
        return False
    except OSError as error:
        raise HostError(f"{path}: cannot be removed: {error.strerror}") from error


@contextmanager
def lock(path: str, busy: str = "") -> Iterator[None]:
    """Hold an exclusive lock on ``path`` (made when missing), waiting for whoever has it.

    With ``busy`` nobody is waited for: that is the text of the HostError then.
    """
    try:
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise HostError(f"{path}: cannot be locked: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
        except BlockingIOError:
            raise HostError(busy) from None
        yield
    finally:
        os.close(descriptor)
