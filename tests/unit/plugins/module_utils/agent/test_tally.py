# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the agent counts."""

from __future__ import annotations

import pytest

from ansible_collections.dsr.layer2.plugins.module_utils.agent.metrics import buckets
from ansible_collections.dsr.layer2.plugins.module_utils.agent.probe_base import Outcome
from ansible_collections.dsr.layer2.plugins.module_utils.agent.tally import BUCKETS, Durations, Tally


def test_a_check_that_could_not_be_carried_out_took_no_time() -> None:
    tally = Tally()
    tally.checked("tcp", Outcome(True, "", 0.02))
    tally.checked("tcp", Outcome(False, "refused", 0.001))
    tally.checked("tcp", Outcome(False, "no route", 3.0, own=True))
    tally.checked("dns", Outcome(True, "", 0.5))
    assert tally.checks == {("tcp", "ok"): 1, ("tcp", "failed"): 1, ("tcp", "unable"): 1, ("dns", "ok"): 1}
    assert tally.durations["tcp"].seconds == pytest.approx(0.021)
    assert sum(tally.durations["tcp"].counts) == 2


@pytest.mark.parametrize(
    ("seconds", "bucket"), [(0.0, "0.001"), (0.001, "0.001"), (0.0011, "0.0025"), (10.0, "10.0"), (10.1, "+Inf")]
)
def test_a_bucket_has_all_that_took_no_longer(seconds: float, bucket: str) -> None:
    durations = Durations()
    durations.add(seconds)
    found = buckets(durations)
    assert [limit for limit, _number in found] == [*map(str, BUCKETS), "+Inf"]
    assert next(limit for limit, number in found if number) == bucket
    assert found[-1] == ("+Inf", 1)


def test_a_clock_that_is_set_back_makes_no_time_less_than_none() -> None:
    tally = Tally(clock=lambda: 100.0)
    tally.brought(101.0, repaired=True)
    assert (tally.reconciled_at, tally.reconciled_in, tally.repairs) == (100.0, 0.0, 1)
