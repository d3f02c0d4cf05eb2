# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A thousand VIPs with eight backends each, all pools different: one call, one transaction, small changes."""

from __future__ import annotations

import re
from typing import Any

from balancer import ADDRESSES, HTTP, WEB, Balancer, pool

VIPS, BACKENDS = 1000, 8


def thousand(changed: int = -1) -> list[dict[str, Any]]:
    """VIPs of 10.80/16 with backends of 10.81/16 that nobody has, so their MACs are given; one more is real."""
    vips = []
    for number in range(VIPS - 1):
        first = number * BACKENDS
        addresses = [f"10.81.{host // 250}.{host % 250 + 1}" for host in range(first, first + BACKENDS)]
        backends = [
            {"address": address, "mac": f"02:81:{host >> 8:02x}:{host & 255:02x}:00:01"}
            for host, address in enumerate(addresses, first)
        ]
        if number == changed:
            del backends[3]
        vips.append(
            {
                "name": f"v{number}",
                "address": f"10.80.{number // 250}.{number % 250 + 1}",
                "ports": ["80"],
                "backend_interface": "eth0",
                "backends": backends,
            }
        )
    real = {"name": "web", "address": WEB, "ports": [str(HTTP)], "scheduler": "connection_hash", "backends": pool()}
    return [*vips, real]


def test_a_thousand_vips(balancer: Balancer) -> None:
    def apply(vips: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        return balancer.module.ok("lb", "nft_dsr_vips", {"vips": vips, "purge": True}, **more)

    assert apply(thousand())["changed"]
    result = balancer.connect(HTTP, 60, "--source-ports", "20000-20059")
    assert result["ok"] == 60 and set(result["by_host"]) == set(ADDRESSES), result
    assert not apply(thousand())["changed"]

    # One backend of one VIP less: its own elements, and those of the guard that are its.
    planned = apply(thousand(changed=500), check=True, diff=True)["commands"]
    assert apply(thousand(changed=500))["commands"] == planned
    for command in planned:
        head = re.match(r"(add|delete) element netdev nft_dsr (\S+) ", command)
        assert head and head[2] in ("slots_v500", "poolbackends_v500", "guard_ip", "stations_all"), command[:200]
    assert len("".join(planned)) < 10_000

    # What was remembered and what the kernel says is the same.
    balancer.forget()
    assert not apply(thousand(changed=500))["changed"]
