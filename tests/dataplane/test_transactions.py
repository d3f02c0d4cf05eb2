# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel takes every plan, and behaves as the nft in memory that the unit tests plan against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Optional

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lab import Lab

from ansible_collections.dsr.layer2.plugins.module_utils.common.command import Completed
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.kernel import Kernel
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.naming import names_in_use
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.plan import Plan, make_plan
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.ruleset import (
    ResolvedVip,
    flow_modes,
    render,
)
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.table import boot_text
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.nft_dsr.hosts import OWN
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.nft_dsr.memory_nft import MemoryNft
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.nft_dsr.strategies import resolved_vips
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.nft_dsr.test_memory_nft import PRESENT, REFUSED
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.nft_dsr.test_plan import HANDS

Hand = tuple[Callable[[MemoryNft, int], str], int]


def plan_for(vips: Sequence[ResolvedVip], kernel: Kernel) -> Plan:
    have = kernel.read()
    wanted = [item.vip for item in vips]
    table = render(vips, OWN, names_in_use(wanted, have), flow_modes(wanted, have.maps))
    return make_plan(table, kernel.compile(table), have)


def seen_by(kernel: Kernel) -> Any:
    """What a kernel says it has, but for the byte code, which nft in memory does not know."""
    have = kernel.read()
    chains = {name: (chain.hook, len(chain.code)) for name, chain in have.chains.items()}
    return have.present, have.maps, have.elements, chains, sorted(have.foreign)


def test_the_kernel_refuses_what_nft_in_memory_refuses(bare_lab: Lab) -> None:
    bare_lab.add_host("lb", "10.77.0.2")
    bare_lab.run("lb", ["nft", "-f", "-"], input=PRESENT)
    before = bare_lab.run("lb", ["nft", "list", "ruleset"]).stdout
    for reason, text in REFUSED.items():
        done = bare_lab.run("lb", ["nft", "-f", "-"], input=f"add chain netdev nft_dsr first\n{text}\n", check=False)
        assert done.status == 1, f"{reason}: the kernel takes it"
    assert bare_lab.run("lb", ["nft", "list", "ruleset"]).stdout == before


@settings(max_examples=5, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(resolved_vips(), st.lists(st.tuples(st.sampled_from(HANDS), st.integers(0, 10_000)), max_size=2)),
        min_size=2,
        max_size=3,
    )
)
def test_the_kernel_takes_what_is_planned(bare_lab: Lab, steps: list[tuple[list[ResolvedVip], list[Hand]]]) -> None:
    if "lb" not in bare_lab.hosts:
        bare_lab.add_host("lb", "10.77.0.2")
        bare_lab.add_nic("lb", "eth1", "10.78.0.2")

    def run(argv: Sequence[str], stdin: Optional[str] = None) -> Completed:
        done = bare_lab.run("lb", argv, input=stdin, check=False)
        return Completed(tuple(argv), done.status, done.stdout, done.stderr)

    bare_lab.run("lb", ["nft", "flush", "ruleset"])
    real, memory = Kernel(run), MemoryNft()
    modelled = Kernel(memory)
    for vips, hands in steps:
        plan = plan_for(vips, real)
        assert plan.reasons == plan_for(vips, modelled).reasons
        if plan.commands:
            real.apply(plan.text)
            modelled.apply(plan.text)
        assert seen_by(real) == seen_by(modelled)
        assert plan_for(vips, real) == Plan((), ()), "a second run finds nothing to do"
        for hand, number in hands:
            if memory.tables and "mine" not in (*memory.table.chains, *memory.table.maps):
                text = hand(memory, number)
                real.apply(text)
                memory.load(text)
                assert seen_by(real) == seen_by(modelled)
    # What the boot loads is what the last run left.
    vips = steps[-1][0]
    real.apply(boot_text(render(vips, OWN)))
    assert plan_for(vips, real) == Plan((), ())
