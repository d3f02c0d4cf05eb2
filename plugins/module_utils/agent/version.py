# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The version of the collection that an agent is of, which on a load balancer has no other place to be read from."""

from __future__ import annotations

VERSION = "0.1.0"  # that of galaxy.yml
