# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A network lab without containers: hosts are namespaces of this machine, joined by a bridge.

    from lab import Lab

    with Lab("mine") as lab:
        lab.add_host("client", "10.77.0.10")
        lab.add_host("b1", "10.77.0.21")
        lab.run("client", ["ping", "-c1", "10.77.0.21"])

Needs root, Linux with overlayfs, iproute2 and util-linux; nothing but Python's standard library.
"""

from __future__ import annotations

from .errors import LabError
from .running import Result, Running
from .state import unused_name
from .topology import Host, Lab, Nic

__all__ = ["Host", "Lab", "LabError", "Nic", "Result", "Running", "unused_name"]
