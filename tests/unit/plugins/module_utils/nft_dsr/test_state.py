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
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.resolved import ResolvedVip
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.state import FileChange, Override, StateFiles
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.nft_dsr.hosts import backends, vip, vip6
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.nft_dsr.strategies import resolved_vips

B21, B22 = ipaddress.IPv4Address("10.77.0.21"), ipaddress.IPv4Address("10.77.0.22")
LOW, HIGH = ipaddress.IPv4Address("10.77.0.9"), ipaddress.IPv4Address("250.0.0.1")
SIX = ipaddress.IPv6Address("fd00:77::21")

# What the first version of this collection wrote
FIRST_VERSION = """{
  "version": 1,
  "vips": [
    {
      "name": "web",
      "address": "10.77.0.100",
      "interface": null,
      "backend_interface": "eth0",
      "protocol": "udp",
      "ports": [
        "53",
        "8000-8100"
      ],
      "scheduler": "weighted_round_robin",
      "backends": [
        {
          "address": "10.77.0.21",
          "name": "b1",
          "mac": null,
          "weight": 3,
          "state": "drain"
        }
      ],
      "require_mac": false,
      "resolved": {
        "interface": "eth0",
        "backend_interface": "eth0",
        "macs": {
          "10.77.0.21": "02:d5:00:00:00:15"
        }
      }
    }
  ]
}
"""

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
    found = files.read_vips()
    written = sorted(vips, key=lambda item: item.vip.name)
    assert [item.vip.options() for item in found] == [item.vip.options() for item in written]
    assert [(item.interface, item.backend_interface, item.macs) for item in found] == [
        (item.interface, item.backend_interface, item.macs) for item in written
    ]
    assert state.vips_text(found) == state.vips_text(vips)


def test_what_the_first_version_wrote_is_read(tmp_path: Path) -> None:
    """What it did not know has its default, and the VIP means what it meant."""
    files = StateFiles(str(tmp_path))
    Path(files.vips_path).write_text(FIRST_VERSION)
    (found,) = files.read_vips()
    wanted = {
        "name": "web",
        "address": "10.77.0.100",
        "backend_interface": "eth0",
        "protocol": "udp",
        "ports": ["53", "8000-8100"],
        "scheduler": "weighted_round_robin",
        "backends": [{"address": "10.77.0.21", "name": "b1", "weight": 3, "state": "drain"}],
        "require_mac": False,
    }
    assert found.vip.options() == model.parse_vip(wanted, "").options()
    assert found.macs == {B21: "02:d5:00:00:00:15"}


def test_ipv6_is_written_in_its_shortest_form(tmp_path: Path) -> None:
    files = StateFiles(str(tmp_path))
    parsed = model.parse_vip(vip6(address="FD00:77:0:0::100", backends=[{"address": "FD00:77::0021"}]), "")
    text = state.vips_text([ResolvedVip(parsed, "eth0", "eth0", {SIX: "02:d5:00:06:00:21"})])
    row = json.loads(text)["vips"][0]
    assert (row["address"], row["backends"][0]["address"]) == ("fd00:77::100", "fd00:77::21")
    assert row["resolved"]["macs"] == {"fd00:77::21": "02:d5:00:06:00:21"}
    Path(files.vips_path).write_text(text)
    assert files.read_vips()[0].macs == {SIX: "02:d5:00:06:00:21"}


@given(
    st.lists(st.builds(Override, st.sampled_from([B21, B22, SIX]), st.sampled_from([None, "web", "api"])), max_size=5)
)
def test_overrides_are_read_back_once_each(tmp_path_factory: pytest.TempPathFactory, overrides: list[Override]) -> None:
    files = StateFiles(str(tmp_path_factory.getbasetemp() / "state"))
    FileChange(files.overrides_path, state.overrides_text(overrides)).write()
    found = files.read_overrides()
    assert set(found) == set(overrides) and len(found) == len(set(found))


def test_overrides_stand_in_an_order_of_their_own() -> None:
    overrides = [Override(SIX), Override(B22, "web"), Override(B21), Override(B22), Override(LOW), Override(HIGH)]
    assert state.overrides_text(overrides) == state.overrides_text(overrides[::-1])
    rows = json.loads(state.overrides_text(overrides))["drained"]
    assert [(row["backend"], row["vip"]) for row in rows] == [
        ("10.77.0.9", None),
        ("10.77.0.21", None),
        ("10.77.0.22", None),
        ("10.77.0.22", "web"),
        ("250.0.0.1", None),  # IPv6 comes after IPv4, whatever the numbers
        ("fd00:77::21", None),
    ]


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
        (changed(persistence_timeout=-1), "vips[0].persistence_timeout: -1 is out of range;"),
        (changed(flow_table=7), "vips[0].flow_table: must be a dictionary of options, not 7"),
        (changed(allow_sources=["fd00::/8"]), "vips[0].allow_sources[0]: fd00::/8 is IPv6 and the VIP is IPv4"),
        (changed(new_flows_per_source=100), "vips[0].new_flows_per_source: 100 is not a rate;"),
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
