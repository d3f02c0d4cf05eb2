# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of a backend's kernel that undo what the backend role sets. Does no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Optional

from ..loopback import arp
from ..loopback.persisted import sysctl_text
from .finding import OK, WARNING, Finding, serious

CHECK = "sysctl"


def judge(
    interfaces: Sequence[arp.Interface],
    all_ignore: int,
    files: Iterable[arp.SysctlFile],
    late: Optional[arp.SysctlFile],
    sysctl_file: str,
    in_service: bool = True,
) -> list[Finding]:
    """What keeps ARP for VIPs from being suppressed, although the role does its part: that is what it refuses, too."""
    # All of it as it will be once the role has been here.
    ignore = arp.wanted_value(arp.IGNORE, all_ignore)
    others = [file for file in files if file.path != sysctl_file]
    theirs = arp.Boot(others).number("all", arp.IGNORE)
    own = arp.SysctlFile(sysctl_file, sysctl_text(arp.wanted_value(arp.IGNORE, theirs)))
    certain, possible = arp.culprits_at_boot(
        arp.Boot([*others, own]), sysctl_file, {interface.name: interface.speaks_arp for interface in interfaces}, late
    )
    found = [_finding(serious(in_service), text) for text in [*arp.culprits_now(interfaces, ignore), *certain]]
    found += [_finding(WARNING, text) for text in possible]
    return found or [Finding(CHECK, OK, "nothing undoes the ARP settings")]


def _finding(result: str, text: str) -> Finding:
    what, semicolon, do = text.rpartition("; ")
    return Finding(CHECK, result, what if semicolon else text, do)
