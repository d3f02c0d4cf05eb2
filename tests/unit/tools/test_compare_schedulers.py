# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The figures in docs/schedulers.md are those that the code has now."""

from __future__ import annotations

import pytest
from tools import compare_schedulers


@pytest.fixture(scope="module")
def lines() -> list[str]:
    return compare_schedulers.DOCUMENT.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize(
    ("way", "size"),
    [
        ("ours", 4),
        ("ours", 8),
        ("ours", 32),
        ("rendezvous", 4),
        ("rendezvous", 8),
        ("maglev4093", 4),
        ("maglev4093", 32),
        ("ranges", 8),
        ("modulo", 8),
    ],
)
def test_ways_compare_as_documented(lines: list[str], way: str, size: int) -> None:
    assert compare_schedulers.comparison_row(way, size) in lines


@pytest.mark.parametrize("size", [2, 8, 9, 16, 18, 128])
def test_pools_of_a_size_do_as_documented(lines: list[str], size: int) -> None:
    assert compare_schedulers.our_row(size) in lines


@pytest.mark.parametrize("slots", [256, 384])
def test_tables_of_a_size_do_as_documented(lines: list[str], slots: int) -> None:
    assert compare_schedulers.slots_row(slots) in lines


def test_the_text_of_the_document_is_that_of_the_script(lines: list[str]) -> None:
    document = "\n".join(lines)
    for text in (compare_schedulers._INTRODUCTION, compare_schedulers._BY_SIZE, compare_schedulers._CROSSING):
        assert text.strip() in document


def test_maglev_gives_everybody_the_same_and_forgets_nobody() -> None:
    owners = compare_schedulers.maglev(4093)(range(1, 9))
    counts = [list(owners).count(backend) for backend in range(1, 9)]
    assert sum(counts) == 4093
    assert max(counts) - min(counts) <= 1


def test_what_moved_is_told_across_sizes() -> None:
    assert compare_schedulers.share_moved([1, 2, 3, 3], [1, 3], 2) == 0
    assert compare_schedulers.share_moved([1, 2, 3, 3], [3, 3], 2) == pytest.approx(1 / 3)
    assert compare_schedulers.share_moved([1, 2], [1, 1, 1, 1], 2) == 0
