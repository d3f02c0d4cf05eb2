# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From what tasks have registered to a page, and where that may be written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from browser.sites import AT, vip

from ansible_collections.dsr.layer2.plugins.filter import report

GROUPS = {"dsr_load_balancers": ["lb1", "lb2"], "dsr_backends": ["web1"], "dsr_clients": ["client1"]}
HOSTS = [
    {
        "name": "web1",
        "address4": "192.0.2.21",
        "address6": None,
        "own_addresses": ["192.0.2.21"],
        "weight": 1,
        "problem": "",
    }
]
POOL = [{"address": f"192.0.2.2{number}"} for number in (1, 2, 3)]
VIPS = [
    {"name": "web", "address": "192.0.2.100", "ports": [443, "80"], "scheduler": "connection_hash", "backends": POOL}
]


def registered() -> dict[str, dict[str, Any]]:
    """Where lb2 was not reached, and all else is well."""
    unreachable = {"unreachable": True, "msg": "no route to host", "changed": False}
    probe = {"item": {"vip": "web"}, "answered": 10, "unanswered": 0, "direct": 10, "through_lb": 0, "backends": []}
    nics = {"interfaces": ["lo", "eth-0"], "eth_0": {"macaddress": "02:00:00:00:01:01"}, "lo": {}}
    return {
        "lb1": {
            "__dsr_report_vips": {"present": True, "vips": [vip(ports=["80", "443"])]},
            "__dsr_report_neighbours": {"answers": []},
            "ansible_facts": nics,
        },
        "lb2": {"__dsr_report_vips": unreachable, "__dsr_report_neighbours": {"skipped": True, "changed": False}},
        "web1": {"__dsr_report_loopback": {"vips": [{"address": "192.0.2.100"}], "problems": []}},
        "client1": {"__dsr_report_reached": {"ping": "pong"}, "__dsr_report_probes": {"results": [probe]}},
    }


def news(hostvars: dict[str, Any], vips: Any) -> list[str]:
    return report.report_news(vips, HOSTS, hostvars, GROUPS, AT)


def test_what_was_registered() -> None:
    assert news(registered(), VIPS) == [
        f"The VIP is served, something is wrong ({AT})",
        "Load balancers without an answer: lb2: no route to host",
    ]
    page = report.report_page(VIPS, HOSTS, registered(), GROUPS, AT)
    assert "10 of 10 connections were answered directly" in page and "no route to host" in page


@pytest.mark.parametrize(
    ("host", "name", "value", "said"),
    [
        ("lb1", "__dsr_report_vips", {"failed": True, "msg": "nft is missing"}, "lb1: nft is missing"),
        (
            "lb1",
            "__dsr_report_neighbours",
            {"msg": "no NIC"},
            "lb1: who else answers for the VIPs is not known: no NIC",
        ),
        ("web1", "__dsr_report_loopback", {"msg": "it is broken"}, "Questions without an answer: web1: it is broken"),
        ("web1", "__dsr_report_loopback", {"vips": []}, "web1: does not hold 192.0.2.100"),
        ("client1", "__dsr_report_reached", {"unreachable": True, "msg": "away"}, "client1: away"),
    ],
)
def test_what_a_host_could_not_say(host: str, name: str, value: dict[str, Any], said: str) -> None:
    hostvars = registered()
    hostvars[host][name] = value
    assert said in "\n".join(news(hostvars, VIPS))


@pytest.mark.parametrize("vips", [None, "", VIPS, [{**VIPS[0], "address": "not one"}], "text"])
def test_any_dsr_vips_will_do(vips: Any) -> None:
    said = "\n".join(news(registered(), vips))
    assert ("dsr_vips: not compared with it" in said) == (vips not in (None, "", VIPS))


def test_hosts_that_were_not_asked() -> None:
    page = report.report_page(VIPS, HOSTS, {host: {} for host in registered()}, GROUPS, AT)
    assert page.count("outside the limit of this run") == 4
    assert "dsr_report_probe is off" in report.report_page(
        VIPS, HOSTS, {**registered(), "client1": {"__dsr_report_reached": {"ping": "pong"}}}, GROUPS, AT, False
    )


def test_where_it_may_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for text in ("./a.html", " a.HTML\n", "~/a.htm", f"{tmp_path}/a.html"):
        assert report.report_file(text) == f"{tmp_path}/{Path(text.strip()).name}"
    (tmp_path / "there.html").mkdir()
    os.symlink(tmp_path / "file.html", tmp_path / "link.html")
    assert report.report_file("link.html") == f"{tmp_path}/file.html"


@pytest.mark.parametrize(
    "path", [None, "", " ", 7, "/etc/passwd", "a.html/", "nowhere/a.html", "a\x00.html", "there.html"]
)
def test_where_it_may_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: Any) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.html").mkdir()
    with pytest.raises(AnsibleFilterError, match=r"^dsr_report_file: "):
        report.report_file(path)
