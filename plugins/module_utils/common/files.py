# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that this collection owns on a host: read, written atomically, removed, locked."""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Optional

from .errors import HostError

_LARGEST = 1 << 26  # bytes of a file of another user that are read; that of 10,000 VIPs has a tenth of it
_POLL = 0.01  # seconds between two tries to get a lock, where there is a limit to waiting


def read_text(path: str) -> Optional[str]:
    """The text of ``path``, or None when there is no such file. HostError when it can't be read."""
    try:
        with open(path, encoding="utf-8") as handle:
            return handle.read()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise HostError(f"{path}: cannot be read: {error}") from error


def read_foreign(path: str) -> Optional[str]:
    """The same of a file in a folder that another user may write to: no link is followed, no pipe waited for, and
    there is an end to it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as handle:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise HostError(f"{path}: is no file")
            data = handle.read(_LARGEST + 1)
        if len(data) > _LARGEST:
            raise HostError(f"{path}: is larger than {_LARGEST} bytes")
        return data.decode("utf-8")
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

    The folder is made when it is missing (0755). The data is on disk when this returns. The file is made where it
    belongs, and so has the SELinux label of new files there.
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
def lock(path: str, busy: str = "", seconds: float = 0.0) -> Iterator[None]:
    """Hold an exclusive lock on ``path`` (made when missing), waiting for whoever has it.

    With ``busy`` nobody is waited for longer than ``seconds``: that is the text of the HostError then.
    """
    try:
        descriptor = _open_lock(path)
    except OSError as error:
        raise HostError(f"{path}: cannot be locked: {error.strerror}") from error
    try:
        if not busy:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        elif not _locked_within(descriptor, seconds):
            raise HostError(busy)
        yield
    finally:
        os.close(descriptor)


def _open_lock(path: str) -> int:
    """To read it is enough for a lock, so that one may be shared with who must not write to it.

    A file that root makes in another user's folder is made theirs, who would be locked out by it.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    folder = os.path.dirname(path)
    os.makedirs(folder, mode=0o755, exist_ok=True)
    while True:
        try:
            return os.open(path, flags)
        except FileNotFoundError:
            pass
        try:
            descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            continue  # somebody else just made it
        owner = os.stat(folder)
        if os.geteuid() == 0 and owner.st_uid != 0:
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
        return descriptor


def _locked_within(descriptor: int, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
        time.sleep(_POLL)
