# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Questions to everybody on a segment, all at once, and their answers: what ARP and neighbour discovery share."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Callable, Optional, TypeVar

from .packet_socket import PacketSocket

Target = TypeVar("Target")

# Questions are sent in bursts of this size with a gap between them, which answers are read in:
# switches and small hosts drop long bursts.
_BURST = 64
_GAP = 0.005
SEND_LIMIT = 2.0  # seconds for one frame to find room in the NIC's queue


def ask(
    channel: PacketSocket,
    questions: Mapping[Target, bytes],
    read: Callable[[bytes], Optional[tuple[Target, bytes]]],
    timeout: float,
    attempts: int,
    settle: float,
) -> dict[Target, set[bytes]]:
    """Send the frame that asks for each target, and gather the MACs that answer. Who stays silent is absent.

    ``read`` tells from a frame which target is at which MAC, or that it tells nothing. Those that stay silent are
    asked again every ``timeout`` seconds, ``attempts`` times in all. Returns as soon as each has an answer, or
    ``settle`` seconds after that.
    """
    answers: dict[Target, set[bytes]] = {}

    def collect() -> None:
        for frame, _when in channel.frames():
            answer = read(frame)
            if answer is not None and answer[0] in questions:
                answers.setdefault(answer[0], set()).add(answer[1])

    def listen(until: float) -> None:
        """Take in answers until ``until``, or until there is one for every target."""
        while len(answers) < len(questions) and channel.wait(until):
            collect()
            if time.monotonic() >= until:
                return

    for _attempt in range(attempts):
        silent = [target for target in questions if target not in answers]
        for start in range(0, len(silent), _BURST):
            for target in silent[start : start + _BURST]:
                channel.send(questions[target], time.monotonic() + SEND_LIMIT)
            listen(time.monotonic() + _GAP)
        listen(time.monotonic() + timeout)
        if len(answers) == len(questions):
            break
    until = time.monotonic() + settle
    while answers and settle > 0 and channel.wait(until):
        collect()
        if time.monotonic() >= until:
            break
    return answers
