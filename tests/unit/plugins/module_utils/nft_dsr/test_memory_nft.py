# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""nft in memory refuses what the kernel refuses; tests/dataplane asks the kernel the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.nft_dsr.memory_nft import MemoryNft, NftError

PRESENT = Path(__file__).resolve().with_name("samples").joinpath("present.nft").read_text()

# Transactions that fail, each for one reason
REFUSED = {
    "a map that a rule uses": "delete map netdev nft_dsr backends",
    "a set that a rule uses": "delete set netdev nft_dsr guard",
    "a chain that a rule leads to": "delete chain netdev nft_dsr output",
    "a chain that an element leads to": "flush chain netdev nft_dsr vip\ndelete chain netdev nft_dsr vip",
    "a map that is none": "delete map netdev nft_dsr nothing",
    "a chain that is none": "delete chain netdev nft_dsr nothing",
    "an element that is none": "delete element netdev nft_dsr backends { 0x00000002 }",
    "a table that is none": "delete table netdev nothing",
    "an element with another value": "add element netdev nft_dsr backends { 0x00000001 : 02:00:00:00:00:02 }",
    "a range in another one": "add element netdev nft_dsr ranges { 10.77.0.100 . tcp . 85-95 : goto vip }",
    "an element that leads nowhere": "add element netdev nft_dsr ranges { 10.77.0.101 . tcp . 1-2 : goto nothing }",
    "a rule that leads nowhere": "add rule netdev nft_dsr vip goto nothing",
    "a rule with a map that is none": "add rule netdev nft_dsr vip ether saddr @nothing drop",
    "a rule with a NIC that is none": 'add rule netdev nft_dsr output fwd to "eth9"',
    "a rule that leads to a hook": "add rule netdev nft_dsr vip goto ingress",
    "a circle": "add rule netdev nft_dsr output goto vip",
    "a map declared anew": "add map netdev nft_dsr backends { type mark : mark; }",
    "more than fits": (
        "add element netdev nft_dsr small { 0 : 0x00000001, 1 : 0x00000001 }\n"
        "add element netdev nft_dsr small { 2 : 0x00000001 }"
    ),
    "a value of another type": "add element netdev nft_dsr backends { 0x00000002 : goto vip }",
    "a key of another type": "add element netdev nft_dsr ranges { 10.77.0.101 . tcp : goto vip }",
}


# And what the kernel, or one nft or the other, would take: rules that don't do what they say.
STRICTER = {
    "a map of nobody's turns": "add map netdev nft_dsr none { typeof numgen inc mod 0 : meta mark; }",
    "a map that rules can't fill in all versions": (
        "add map netdev nft_dsr long { typeof ip6 saddr . th sport : meta mark; size 9; flags dynamic,timeout; }"
    ),
    "an entry that stays for ever": (
        "add map netdev nft_dsr f { typeof ip saddr : meta mark; size 9; flags dynamic,timeout; }\n"
        "add rule netdev nft_dsr vip update @f { ip saddr : meta mark }"
    ),
    "an update of what only we fill": (
        "add rule netdev nft_dsr vip update @backends { meta mark timeout 9s : ether daddr } drop"
    ),
    "a map that rules fill, without a size": (
        "add map netdev nft_dsr f { typeof ip saddr : meta mark; flags dynamic,timeout; }"
    ),
    "a lookup with a longer key": "add rule netdev nft_dsr vip ether daddr set @nh,64,128 map @backends",
    "a lookup with a key of more parts": "add rule netdev nft_dsr vip ip daddr . th dport vmap @ranges",
    "a hash as a key of another kind": (
        "add rule netdev nft_dsr vip meta mark set jhash ip saddr mod 2 seed 0x1 map @marks"
    ),
    "a set looked up like a map": "add rule netdev nft_dsr vip ether saddr map @guard",
    "a map looked up like a set": "add rule netdev nft_dsr vip meta mark @backends drop",
    "a jump that leads nowhere": "add rule netdev nft_dsr vip jump nothing",
}


@pytest.mark.parametrize("reason", STRICTER)
def test_nft_in_memory_is_stricter(reason: str) -> None:
    nft = MemoryNft(nics=["eth0"])
    nft.load(PRESENT)
    nft.load("add map netdev nft_dsr marks { type mark : mark; }")
    with pytest.raises(NftError):
        nft.load(f"{STRICTER[reason]}\n")


@pytest.mark.parametrize("reason", REFUSED)
def test_what_fails_changes_nothing(reason: str) -> None:
    nft = MemoryNft(nics=["eth0"])
    nft.load(PRESENT)
    before = nft.table.contents()
    with pytest.raises(NftError):
        nft.load(f"add chain netdev nft_dsr first\n{REFUSED[reason]}\n")
    assert nft.table.contents() == before


def test_what_is_in_nobodys_way_goes() -> None:
    """In the order that plans use: what refers to others before what is referred to."""
    nft = MemoryNft(nics=["eth0"])
    nft.load(PRESENT)
    nft.load(
        "flush map netdev nft_dsr ranges\nflush chain netdev nft_dsr ingress\nflush chain netdev nft_dsr vip\n"
        "delete map netdev nft_dsr ranges\ndelete map netdev nft_dsr backends\ndelete set netdev nft_dsr guard\n"
        "delete chain netdev nft_dsr vip\ndelete chain netdev nft_dsr output\n"
    )
    assert (list(nft.table.chains), list(nft.table.maps)) == (["ingress"], ["small"])
