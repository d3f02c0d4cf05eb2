# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Questions in JMESPath, and what is wrong with those that can't be answered."""

from __future__ import annotations

from typing import Any

import jmespath
import pytest
from ansible.errors import AnsibleFilterError
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.dsr.layer2.plugins.filter import queries

WEB = {
    "name": "web",
    "address": "192.0.2.100",
    "in_sync": True,
    "health_check": None,
    "backends": [
        {"address": "192.0.2.21", "name": "b1", "state": "up", "healthy": True, "flows": 3, "cause": None},
        {"address": "192.0.2.22", "name": "b2", "state": "drain", "healthy": False, "flows": 1, "cause": "refused"},
    ],
}
DNS = {"name": "dns", "address": "192.0.2.101", "in_sync": False, "backends": [WEB["backends"][0]]}
UNHEALTHY = "backends[?healthy==`false`].address"


@pytest.mark.parametrize(
    ("data", "expression", "more", "answer"),
    [
        ([WEB, DNS], UNHEALTHY, {}, {"web": ["192.0.2.22"], "dns": []}),
        ({"changed": False, "present": True, "vips": [WEB, DNS]}, UNHEALTHY, {}, {"web": ["192.0.2.22"], "dns": []}),
        (WEB, UNHEALTHY, {}, ["192.0.2.22"]),
        ([WEB, DNS], UNHEALTHY, {"vip": "web"}, ["192.0.2.22"]),
        ([WEB, DNS], UNHEALTHY, {"vip": "", "together": "no"}, {"web": ["192.0.2.22"], "dns": []}),
        ([WEB, DNS], "[?!in_sync].name", {"together": True}, ["dns"]),
        ([WEB, DNS], "length(@)", {"together": "yes"}, 2),
        ([WEB, DNS], "sum(backends[].flows)", {}, {"web": 4, "dns": 3}),
        # Functions know the types of JSON only.
        ([WEB], "join(',', sort(backends[].name))", {}, {"web": "b1,b2"}),
        # What these VIPs don't have, and others may
        ([WEB], "health_check.path", {}, {"web": None}),
        ([WEB], "flow_table.timeouts.syn", {}, {"web": None}),
        # A key that the question itself makes
        ([WEB], "backends[].{who: name} | [0].who", {}, {"web": "b1"}),
        ([WEB], "backends[0:1].name", {}, {"web": ["b1"]}),
        ([WEB], "backends[?state=='up'].name", {}, {"web": ["b1"]}),
        ([], UNHEALTHY, {}, {}),
        ([], "length(@)", {"together": True}, 0),
    ],
)
def test_questions(data: Any, expression: str, more: dict[str, Any], answer: Any) -> None:
    assert queries.vip_query(data, expression, **more) == answer


@pytest.mark.parametrize(
    ("data", "expression", "more", "problem"),
    [
        ([WEB], "", {}, "expression: '' is no expression; write one such as"),
        ([WEB], None, {}, "expression: None is no expression"),
        ([WEB], 5, {}, "expression: 5 is no expression"),
        ([WEB], "backends[?", {}, r"expression: 'backends\[\?' is not JMESPath: it ends too soon"),
        ([WEB], "backends..name", {}, r"is not JMESPath: column 10: '.name' is not expected there"),
        ([WEB], "backends[?name='b1']", {}, r"is not JMESPath: column 15: Unknown token"),
        ([WEB], "backends[?name=='b1]", {}, "is not JMESPath: column 17: Unclosed ' delimiter"),
        ([WEB], "size(backends)", {}, r"fails with the VIP web: Unknown function: size\(\)"),
        ([WEB], "length(backends, name)", {}, r"fails .*: Expected 1 argument for function length\(\), received 2"),
        ([DNS, WEB], "length(health_check)", {"vip": "web"}, r"fails with the VIP web: length\(\) takes string"),
        ([WEB], "length(`5`)", {"together": True}, "fails with the list of VIPs: length"),
        ([WEB], "backends[::`0`]", {}, "is not JMESPath"),
        ([WEB], "backends[::0]", {}, "fails with the VIP web: "),
        ([WEB], "backends[?helthy==`false`]", {}, "asks for the key 'helthy', .*; did you mean 'healthy'"),
        ([WEB], "backends[?healthy==false]", {}, "asks for the key 'false', .*; write `false`"),
        ([WEB], "backends[?state==up]", {}, "asks for the key 'up', .* text stands between single quotes"),
        ([WEB], "backends[?healthy=='false']", {}, "compares with the text 'false', which nothing is; write `false`"),
        ([WEB, DNS], UNHEALTHY, {"vip": "wbe"}, "vip: there is no VIP 'wbe'; did you mean 'web'"),
        ([WEB, DNS], UNHEALTHY, {"vip": "mail"}, "vip: there is no VIP 'mail'; there are: web, dns"),
        ([], UNHEALTHY, {"vip": "mail"}, "vip: there is no VIP 'mail'; there are: none"),
        ([WEB], "length(@)", {"vip": "web", "together": True}, "together: has no use with the name of one VIP"),
        ([WEB], "length(@)", {"together": "often"}, "together: 'often' is neither true nor false"),
        ([WEB], "&backends", {}, "expression: '&backends' has '&' where no function takes it"),
        ([WEB], "backends[].[&name]", {}, "has '&' where no function takes it"),
        # The task that should have told has failed, or was skipped.
        ({"failed": True, "msg": "nft is not installed"}, "name", {}, "vips: this is no result .*: nft is not"),
        ({"skipped": True, "changed": False}, "name", {}, "vips: this is no result .*: it has skipped, changed"),
        ({}, "name", {}, "vips: this is no result .*: it has nothing"),
        ("web", "name", {}, "vips: must be the VIPs that dsr.layer2.nft_dsr_vip_info returned, not 'web'"),
        ({"vips": 5}, "name", {}, "vips: must be the VIPs .* not 5"),
        (["web"], "name", {}, r"vips\[0\]: must be a VIP with a name, not 'web'"),
        ([WEB, {}], "name", {}, r"vips\[1\]: must be a VIP with a name"),
    ],
)  # fmt: skip
def test_a_problem_names_its_place(data: Any, expression: Any, more: dict[str, Any], problem: str) -> None:
    with pytest.raises(AnsibleFilterError, match=problem) as raised:
        queries.vip_query(data, expression, **more)
    assert "\n" not in str(raised.value)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "jmespath", None)
    with pytest.raises(
        AnsibleFilterError, match=r"^dsr.layer2.vip_query: the Python package jmespath is missing .* pip"
    ):
        queries.vip_query([WEB], "name")


PARTS = st.sampled_from(
    ["backends", "name", "healthy", "flows", "[", "]", "[?", "(", ")", "==", "<", "`false`", "'up'", "`1`", "&", "|",
     ".", "*", "[]", "@", ",", "{", "}", ":", "!", "`", "'", '"', "-1", "0", "length", "sort_by", "max",
     "join", "to_number"]
)  # fmt: skip


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")  # of spellings that are tried
@settings(deadline=None)
@given(st.one_of(st.text(), st.lists(PARTS, max_size=9).map("".join)), st.booleans())
def test_an_answer_is_jmespaths_own_or_an_error_of_ours(expression: str, together: bool) -> None:
    try:
        answer = queries.vip_query([WEB], expression, together=together)
    except AnsibleFilterError as error:
        assert str(error).startswith("expression: ")
        return
    expected = jmespath.search(expression, [WEB] if together else WEB)
    assert (answer if together else answer["web"]) == expected


def test_a_question_without_end_is_an_error() -> None:
    with pytest.raises(AnsibleFilterError, match="expression: "):
        queries.vip_query([WEB], "(" * 5000)
