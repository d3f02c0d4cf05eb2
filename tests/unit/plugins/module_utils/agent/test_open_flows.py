# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many flows each backend has open, as the rules' counters and recounts say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.dsr.layer2.plugins.module_utils.agent.open_flows import Counted, OpenFlows


def test_what_began_and_did_not_end_is_open() -> None:
    flows = OpenFlows()
    assert flows.update(Counted({1: 10, 2: 5}, {1: 4, 2: 0}))
    assert (flows.open, flows.began) == ({1: 6, 2: 5}, {1: 10, 2: 5})
    assert flows.update(Counted({1: 11, 2: 5}, {1: 6, 2: 1}))
    assert (flows.open, flows.began) == ({1: 5, 2: 4}, {1: 1, 2: 0})


def test_a_recount_settles_it() -> None:
    """Flows that were silent for long have ended, and no counter tells it."""
    flows = OpenFlows()
    before, after = Counted({1: 100, 2: 100}, {1: 20, 2: 20}), Counted({1: 104, 2: 100}, {1: 20, 2: 20})
    flows.update(before)
    flows.update(after)
    flows.recounted({1: 50, 2: 80}, True, before, after)
    assert flows.open == {1: 52, 2: 80}, "of what came while it was counted, half is in the count"
    flows.update(Counted({1: 105, 2: 100}, {1: 20, 2: 30}))
    assert flows.open == {1: 53, 2: 70}


def test_a_sample_corrects_proportions_only_where_it_is_sure() -> None:
    flows = OpenFlows()
    counted = Counted({1: 500_000, 2: 500_000}, {})
    flows.update(counted)
    flows.recounted({1: 50_100, 2: 49_900}, False, counted, counted)
    assert flows.open == {1: 500_000, 2: 500_000}, "that is chance"
    flows.recounted({1: 60_000, 2: 40_000}, False, counted, counted)
    assert flows.open == {1: 600_000, 2: 400_000}
    flows.recounted({}, False, counted, counted)
    assert flows.open == {1: 600_000, 2: 400_000}, "nothing was seen, so nothing was said"


def test_a_sample_says_how_many_there_are_at_least() -> None:
    """An agent that starts knows of no flow; the first sample tells it of those."""
    flows = OpenFlows()
    flows.update(Counted({1: 0, 2: 0}, {1: 0, 2: 0}))
    flows.recounted({1: 75_000, 2: 25_000}, False, Counted({1: 0, 2: 0}, {}), Counted({1: 0, 2: 0}, {}))
    assert flows.open == {1: 75_000, 2: 25_000}


@pytest.mark.parametrize("lower", [Counted({1: 3, 2: 5}, {1: 0, 2: 0}), Counted({1: 12, 2: 5}, {1: 1, 2: 0})])
def test_counters_that_begin_anew_are_noticed(lower: Counted) -> None:
    flows = OpenFlows()
    flows.update(Counted({1: 10, 2: 5}, {1: 4, 2: 0}))
    was_open = flows.open
    assert not flows.update(lower)
    assert flows.open == {mark: max(0, was_open[mark] + lower.opened[mark] - lower.closed[mark]) for mark in (1, 2)}, (
        "none that was open is forgotten, and what the new counters say is added"
    )
    assert flows.update(lower) and not any(flows.began.values())


def test_one_that_comes_and_one_that_goes() -> None:
    flows = OpenFlows()
    flows.update(Counted({1: 10}, {1: 0}))
    assert flows.update(Counted({1: 10, 2: 3}, {1: 0, 2: 1}))
    assert flows.open == {1: 10, 2: 2}


@given(st.lists(st.tuples(st.integers(1, 3), st.booleans()), max_size=60), st.integers(0, 60))
def test_it_is_right_whenever_flows_begin_and_end(events: list[tuple[int, bool]], recount_at: int) -> None:
    """With a recount at any time; no flow of a backend ends that did not begin."""
    opened, closed = dict.fromkeys((1, 2, 3), 0), dict.fromkeys((1, 2, 3), 0)
    flows = OpenFlows()
    for number, (mark, begins) in enumerate(events):
        if begins or opened[mark] == closed[mark]:
            opened[mark] += 1
        else:
            closed[mark] += 1
        counted = Counted(dict(opened), dict(closed))
        flows.update(counted)
        truth = {mark: opened[mark] - closed[mark] for mark in opened}
        if number == recount_at:
            flows.recounted(truth, True, counted, counted)
        assert flows.open == truth
