# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Telling systemd how the agent does (sd_notify(3)); without systemd nobody is told."""

from __future__ import annotations

import os
import socket


def ready() -> None:
    """The agent has begun."""
    _tell("READY=1")


def alive() -> None:
    """It is not stuck: systemd's watchdog waits for this."""
    _tell("WATCHDOG=1", socket.MSG_DONTWAIT)  # whoever does not listen is not waited for


def stopping() -> None:
    _tell("STOPPING=1")


def _tell(text: str, flags: int = 0) -> None:
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    # A name that begins with @ is none in the file system.
    address = f"\0{path[1:]}" if path.startswith("@") else path
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.sendto(text.encode(), flags, address)
    except OSError:
        pass  # whoever restarts systemd is no reason to end
