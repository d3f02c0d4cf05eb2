# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab of this scenario."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.dsr.layer2.molecule.resources.lab import Lab

LAB = Lab(Path(__file__).parents[1] / "inventory/hosts.yml")
