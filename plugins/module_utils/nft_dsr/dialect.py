# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What this host's nft and kernel understand. They are asked (``nft -c``), not known by their versions. Pure.

Everything that depends on it is decided here and in packet_fields.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..common.errors import ConfigError
from .model import Vip

PROBE_TABLE = "nft_dsr_check"

# Small texts that nft either takes or not.
PROBES = {
    # nft 1.0.2 lets no raw payload into a concatenation, which ICMP errors and fragments need.
    "raw_concatenations": "map probe {\ntypeof @nh,96,32 . @nh,160,16 : meta mark\n}",
    # Until nft 1.0.6 a hash can be looked up only in what is declared like one ("typeof numgen"); nft 1.1.7
    # takes such a map and turns the bytes of its keys round.
    "mark_index": "map probe {\ntype mark : mark\n}\nchain probe {\nmeta mark set numgen inc mod 8 map @probe\n}",
    # What a health check through the VIP takes: linux 5.16.
    "egress": 'chain probe {\ntype filter hook egress device "lo" priority 0;\n}\n'
    "chain answer {\nfib daddr type local accept\n}",
    # A kernel's option of its own (NFT_REJECT_NETDEV).
    "reject": "chain probe {\nreject with tcp reset\n}",
}


def probe_text(body: str) -> str:
    return f"table netdev {PROBE_TABLE} {{\n{body}\n}}\n"


@dataclass(frozen=True)
class Dialect:
    """What can be said; the names are those of PROBES."""

    raw_concatenations: bool = True
    mark_index: bool = False
    egress: bool = True
    reject: bool = True

    def check(self, vip: Vip, place: str) -> None:
        """Raise a ConfigError that names the option which this host cannot have."""
        prefix = f"{place}." if place else ""
        if vip.on_empty == "reject" and not self.reject:
            raise ConfigError(
                f"{prefix}on_empty",
                "this host's kernel or nft cannot reject at the ingress hook (NFT_REJECT_NETDEV); use 'drop'",
            )
        if vip.health_check is not None and vip.health_check.through_vip and not self.egress:
            raise ConfigError(
                f"{prefix}health_check.via",
                "this host's kernel or nft has no egress hook, which a check through the VIP takes (Linux 5.16); "
                "use 'via: backend'",
            )
        if self.raw_concatenations or vip.address.version == 4 or vip.protocol == "any":
            return
        for option, used in (("persistence_timeout", vip.persistence_timeout), ("scheduler", not vip.hashed)):
            if used:
                raise ConfigError(
                    f"{prefix}{option}",
                    f"this host's nft cannot track IPv6 flows, which {vip.persistence_timeout or vip.scheduler} needs; "
                    "update nftables (1.0.6 or later), or use a hash scheduler",
                )
        if vip.draining:
            raise ConfigError(
                f"{prefix}backends",
                "this host's nft cannot track IPv6 flows, which a drain needs; update nftables (1.0.6 or later), "
                "or use 'state: down'",
            )

    @property
    def warnings(self) -> list[str]:
        """What is missed without anybody having asked for it."""
        if self.raw_concatenations:
            return []
        return [
            "this host's nft is too old to steer fragments and ICMP errors to the backend of their flow; "
            "update nftables (1.0.6 or later)"
        ]


# What a current nft and kernel understand.
CURRENT = Dialect()
