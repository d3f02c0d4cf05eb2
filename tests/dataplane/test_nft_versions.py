# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Other releases of nft than the machine's own, on the load balancer of a lab and this machine's kernel.

tests/tools/nft_versions.py fetches them. One that cannot be had here (no apt, no network) is skipped, and says why.
"""

from __future__ import annotations

import difflib
import json
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Callable

import pytest
from balancer import HASHED, HTTP, LEAST, OTHER, TURNS, UDP, WEB, WEB6, Balancer, pool
from lab import Lab, unused_name
from lab.modules import ModuleRunner
from lab.standard import build, hold_vips, serve
from tools import nft_versions

TABLE = "nft_dsr"
# The oldest that the collection works with, and what came between it and now
RELEASES = [name for name in nft_versions.RELEASES if name != "bullseye"]


def unpacked(release: str) -> Path:
    """The folder of a release's nft."""
    try:
        return nft_versions.cached(release) or nft_versions.fetch(release)
    except nft_versions.Unavailable as error:
        pytest.skip(f"the nft of {release} cannot be had here: {error}")


def own_version() -> str:
    return subprocess.run(["nft", "--version"], capture_output=True, text=True, check=True).stdout.split()[1]


@pytest.fixture(scope="module", params=RELEASES)
def lab(request: pytest.FixtureRequest, module_runner: ModuleRunner) -> Iterator[Lab]:
    """The standard lab, with the nft of a release on its load balancer."""
    folder = unpacked(request.param)
    if f"v{folder.name}" == own_version():
        pytest.skip(f"{folder.name} is what this machine has, so all other tests are with it")
    with Lab(unused_name(), shown=[*module_runner.shown, folder]) as lab:
        build(lab)
        hold_vips(lab)
        serve(lab)
        use(lab, folder)
        yield lab


@pytest.fixture
def balancer(lab: Lab, balancer: Balancer) -> Balancer:
    """Names the lab, so that there is a test for each release."""
    return balancer


def use(lab: Lab, folder: Path) -> None:
    """Put a release's nft in the load balancer's PATH; only its own view of the machine's files is changed."""
    lab.run("lb", ["ln", "-sf", str(folder / "nft"), "/usr/sbin/nft"])
    assert f"v{folder.name} " in lab.run("lb", ["nft", "--version"]).stdout


def serve_all(balancer: Balancer, check: bool = False) -> dict[str, Any]:
    """Every kind of map and of rule."""
    down = {"state": "down", "mac": balancer.lab.hosts["b3"].mac}
    vips = [
        {
            "name": f"{scheduler.replace('_', '-')}-{protocol}",
            "address": WEB if protocol == "tcp" else OTHER,
            "protocol": protocol,
            "ports": [str(port)] if scheduler not in HASHED else [f"{port}-{port + 9}"],  # single ones and ranges
            "scheduler": scheduler,
            "backends": pool(b3=down) if scheduler == "source_hash" else pool(),
        }
        for protocol, first in (("tcp", HTTP), ("udp", UDP))
        for port, scheduler in zip(range(first, first + 100, 20), (*HASHED, *TURNS, *LEAST))
    ]
    result: dict[str, Any] = balancer.module.ok("lb", "nft_dsr_vips", {"vips": vips, "purge": True}, check, True)
    return result


def somebody_else_changes_something(balancer: Balancer) -> None:
    """So that the next run compares with the kernel, and does not rely on nothing having happened since the last."""
    balancer.nft("-f", "-", text="add table inet elsewhere\ndelete table inet elsewhere\n")


def differing(result: dict[str, Any]) -> list[str]:
    """The lines that a run would change."""
    return [
        line
        for part in result["diff"]
        for line in difflib.unified_diff(part["before"].splitlines(), part["after"].splitlines(), lineterm="", n=0)
    ]


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("scheduler", [*HASHED, *TURNS, *LEAST])
def test_applied_once_and_for_all_with_real_traffic(balancer: Balancer, scheduler: str, protocol: str) -> None:
    port = HTTP if protocol == "tcp" else UDP
    serve = partial(balancer.serve, scheduler, protocol, (port,))
    assert serve()["changed"]
    somebody_else_changes_something(balancer)
    again = serve()
    assert not again["changed"], again["commands"]
    met = balancer.connect(port, 40, protocol=protocol)
    assert met["ok"] == 40, met
    if scheduler != "source_hash":
        assert len(met["by_host"]) == 3, met  # all slots work, not just the first
    info = balancer.info()
    assert info["in_sync"], info["differences"]
    assert sum(backend["packets"] for backend in info["backends"]) >= 40


@pytest.mark.parametrize("scheduler", [*HASHED, *TURNS, *LEAST])
def test_slots_lead_where_they_say_with_ipv6(balancer: Balancer, scheduler: str) -> None:
    """With one backend of three that is there, all flows come to it."""
    if scheduler not in HASHED and balancer.nft("--version").startswith("nftables v1.0.2"):
        vip = {"name": "web", "address": WEB6, "ports": ["80"], "scheduler": scheduler, "backends": pool(6)}
        assert "vips[0].scheduler: " in balancer.module.fails("lb", "nft_dsr_vips", {"vips": [vip]})
        assert balancer.nft("list", "ruleset").strip() == ""
        return
    balancer.serve(scheduler, ports=(HTTP,), version=6)
    assert balancer.connect(HTTP, 30)["ok"] == 30
    down = {"state": "down"}
    balancer.serve(scheduler, ports=(HTTP,), version=6, backends=pool(6, b1=down, b3=down))
    met = balancer.connect(HTTP, 30)
    assert met["ok"] == 30 and list(met["by_host"]) == ["b2"], met


@pytest.mark.parametrize("scheduler", [*HASHED, *TURNS, *LEAST])
def test_draining_keeps_flows(balancer: Balancer, scheduler: str) -> None:
    balancer.serve(scheduler)
    held = balancer.hold(20)
    balancer.serve(scheduler, backends=pool(b1={"state": "drain"}))
    met = balancer.connect(HTTP, 30)
    result = held.stop()
    assert met["ok"] == 30 and "b1" not in met["by_host"], met
    assert result["opened"] == 20 and result["broken"] == 0 and result["moved"] == 0, result


def objects(balancer: Balancer, kind: str) -> list[dict[str, Any]]:
    rows = json.loads(balancer.nft("-j", "-t", "list", "ruleset", "netdev"))["nftables"]
    return [row[kind] for row in rows if kind in row and row[kind].get("table") == TABLE]


DRIFT: dict[str, Callable[[Balancer], str]] = {
    "everything flushed": lambda balancer: "flush ruleset",
    "chains emptied": lambda balancer: "\n".join(
        f"flush chain netdev {TABLE} {chain['name']}" for chain in objects(balancer, "chain")
    ),
    "maps and sets emptied": lambda balancer: "\n".join(
        f"flush {kind} netdev {TABLE} {found['name']}" for kind in ("map", "set") for found in objects(balancer, kind)
    ),
    "rules put first": lambda balancer: "\n".join(
        f"insert rule netdev {TABLE} {chain['name']} meta mark 7 counter" for chain in objects(balancer, "chain")
    ),
    "things added": lambda balancer: f"add chain netdev {TABLE} strange\nadd set netdev {TABLE} odd {{ type mark; }}",
}


@pytest.mark.parametrize("what", DRIFT)
def test_drift_is_seen_and_repaired(balancer: Balancer, what: str) -> None:
    serve_all(balancer)
    somebody_else_changes_something(balancer)
    again = serve_all(balancer)
    assert not again["changed"], differing(again)
    balancer.nft("-f", "-", text=DRIFT[what](balancer) + "\n")
    assert serve_all(balancer, check=True)["changed"]
    assert serve_all(balancer)["changed"]
    somebody_else_changes_something(balancer)
    again = serve_all(balancer)
    assert not again["changed"], differing(again)
    assert balancer.connect(HTTP, 20)["ok"] == 20


def test_the_file_for_the_boot(balancer: Balancer) -> None:
    balancer.serve("connection_hash", ports=(HTTP,))
    balancer.nft("flush", "ruleset")
    for _once_and_again in range(2):
        balancer.nft("-f", "/etc/nft-dsr/ruleset.nft")
        assert balancer.connect(HTTP, 20)["ok"] == 20
    serve_all(balancer)
    balancer.nft("-f", "/etc/nft-dsr/ruleset.nft")
    somebody_else_changes_something(balancer)
    again = serve_all(balancer)
    assert not again["changed"], differing(again)


def test_nothing_is_left(balancer: Balancer) -> None:
    serve_all(balancer)
    assert balancer.module.ok("lb", "nft_dsr_vips", {"vips": [], "purge": True})["changed"]
    assert balancer.nft("list", "ruleset").strip() == ""
    assert not balancer.module.ok("lb", "nft_dsr_vips", {"vips": [], "purge": True})["changed"]


def test_one_that_is_too_old_is_refused(module_runner: ModuleRunner) -> None:
    folder = unpacked("bullseye")
    vip = {"name": "web", "address": WEB, "ports": ["80"], "backends": pool()}
    with Lab(unused_name(), shown=[*module_runner.shown, folder]) as lab:
        build(lab)
        use(lab, folder)
        result = module_runner.run(lab, "lb", "nft_dsr_vips", {"vips": [vip]})
    assert result["failed"] and "too old" in result["msg"] and folder.name in result["msg"], result
