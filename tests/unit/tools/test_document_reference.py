# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/reference is what the documentation in the code says."""

from __future__ import annotations

import re

import pytest
from tools import document_reference


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return document_reference.pages()


def test_every_page_is_as_the_code_has_it(pages: dict[str, str]) -> None:
    """After a change of the documentation: .venv/bin/python tests/tools/document_reference.py"""
    there = {path.name: path.read_text(encoding="utf-8") for path in document_reference.FOLDER.glob("*")}
    assert sorted(there) == sorted(pages)
    assert [name for name, text in pages.items() if there[name] != text] == []


def test_every_module_role_and_filter_has_a_page_that_the_index_leads_to(pages: dict[str, str]) -> None:
    expected = {
        document_reference.file_name(kind, name) for kind, those in document_reference.names().items() for name in those
    }
    assert len(expected) > 30 and expected | {"README.md"} == set(pages)
    assert set(re.findall(r"\]\((\w+\.md)\)", pages["README.md"])) == expected


def test_every_table_has_as_many_cells_in_each_row(pages: dict[str, str]) -> None:
    for name, text in pages.items():
        for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1, (name, block)


@pytest.mark.parametrize(
    ("markup", "shown"),
    [
        ("Runs C(nft -c), see O(state=absent).", "Runs `nft -c`, see `state: absent`."),
        ("M(dsr.layer2.nft_dsr_vip)", "[`dsr.layer2.nft_dsr_vip`](nft_dsr_vip.md)"),
        ("P(dsr.layer2.backend#role)", "[`dsr.layer2.backend`](backend_role.md)"),
        ("M(ansible.builtin.copy)", "`ansible.builtin.copy`"),
        ("O(dsr.layer2.dsr_vip_address#module:persist)", "[`persist`](dsr_vip_address.md)"),
        ("RV(vips[].in_sync)", "`vips[].in_sync`"),
        ("B(never) V()", '**never** `""`'),
        ("2 * 3 < 7", r"2 \* 3 \< 7"),
        (["One.", "Two."], "One.\n\nTwo."),
    ],
)
def test_markup(markup: object, shown: str) -> None:
    assert document_reference.prose(markup) == shown


def test_markup_that_is_none_is_an_error() -> None:
    with pytest.raises(ValueError):
        document_reference.prose("M(no name)")


def test_cells_keep_their_pipes_to_themselves() -> None:
    assert document_reference.table(["a", "b"], [("x|y", "1\n2")]) == "| a | b |\n| --- | --- |\n| x\\|y | 1 2 |"
