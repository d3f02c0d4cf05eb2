# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What it takes to load a configuration and to change it: time and memory, by the number of VIPs."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Callable

from lab import Lab, LabError, unused_name
from lab.modules import ModuleRunner

from .peers import NFTLB_HASH, Nftlb, Ours
from .site import Scene
from .tools import Tools

_BACKENDS = 8
# Takes the place of the Python's own hook on the hosts and notes what the interpreter itself needed.
_HOOK = """
import atexit, resource

def _note():
    used = resource.getrusage(resource.RUSAGE_SELF)
    with open("/run/watched", "a") as log:
        log.write(f"python 0 {used.ru_utime + used.ru_stime:.6f} {used.ru_maxrss}\\n")

atexit.register(_note)
"""
# One request to nftlb's API, timed where it is made.
_REQUEST = """
import http.client, json, sys, time
method, limit = sys.argv[1], float(sys.argv[2])
data = sys.stdin.buffer.read() if method != "GET" else None
begun = time.monotonic()
connection = http.client.HTTPConnection("127.0.0.1", 5555, timeout=limit)
connection.request(method, "/farms", data, {"Key": "bench"})
answer = connection.getresponse()
answer.read()
if answer.status != 200:
    sys.exit(f"nftlb answers {answer.status}")
print(json.dumps(time.monotonic() - begun))
"""


@dataclass
class Step:
    """What one operation took, over its repetitions."""

    wall: list[float] = field(default_factory=list)  # seconds
    nft: list[float] = field(default_factory=list)  # of these, in nft
    nft_memory: int = 0  # peak, KiB
    own_memory: int = 0  # peak of the module's Python, or of nftlb, KiB
    transactions: int = 0  # nft calls
    note: str = ""

    def take(self, wall: float, watched: Sequence[tuple[str, float, float, int]]) -> None:
        nft = [row for row in watched if row[0] == "nft.real"]
        self.wall.append(wall)
        self.nft.append(sum(row[1] for row in nft))
        self.nft_memory = max([self.nft_memory, *(row[3] for row in nft)])
        self.own_memory = max([self.own_memory, *(row[3] for row in watched if row[0] in ("python", "nftlb.real"))])
        self.transactions = len(nft)


OURS = ("load", "again", "change one", "change all", "nft alone")
NFTLB = ("load", "change one")


def vips_of(scene: Scene, count: int) -> list[dict[str, Any]]:
    """So many VIPs, no two with the same backends."""
    peer = Ours("", "", scheduler="connection_hash")
    return [peer.vip(scene, number, first_backend=number) for number in range(count)]


@contextmanager
def _host(runner: ModuleRunner, tools: Tools, *watched: str) -> Iterator[Lab]:
    """A host on which these programs are watched."""
    with Lab(unused_name(), shown=runner.shown) as lab:
        lab.add_host("lb", "10.77.0.2", 16)
        for program in watched:
            lab.run("lb", ["sh", "-c", 'mv "$1" "$1.real" && cp "$2" "$1"', "sh", program, str(tools.watched)])
        yield lab


def _watched(lab: Lab) -> list[tuple[str, float, float, int]]:
    """What was noted since the last time."""
    said = lab.run("lb", ["sh", "-c", "cat /run/watched; rm -f /run/watched"], check=False).stdout
    rows = [line.split() for line in said.splitlines()]
    return [(name, float(wall), float(used), int(memory)) for name, wall, used, memory in rows]


def _down(vips: Sequence[dict[str, Any]], which: Sequence[int]) -> list[dict[str, Any]]:
    """The same VIPs, in some of which the first backend is down."""
    changed = json.loads(json.dumps(vips))
    for number in which:
        changed[number]["backends"][0]["state"] = "down"
    return list(changed)


def ours(runner: ModuleRunner, tools: Tools, count: int, repeat: int, limit: float) -> dict[str, Step]:
    """The module, given all VIPs each time, as the role does."""
    hook = runner.folder / "sitecustomize.py"
    hook.write_text(_HOOK, encoding="utf-8")
    steps = {name: Step() for name in OURS}
    vips = vips_of(Scene(backends=_BACKENDS), count)

    # What one call may take; more than this is a fault, not a figure.
    limit = max(limit, 300.0)

    def call(step: str, wanted: Sequence[dict[str, Any]], changed: bool) -> None:
        _watched(lab)
        begun = time.monotonic()
        result = runner.run(lab, "lb", "nft_dsr_vips", {"vips": list(wanted), "purge": True}, timeout=limit)
        wall = time.monotonic() - begun
        if result.get("failed") or result.get("changed") is not changed:
            raise LabError(
                f"{step} of {count} VIPs: {result.get('msg', 'it changed, or did not, against expectation')}"
            )
        steps[step].take(wall, _watched(lab))

    try:
        for _unused in range(repeat):
            with _host(runner, tools, "/usr/sbin/nft") as lab:
                call("load", vips, True)
                call("again", vips, False)
                call("change one", _down(vips, [count // 2]), True)
                call("change one", vips, True)
                call("change all", _down(vips, range(count)), True)
                call("change all", vips, True)
                lab.run("lb", ["nft", "flush", "ruleset"])
                _watched(lab)
                begun = time.monotonic()
                lab.run("lb", ["nft", "-f", "/etc/nft-dsr/ruleset.nft"], timeout=limit)
                steps["nft alone"].take(time.monotonic() - begun, _watched(lab))
    finally:
        hook.unlink()
    return steps


def nftlb(runner: ModuleRunner, tools: Tools, count: int, repeat: int, limit: float) -> dict[str, Step]:
    """nftlb: its configuration file, then one backend down and up by its API.

    All its VIPs have the same backends, as it finds no more than about 50 neighbours and leaves out the others.
    """
    steps = {name: Step() for name in NFTLB}
    if shutil.which("nftlb") is None:
        steps["load"].note = "no nftlb here (package nftlb)"
        return steps
    peer = Nftlb("", "", NFTLB_HASH)
    scene = Scene(backends=_BACKENDS)
    farms = [peer.farm(scene, number) for number in range(count)]
    farm = farms[count // 2]
    for _unused in range(repeat):
        with _host(runner, tools, "/usr/sbin/nftlb") as lab:
            peer.prepare(lab, "lb", scene, count, _BACKENDS)
            lab.write("lb", "/etc/nftlb.json", json.dumps({"farms": farms}))
            begun = time.monotonic()
            try:
                lab.run("lb", ["nftlb", "-c", "/etc/nftlb.json", "-e"], timeout=limit)
            except LabError:
                if time.monotonic() - begun < limit:
                    raise
                steps["load"].note = f"not done within {limit:g} s"
                return steps
            steps["load"].take(time.monotonic() - begun, _watched(lab))
            lab.run("lb", ["nft", "flush", "ruleset"])
            with lab.popen("lb", ["nftlb", "-k", "bench", "-H", "127.0.0.1", "-c", "/etc/nftlb.json"]):
                _await_api(lab, limit)
                for state in ("down", "up"):
                    change = {"farms": [{"name": farm["name"], "backends": [{"name": "b0", "state": state}]}]}
                    steps["change one"].wall.append(_request(lab, "PUT", limit, json.dumps(change)))
                    rules = lab.run("lb", ["nft", "list", "chain", "netdev", "nftlb", farm["name"]]).stdout
                    if (scene.mac(0) in rules) is not (state == "up"):
                        raise LabError(f"nftlb said that a backend is {state}, and it isn't")
    return steps


def _request(lab: Lab, method: str, limit: float, data: str = "") -> float:
    argv = ["/usr/bin/python3", "-I", "-c", _REQUEST, method, str(limit)]
    return float(lab.run("lb", argv, input=data, timeout=limit + 10).json())


def _await_api(lab: Lab, limit: float) -> None:
    until = time.monotonic() + limit
    while True:
        try:
            _request(lab, "GET", limit)
            return
        except LabError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)  # it tells nobody when it listens


def group(
    runner: ModuleRunner, tools: Tools, repeated: Mapping[int, int], limit: float, say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """All of it, as rows for a report. ``repeated`` says how often each number of VIPs is loaded."""
    rows = []
    for count, repeat in repeated.items():
        for name, run in (("ours", ours), ("nftlb", nftlb)):
            say(f"  {count} VIPs x {_BACKENDS}: {name}")
            try:
                steps = run(runner, tools, count, repeat, limit)
            except LabError as error:
                steps = {"load": Step(note=f"failed: {' '.join(str(error).split())[:300]}")}
            rows += [{"peer": name, "vips": count, "step": step, **vars(value)} for step, value in steps.items()]
    return rows
