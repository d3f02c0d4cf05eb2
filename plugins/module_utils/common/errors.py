# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The errors that users see. Every module turns a DsrError into one fail_json, never into a traceback."""

from __future__ import annotations


class DsrError(Exception):
    """Something that the user can understand and act on; its text is the whole message."""


class ConfigError(DsrError):
    """The user's data is wrong.

    ``path`` is the place in the data as the user wrote it, such as ``vips[2].backends[0].mac``.
    ``problem`` says what is wrong there and what to do about it.
    """

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path
        self.problem = problem


class HostError(DsrError):
    """The host lacks something: a command, a permission, an interface, a kernel feature."""


class CommandError(HostError):
    """A command of the host failed; the message holds the command and what it printed."""
