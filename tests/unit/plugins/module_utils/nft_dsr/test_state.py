# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a load balancer: what is written is read back, and what can't be read is never taken for nothing."""

from __future__ import annotations

import ipaddress
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.dsr.layer2.plugins.module_utils.common.errors import HostError
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr import model, state
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.ruleset import ResolvedVip
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.state import FileChange, Override, StateFiles
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.nft_dsr.hosts import backends, vip
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.nft_dsr.strategies import resolved_vips

B21, B22 = ipaddress.IPv4Address("10.77.0.21"), ipaddress.IPv4Address("10.77.0.22")

GOOD_VIP: dict[str, Any] = {
    **model.parse_vip(vip(backends=backends(21)), "").options(),
    "resolved": {"interface": "eth0", "backend_interface": "eth0", "macs": {"10.77.0.21": "02:d5:00:00:00:15"}},
}


def document(*vips: Any, **changes: Any) -> str:
    return json.dumps({"version": 1, "vips": list(vips), **changes})


def changed(**changes: Any) -> str:
    return document({**GOOD_VIP, **changes})


def resolved_as(**changes: Any) -> str:
    return changed(resolved={**GOOD_VIP["resolved"], **changes})


@given(resolved_vips())
def test_what_is_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, vips: list[ResolvedVip]) -> None:
    files = StateFiles(str(tmp_path_factory.getbasetemp() / "state"))
    FileChange(files.vips_path, state.vips_text(vips)).write()
    assert sorted(files.read_vips(), key=lambda item: item.vip.name) == sorted(vips, key=lambda item: item.vip.name)


@given(st.lists(st.builds(Override, st.sampled_from([B21, B22]), st.sampled_from([None, "web", "api"])), max_size=4))
def test_overrides_are_read_back_once_each(tmp_path_factory: pytest.TempPathFactory, overrides: list[Override]) -> None:
    files = StateFiles(str(tmp_path_factory.getbasetemp() / "state"))
    FileChange(files.overrides_path, state.overrides_text(overrides)).write()
    found = files.read_overrides()
    assert set(found) == set(overrides) and len(found) == len(set(found))


@given(resolved_vips())
def test_the_order_of_vips_does_not_show_in_the_file(vips: list[ResolvedVip]) -> None:
    assert state.vips_text(vips) == state.vips_text(vips[::-1])


def test_no_file_is_an_empty_state(tmp_path: Path) -> None:
    files = StateFiles(str(tmp_path / "nowhere"))
    assert files.read_vips() == () and files.read_overrides() == ()
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "is not JSON (Expecting value"),
        ("{", "is not JSON (Expecting property name"),
        ('{"version": 1, "vips": [', "is not JSON (Expecting value"),
        ("[" * 100_000, "is not JSON ("),
        ("[]", "has no list 'vips'."),
        ("null", "has no list 'vips'."),
        ('{"version": 1}', "has no list 'vips'."),
        (document(vips={}), "has no list 'vips'."),
        (document(version=2), "is of version 2, this collection knows 1."),
        (json.dumps({"vips": []}), "is of version None, this collection knows 1."),
        (document("web"), "a VIP is not a dictionary."),
        (document(None), "a VIP is not a dictionary."),
        (changed(scheduler="rr"), "vips[0].scheduler: 'rr' is not known; choose one of:"),
        (changed(name="x;y"), "vips[0].name: 'x;y' is not a name of a VIP;"),
        (changed(colour="red"), "vips[0].colour: unknown option; there are: name,"),
        (
            changed(backends=[{"address": "10.77.0.21", "mac": "x"}]),
            "vips[0].backends[0].mac: 'x' is not a MAC address;",
        ),
        (document(GOOD_VIP, GOOD_VIP), "vips[1].name: 'web' is the name of vips[0] already;"),
        (document({key: GOOD_VIP[key] for key in model.VIP_OPTIONS}), "vips[0].resolved: must be a dictionary with"),
        (
            changed(resolved=[]),
            "vips[0].resolved: must be a dictionary with 'interface', 'backend_interface' and 'macs'",
        ),
        (resolved_as(macs=None), "vips[0].resolved: must be a dictionary with"),
        (resolved_as(interface=None), "vips[0].resolved.interface: None is not a name of a network interface"),
        (resolved_as(backend_interface='"'), "vips[0].resolved.backend_interface: '\"' is not a name of a network"),
        (resolved_as(macs={"10.77.0.21": "zz"}), "vips[0].resolved.macs.10.77.0.21: 'zz' is not a MAC address;"),
        (resolved_as(macs={"b1": "02:d5:00:00:00:15"}), "vips[0].resolved.macs: 'b1' is not an IP address;"),
    ],
)
def test_a_desired_state_that_cannot_be_read_is_an_error(tmp_path: Path, text: str, error: str) -> None:
    files = StateFiles(str(tmp_path))
    Path(files.vips_path).write_text(text)
    with pytest.raises(HostError) as caught:
        files.read_vips()
    message = str(caught.value)
    assert message.startswith(f"{files.vips_path}: {error}")
    assert message.endswith(
        f". Nothing was changed; restore {files.vips_path} from a backup, or remove it to start from an empty one"
    )
    assert Path(files.vips_path).read_text() == text


@pytest.mark.parametrize("content", [b"\xff\xfe", b'{"version": 1, "vips": ["\xe9"]}'])
def test_bytes_that_are_no_text_are_an_error(tmp_path: Path, content: bytes) -> None:
    files = StateFiles(str(tmp_path))
    Path(files.vips_path).write_bytes(content)
    with pytest.raises(HostError, match=r"vips\.json: cannot be read: "):
        files.read_vips()


def test_a_folder_in_place_of_the_file_is_an_error(tmp_path: Path) -> None:
    files = StateFiles(str(tmp_path))
    os.mkdir(files.vips_path)
    with pytest.raises(HostError, match=r"vips\.json: cannot be read: "):
        files.read_vips()


@pytest.mark.parametrize(
    ("rows", "error"),
    [
        (["10.77.0.21"], "drained[0]: must be a dictionary with 'backend' and 'vip'"),
        ([{}], "drained[0].backend: None is not an IP address;"),
        ([{"backend": "b1"}], "drained[0].backend: 'b1' is not an IP address;"),
        ([{"backend": "10.77.0.21"}, {"backend": "10.77.0.22", "vip": "a b"}], "drained[1].vip: 'a b' is not a name"),
    ],
)
def test_overrides_that_cannot_be_read_are_an_error(tmp_path: Path, rows: list[Any], error: str) -> None:
    files = StateFiles(str(tmp_path))
    Path(files.overrides_path).write_text(json.dumps({"version": 1, "drained": rows}))
    with pytest.raises(HostError) as caught:
        files.read_overrides()
    assert str(caught.value).startswith(f"{files.overrides_path}: {error}")
    assert f"restore {files.overrides_path} from a backup" in str(caught.value)


@pytest.mark.parametrize(
    ("override", "applies"),
    [
        (Override(B21), True),
        (Override(B21, "web"), True),
        (Override(B21, "api"), False),
        (Override(B22), False),
        (Override(B22, "web"), False),
    ],
)
def test_an_override_is_of_one_vip_or_of_every_one(override: Override, applies: bool) -> None:
    parsed = model.parse_vip(vip(backends=backends(21, 23)), "")
    assert override.applies_to(parsed) is applies
    served = state.with_overrides(ResolvedVip(parsed, "eth0", "eth0", {}), [override])
    assert [backend.state for backend in served.vip.backends] == ["drain" if applies else "up", "up"]


def test_a_file_is_due_only_when_its_text_differs(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x"
    assert FileChange(str(path), "text\n").needed
    FileChange(str(path), "text\n").write()
    assert [FileChange(str(path), text).needed for text in ("text\n", "other\n", "")] == [False, True, True]
    assert path.read_text() == "text\n" and path.stat().st_mode & 0o777 == 0o644
    assert os.listdir(tmp_path / "new") == ["x"], "no temporary file stays"
