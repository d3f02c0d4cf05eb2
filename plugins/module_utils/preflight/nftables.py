# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether nft and the kernel of a load balancer can do what its rules need. They are asked; nothing is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Callable, Optional

from ..common.command import find_program
from ..common.errors import DsrError
from ..nft_dsr.dialect import probe_text
from ..nft_dsr.kernel import Kernel
from .finding import FAILED, OK, WARNING, Finding

CHECK = "nftables"

# What every scheduler's rules are made of, at the hook that they are at. Nothing passes "lo" there for others.
_PROBE = (
    'chain probe {\ntype filter hook ingress device "lo" priority 0;\n'
    "meta mark set jhash ip saddr mod 16 seed 1\nmeta mark set numgen inc mod 2\n"
    'ether saddr set 02:00:00:00:00:01 fwd to "lo"\n}'
)


def judge(
    installs: bool, kernel: Optional[Kernel] = None, find: Callable[[str], Optional[str]] = find_program
) -> Iterator[Finding]:
    """``installs``: whether the role may install what is missing."""
    kernel = kernel or Kernel()
    if find("nft") is None:
        do = "install the package nftables" + (", or let dsr.layer2.site do it" if installs else "")
        yield Finding(CHECK, WARNING if installs else FAILED, "nft is not installed", do)
        return
    try:
        version = kernel.check_usable()
    except DsrError as error:
        yield Finding(CHECK, FAILED, str(error), "install nftables 1.0.2 or later (1.0.6 steers fragments as well)")
        return
    try:
        kernel.check(probe_text(_PROBE))
    except DsrError as error:
        said = " ".join(str(error).split())[:200]
        yield Finding(
            CHECK,
            FAILED,
            f"the kernel takes no rules at the netdev ingress hook: {said}",
            "a kernel with CONFIG_NETFILTER_INGRESS, CONFIG_NFT_FWD_NETDEV and CONFIG_NFT_HASH "
            "(modprobe nft_fwd_netdev nft_hash), or run as root with CAP_NET_ADMIN",
        )
        return
    for text in kernel.dialect().warnings:
        what, _semicolon, do = text.partition("; ")
        yield Finding(CHECK, WARNING, what, do)
    yield Finding(CHECK, OK, f"nft {version}, netdev ingress hook")
