# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which backends are looked for, and what of what was found is worth being published."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, ip_address
from typing import Any, Optional

import pytest

from ansible_collections.dsr.layer2.plugins.module_utils.agent.sought import (
    configured,
    sought_of,
    still_live,
    survey,
)
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr import model
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.resolved import ResolvedVip
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.nft_dsr.hosts import backends, mac_of, vip

B1, B2, B3 = (IPv4Address(f"10.77.0.{number}") for number in (21, 22, 23))
ONE, TWO, THREE = (f"02:00:00:00:00:0{number}" for number in (1, 2, 3))


def resolved(interface: str = "eth0", macs: Optional[dict[Any, str]] = None, **options: Any) -> ResolvedVip:
    parsed = model.parse_vip(vip(**options), "")
    known = {backend.address: backend.mac or mac_of(str(backend.address)) for backend in parsed.backends}
    return ResolvedVip(parsed, interface, interface, known if macs is None else macs)


def check(interval: float) -> dict[str, Any]:
    return {"health_check": {"type": "tcp", "interval": interval, "timeout": 0.1}}


def found(*items: ResolvedVip, macs: Optional[dict[Any, str]] = None) -> dict[Any, Any]:
    known = survey(items)
    listed = sought_of(known, configured(known), macs or {})
    assert len({item.place for item in listed}) == len(listed)
    return {item.address: item for item in listed}


def test_a_thousand_vips_that_share_backends_look_for_each_once() -> None:
    items = [resolved(name=f"v{number}", address=f"10.78.{number >> 8}.{number & 255}") for number in range(1, 1000)]
    assert list(found(*items)) == [B1, B2, B3]


def test_it_is_asked_as_often_as_the_most_pressing_check() -> None:
    pool = {"backends": backends(21, 22)}
    items = [
        resolved(name="a", ports=["80"], **pool, **check(1)),
        resolved(name="b", ports=["81"], **pool, **check(5)),
        resolved(name="c", ports=["82"], backends=backends(22, 23)),
        resolved(name="d", ports=["83"], backends=backends(22), **check(0.5)),
    ]
    assert {address: item.interval for address, item in found(*items).items()} == {B1: 1.0, B2: 0.5, B3: 2.0}


def test_what_was_found_is_in_use_and_else_what_is_configured() -> None:
    items = [resolved(backends=[{"address": "10.77.0.21", "name": "web1"}, *backends(22)])]
    looked_for = found(*items, macs={B2: TWO})
    assert (looked_for[B1].name, looked_for[B1].mac) == ("web1 (10.77.0.21)", mac_of("10.77.0.21"))
    assert (looked_for[B2].name, looked_for[B2].mac) == ("10.77.0.22", TWO)


def test_where_vips_disagree_nobody_knows() -> None:
    items = [resolved(macs={B1: ONE, B2: TWO}), resolved(name="other", ports=["81"], macs={B1: ONE, B2: THREE})]
    assert [item.mac for item in found(*items).values()] == [ONE, None, None]


def test_who_is_down_is_not_looked_for_and_who_drains_is() -> None:
    items = [resolved(backends=[*backends(21, state="down"), *backends(22, state="drain"), *backends(23)])]
    assert list(found(*items, macs={B1: ONE})) == [B2, B3]
    assert list(configured(survey(items))) == [B2, B3]


def test_who_is_pinned_is_listened_for_and_where_it_is_not_it_is_asked() -> None:
    pinned = resolved(backends=[*backends(21, mac=ONE), *backends(22)])
    alone = found(pinned)[B1]
    assert (alone.asked, alone.mac) == (False, ONE) and found(pinned)[B2].asked
    both = found(pinned, resolved(name="other", ports=["81"], backends=backends(21)))[B1]
    assert (both.asked, both.mac) == (True, mac_of("10.77.0.21"))
    assert B1 not in configured(survey([pinned]))


def test_an_address_on_two_segments_is_left_alone() -> None:
    """What is published goes by address, and these may be two hosts."""
    items = [
        resolved("eth0", backends=backends(21, 22)),
        resolved("eth1", name="other", ports=["81"], backends=backends(21)),
    ]
    assert list(found(*items)) == [B2] and list(configured(survey(items))) == [B2]


def test_the_same_segment_of_two_vips_whose_clients_come_through_different_nics() -> None:
    items = [resolved(), replace(resolved(name="other", ports=["81"]), interface="eth1")]
    assert len(found(*items)) == 3


KNOWN = frozenset([ONE])


@pytest.mark.parametrize(
    "what, before, now, holds",
    [
        ("a start", None, {B1: KNOWN}, True),
        ("nothing new", {B1: KNOWN}, {B1: KNOWN}, True),
        ("it is configured now", {B1: KNOWN}, {B1: frozenset([TWO])}, False),
        ("another was found later", {B1: KNOWN}, {B1: frozenset([THREE])}, False),
        ("it was found later by one VIP", {B1: KNOWN}, {B1: frozenset([ONE, TWO])}, True),
        ("a VIP that had another went", {B1: frozenset([ONE, THREE])}, {B1: KNOWN}, True),
        ("it was not known until now", {B1: frozenset([None])}, {B1: frozenset([None])}, True),
        ("a VIP more that knows none", {B1: KNOWN}, {B1: frozenset([ONE, None])}, True),
        ("a new one", {}, {B1: KNOWN}, True),
        ("it is not served any more", {B1: KNOWN}, {}, False),
    ],
)
def test_what_holds_with_another_configuration(what: str, before: Any, now: Any, holds: bool) -> None:
    assert still_live({B1: TWO}, now, before) == ({B1: TWO} if holds else {}), what


def test_ipv6() -> None:
    six = ip_address("fd00:77::21")
    item = resolved(address="fd00:77::100", backends=[{"address": "fd00:77::21"}])
    assert list(found(item)) == [six]
