# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of `report`, from hosts that are there, half there, and gone."""

from __future__ import annotations

import re
import stat
from pathlib import Path

from .conftest import Site

VIP = "10.77.0.100"
API = {"name": "api", "address": "10.77.0.101", "ports": ["8080"], "scheduler": "round_robin"}


def plain(path: Path) -> str:
    """The text of the page, on one line, without its tags."""
    text = re.sub(r"<(style|script)>.*?</\1>", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", text).split())


def left(site: Site) -> dict[str, str]:
    """What is on the hosts, but for the load balancer that has counted and recorded what was tried."""
    return {host: traces for host, traces in site.traces().items() if host != "lb"}


def test_a_page_of_what_there_is(twin_site: Site, tmp_path: Path) -> None:
    site = twin_site
    site.variables["dsr_vips"].append(API)
    site.variables["dsr_verify"] = False
    site.ok("site")
    for address in (VIP, API["address"]):
        site.lab.ip("lb", f"address add {address}/32 dev eth0")
    page = tmp_path / "dsr-report.html"

    checked = site.ok("report", "--check")
    assert f"Would write {page}" in checked.text and not page.exists()

    well = site.ok("report")
    assert f"Wrote {page}" in well.text and "All 2 VIPs are served (" in well.text, well.output
    assert not any(well.changed.values())
    assert stat.S_IMODE(page.stat().st_mode) == 0o644
    text = plain(page)
    assert "client: 10 of 10 connections were answered directly" in text
    assert "Nothing: no drift, nobody drained, nobody unhealthy." in text
    assert text.count("in sync") >= 6  # both VIPs on both load balancers, and these

    # One is drained, one answers ARP, one lost a VIP; somebody changed a load balancer, and the other one is away.
    site.ok("drain", dsr_backend="b2", dsr_vip="web")
    site.lab.run("b1", ["sysctl", "-w", "net.ipv4.conf.all.arp_ignore=0"])
    site.lab.ip("b3", f"address delete {API['address']}/32 dev lo")
    site.lab.run("lb", ["nft", "delete", "element", "netdev", "nft_dsr", "services_eth0", f"{{ {VIP} . tcp . 80 }}"])
    site.host_variables["lb2"] = {"ansible_host": "nowhere.invalid"}
    site.variables["dsr_vips"].append({**API, "name": "new", "address": "10.77.0.102"})
    before = left(site)
    other = tmp_path / "pages" / "now.html"
    other.parent.mkdir()
    broken = site.ok("report", dsr_report_file="pages/now.html")
    assert not any(broken.changed.values()) and left(site) == before
    text = plain(other)
    assert page.read_text(encoding="utf-8") != other.read_text(encoding="utf-8")
    for news in (
        "Load balancers without an answer 1 lb2 :",
        "Kernel differs from what is configured 1 lb on web , api : map services_eth0",
        "the backend b1; a backend must not answer for a VIP",
        "Backends that drain 1 b2 (10.77.0.22) on web",
        "lb: new : is in dsr_vips and not configured; run dsr.layer2.site",
        "b3 Backend not ready does not hold 10.77.0.101, for which load balancers send it packets",
    ):
        assert news in text, f"{news}\n{text}"
    assert "Kernel differs from what is configured: lb on web, api: map services_eth0" in broken.text
    assert "2 of 2 VIPs not in force as configured (" in broken.text


def test_where_it_may_be_written(site: Site, tmp_path: Path) -> None:
    """Nothing is asked for a page that could not be written."""
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "inventory.yml.bak").write_text("precious", encoding="utf-8")
    for path, why in (
        ("inventory.yml.bak", "must end in .html or .htm"),
        ("nowhere/page.html", f"there is no folder {tmp_path}/nowhere on the controller"),
        ("folder.html", "is there, and is no file"),
        ("a\nb.html", "has characters that no path should have"),
    ):
        play = site.fails("report", dsr_report_file=path)
        assert "dsr_report_file: " in play.text and why in play.text, play.output
        assert "Read the kernel" not in play.text
    assert (tmp_path / "inventory.yml.bak").read_text(encoding="utf-8") == "precious"

    # Nothing is configured, no client is asked, and a limit leaves hosts out.
    play = site.ok("report", "--limit", "lb", dsr_report_file=f" {tmp_path}/page.html ", dsr_report_probe="false")
    assert "No VIP is configured" in play.text
    text = plain(tmp_path / "page.html")
    assert "b1 Backend not asked outside the limit of this run" in text
    assert "not compared with it: the host b1 of dsr_backends: its IPv4 address is not known" in text
