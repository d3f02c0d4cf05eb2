# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one kind of error that the lab raises itself; its text is one line that says what to do."""

from __future__ import annotations


class LabError(Exception):
    """The lab cannot do what was asked."""
