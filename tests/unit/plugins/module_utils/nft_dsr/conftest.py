# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of the load balancer share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr import schedule
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.nft_dsr.hosts import Host

# The same examples in every run, so that a failure is the change's and not the day's; busy machines take their time.
settings.register_profile("steady", derandomize=True, deadline=None, max_examples=60)
settings.load_profile("steady")


@pytest.fixture(scope="module")
def small_tables() -> Iterator[None]:
    """Slot tables with few slots: what is done with them is the same and takes a tenth of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schedule, "hash_slots", lambda pool_size: 96)
        patch.setattr(schedule, "turn_slots", lambda pool_size: 32)
        yield


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A load balancer with nothing on it yet, and its administrator."""
    monkeypatch.setattr("os.geteuid", lambda: 0)
    return Host(tmp_path)
