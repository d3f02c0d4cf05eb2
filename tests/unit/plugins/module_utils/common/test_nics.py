# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A look at the NICs of this machine: it has lo, and none of these."""

from __future__ import annotations

import os

from ansible_collections.dsr.layer2.plugins.module_utils.common.nics import look


def test_what_is_not_there_or_no_ethernet_is_not_found() -> None:
    before = len(os.listdir("/proc/self/fd"))
    assert look(["lo", "none0", "a-name-that-is-too-long", ""]) == {}
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_is_there_is_as_the_kernel_says() -> None:
    kinds = {name: _read(name, "type") for name in os.listdir("/sys/class/net")}
    there = {name for name, kind in kinds.items() if kind == "1"}
    assert {name: (str(nic.number), nic.mac) for name, nic in look(kinds).items()} == {
        name: (_read(name, "ifindex"), _read(name, "address")) for name in there
    }


def _read(name: str, what: str) -> str:
    with open(f"/sys/class/net/{name}/{what}", encoding="ascii") as handle:
        return handle.read().strip()
