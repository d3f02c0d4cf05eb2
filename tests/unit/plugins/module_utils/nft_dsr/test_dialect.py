# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said to a host whose nft or kernel understands less."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.dsr.layer2.plugins.module_utils.common.errors import ConfigError
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr import model
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.dialect import CURRENT, PROBES, Dialect, probe_text
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.kernel import Kernel
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.resolved import ResolvedVip
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.ruleset import render
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.nft_dsr.hosts import (
    OWN,
    backends,
    backends6,
    mac_of,
    vip,
    vip6,
)
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.nft_dsr.memory_nft import MemoryNft

OLD = Dialect(raw_concatenations=False)
NO_REJECT = Dialect(reject=False)
UPDATE = "update nftables (1.0.6 or later)"


def test_nft_is_asked_and_nothing_is_loaded() -> None:
    nft = MemoryNft()
    assert Kernel(nft).dialect() == CURRENT
    assert (nft.tables, nft.generation) == ({}, 1)


def test_every_question_is_a_whole_text() -> None:
    assert set(PROBES) == set(Dialect.__dataclass_fields__)
    for body in PROBES.values():
        assert probe_text(body).startswith("table netdev nft_dsr_check {\n") and probe_text(body).endswith("\n}\n")


@pytest.mark.parametrize(
    ("dialect", "options", "error"),
    [
        (
            NO_REJECT,
            vip(on_empty="reject"),
            "vips[3].on_empty: this host's kernel or nft cannot reject at the ingress hook (NFT_REJECT_NETDEV); use",
        ),
        (
            OLD,
            vip6(persistence_timeout=60),
            "vips[3].persistence_timeout: this host's nft cannot track IPv6 flows, which 60 needs; " + UPDATE,
        ),
        (
            OLD,
            vip6(scheduler="round_robin"),
            "vips[3].scheduler: this host's nft cannot track IPv6 flows, which round_robin needs; " + UPDATE,
        ),
        (
            OLD,
            vip6(backends=backends6(21, 22, state="drain")),
            "vips[3].backends: this host's nft cannot track IPv6 flows, which a drain needs; " + UPDATE,
        ),
    ],
)
def test_an_option_that_the_host_cannot_have_is_named(dialect: Dialect, options: dict[str, Any], error: str) -> None:
    parsed = model.parse_vip(options, "")
    for place in ("vips[3]", ""):
        with pytest.raises(ConfigError) as caught:
            dialect.check(parsed, place)
        assert str(caught.value).startswith(error if place else error.partition(".")[2])
    CURRENT.check(parsed, "")


@pytest.mark.parametrize(
    "options",
    [
        vip(scheduler="round_robin", persistence_timeout=60, backends=backends(21, 22, state="drain")),
        vip6(),
        vip6(protocol="any", ports=None, scheduler="round_robin"),
        vip6(backends=backends6(21, state="down"), on_empty="local"),
    ],
)
def test_what_an_old_nft_can_do_is_not_refused(options: dict[str, Any]) -> None:
    Dialect(raw_concatenations=False, reject=False).check(model.parse_vip(options, ""), "")


def test_what_is_missed_without_having_been_asked_for_is_a_warning() -> None:
    assert CURRENT.warnings == NO_REJECT.warnings == []
    (warning,) = OLD.warnings
    assert "fragments and ICMP errors" in warning and UPDATE in warning


def test_an_index_is_a_mark_where_nft_can_say_so() -> None:
    """The same tables in other words: nothing else differs. What is handed out is looked up by a mark anyway."""
    parsed = model.parse_vip(vip(scheduler="round_robin", backends=[*backends(21), *backends(22, state="down")]), "")
    item = ResolvedVip(
        parsed, "eth0", "eth0", {backend.address: mac_of(str(backend.address)) for backend in parsed.backends}
    )
    plain, marks = (render([item], OWN, dialect=dialect) for dialect in (CURRENT, Dialect(mark_index=True)))
    assert marks.chains == plain.chains and list(marks.maps) == list(plain.maps)
    other = [name for name, declared in plain.maps.items() if declared != marks.maps[name]]
    assert sorted(other) == ["slots_web", "turns_web"]
    for name in other:
        before, after = plain.maps[name], marks.maps[name]
        assert after.declaration == ("type mark : mark", f"size {before.spec.size}") and after.spec.key == ("mark",)
        assert after.elements == {f"0x{int(slot):08x}": owner for slot, owner in (before.elements or {}).items()}
