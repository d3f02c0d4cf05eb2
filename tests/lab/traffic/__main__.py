# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run as `python3 tests/lab/traffic ACTION ...`, alone: a host has neither the lab nor this folder on its path."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parent

# Python put this very folder there; its modules find each other as a package.
sys.path[0] = str(_HERE.parent)
importlib.import_module(f"{_HERE.name}.command").main()
