# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines for people: on their terminal, or in the journal, where each has to arrive at once."""

from __future__ import annotations

import sys
from typing import Optional, TextIO


def say(text: str, end: str = "\n", to: Optional[TextIO] = None) -> None:
    """Write a line; to the standard output unless told otherwise."""
    stream = to or sys.stdout
    stream.write(f"{text}{end}")
    stream.flush()
