# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rolling work: one backend after the other, out of service on all load balancers while it is worked on.

One site for all tests, with two load balancers, of which the first has the address. The tasks write down on the
backend what there was when they were run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import Lab, unused_name
from lab.standard import LINE_PORT, build, serve

from .conftest import Play, Site

VIP = "10.77.0.100"
NAMES = ["b1", "b2", "b3"]
POOL = {"b1": "10.77.0.21", "b2": "10.77.0.22", "b3": "10.77.0.23"}
TASKS = """
- name: See who is connected, and when that is
  ansible.builtin.command:
    argv: [sh, -c, "date +%s%N; ss --no-header --tcp --numeric src 10.77.0.100 | wc -l"]
  register: seen

- name: See who drains
  ansible.builtin.command:
    argv: [cat, /etc/nft-dsr/overrides.json]
  delegate_to: "{{ item }}"
  loop: [lb, lb2]
  register: overrides

- name: Write it down
  ansible.builtin.copy:
    content: "{{ {'when': seen.stdout_lines[0], 'connected': seen.stdout_lines[1], 'drained': drained} | to_json }}"
    dest: /root/worked
    mode: "0644"
  vars:
    drained: "{{ overrides.results | map(attribute='stdout') | map('from_json') | map(attribute='drained') }}"
"""
FAILING = """
- name: Break on b2
  ansible.builtin.command:
    argv: ["false"]
  when: inventory_hostname == 'b2'
"""
BREAKING = """
- name: Break the service
  ansible.builtin.command:
    argv: [nft, -f, "-"]
    stdin: |
      table inet dead {
          chain input {
              type filter hook input priority 0;
              tcp dport 80 reject with tcp reset
          }
      }
"""
# As a host that does not come back from a reboot
VANISHING = """
- name: Go
  ansible.builtin.set_fact:
    ansible_host: nowhere
- name: Be asked
  ansible.builtin.ping:
"""


PAGE = (Path(__file__).resolve().parents[2] / "docs" / "operate.md").read_text(encoding="utf-8")


def shown(begin: str) -> str:
    """A message as docs/operate.md shows it, with the names of this site."""
    (text,) = (line for line in PAGE.splitlines() if line.startswith(begin))
    for name, other in (("192.0.2.100", VIP), ("192.0.2.2", "10.77.0.2"), ("web", "b")):
        text = text.replace(name, other)
    return text


class Rolling:
    """The site, and the work on it."""

    def __init__(self, site: Site, folder: Path) -> None:
        self.site = site
        self.lab = site.lab
        self.folder = folder
        self.tasks(TASKS)

    def tasks(self, text: str) -> None:
        (self.folder / "work.yml").write_text(f"---{text}", encoding="utf-8")

    def ok(self, *arguments: str, **variables: Any) -> Play:
        return self.site.ok("rolling", *arguments, **{"dsr_rolling_tasks": "work.yml", **variables})

    def fails(self, *arguments: str, **variables: Any) -> Play:
        return self.site.fails("rolling", *arguments, **{"dsr_rolling_tasks": "work.yml", **variables})

    def drained(self, host: str = "lb") -> list[str]:
        """Backends that an operator drained, with the VIP if it is one alone."""
        path = "/etc/nft-dsr/overrides.json"
        rows = json.loads(self.lab.read(host, path))["drained"] if self.lab.exists(host, path) else []
        return [f"{row['backend']} {row['vip'] or ''}".strip() for row in rows]

    @property
    def worked(self) -> dict[str, dict[str, Any]]:
        """What the tasks wrote down, in the order of the work, since it was asked for last."""
        found = {name: self.lab.read(name, "/root/worked") for name in NAMES if self.lab.exists(name, "/root/worked")}
        for name in found:
            self.lab.run(name, ["rm", "/root/worked"])
        notes = {name: json.loads(text) for name, text in found.items()}
        return dict(sorted(notes.items(), key=lambda item: int(item[1]["when"])))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rolling]:
    folder = tmp_path_factory.mktemp("rolling")
    with Lab(unused_name()) as lab:
        build(lab, load_balancers=2)
        serve(lab)
        site = Site(lab, folder)
        site.variables.update(
            dsr_verify=False,
            load_balancer_manage_address=False,
            dsr_rolling_quiet="1",
            dsr_vips=[
                {"name": "web", "address": VIP, "ports": ["80", str(LINE_PORT)], "scheduler": "connection_hash"},
                {"name": "echo", "address": VIP, "protocol": "udp", "ports": ["5300"], "scheduler": "round_robin"},
            ],
        )
        site.ok("site")
        lab.ip("lb", f"address add {VIP}/32 dev eth0")
        # As many write it; what is delegated is to get to the right one all the same.
        site.host_variables = {name: {"ansible_host": f"{{{{ inventory_hostname }}}}.{lab.name}"} for name in lab.hosts}
        yield Rolling(site, folder)


@pytest.fixture
def rolling(shared: Rolling) -> Iterator[Rolling]:
    """Each test begins with everything in service."""
    kept = dict(shared.site.host_variables)
    yield shared
    shared.site.host_variables = kept
    shared.tasks(TASKS)
    for host in ("lb", "lb2"):
        for row in shared.drained(host):
            backend, _unused, vip = row.partition(" ")
            shared.site.ok("restore", "--limit", host, dsr_backend=backend, **({"dsr_vip": vip} if vip else {}))
    assert shared.worked is not None


def test_one_after_the_other(rolling: Rolling) -> None:
    """While clients hold connections for a while, and come and go; in the order that is asked for."""
    lab = rolling.lab
    before = rolling.site.traces()
    order = ["b3", "b1", "b2"]
    wanted = {"dsr_rolling_backends": f"b3 {POOL['b1']},b2", "dsr_rolling_timeout": "60"}
    checked = rolling.ok("--check", **wanted)
    assert rolling.site.traces() == before and not rolling.worked
    assert "For each backend: drain it on lb, lb2; wait until its connections are gone (after 60 s" in checked.text
    for number, name in enumerate(order, 1):
        assert f"{number}. {name}: echo, web" in checked.text

    with (
        lab.start_traffic("client", "connect", VIP, 80, "--count", 0, "--concurrency", 2, "--interval", 0.01) as comers,
        lab.start_traffic("client", "hold", VIP, LINE_PORT, "--count", 30, "--seconds", 12) as held,
    ):
        play = rolling.ok(**wanted)
        kept, came = held.finish().json(), comers.stop()
    assert (kept["opened"], kept["broken"], kept["moved"]) == (30, 0, 0)
    assert came["ok"] > 100 and came["failed"] == 0, came
    worked = rolling.worked
    assert list(worked) == order
    for name, note in worked.items():
        only = [{"backend": POOL[name], "vip": None}]
        assert (note["connected"], note["drained"]) == ("0", [only, only])
    assert not rolling.drained("lb") and not rolling.drained("lb2")
    assert f"taken back by: dsr.layer2.restore -e dsr_backend={POOL['b3']}" in play.text
    assert play.output.count("Nobody is left.") == 3


def test_tasks_that_fail(rolling: Rolling) -> None:
    """That backend stays drained, nobody comes after it, and the run can be taken up again."""
    rolling.tasks(TASKS + FAILING)
    play = rolling.fails()
    assert list(rolling.worked) == ["b1", "b2"]
    assert rolling.drained("lb") == rolling.drained("lb2") == [POOL["b2"]]
    said = shown("The tasks failed on").replace("Upgrade: no such package", "Break on b2: non-zero return code")
    assert "b2,b3" in said and said in play.text, play.output

    # Who was out of service before is skipped; or, if named, worked on and left as it was.
    rolling.tasks(TASKS)
    play = rolling.ok("--limit", "!b3", "--check")
    assert "Skipped: b2, which is out of service already (drained or down on echo, web)" in play.text
    assert "b3" not in play.changed and not rolling.worked
    play = rolling.ok(dsr_rolling_backends=["b2"])
    assert "1. b2: out of service already on echo, web; it is not restored afterwards" in play.text
    assert list(rolling.worked) == ["b2"]
    assert rolling.drained("lb") == rolling.drained("lb2") == [POOL["b2"]]


def test_a_host_that_does_not_come_back(rolling: Rolling) -> None:
    rolling.tasks(TASKS + VANISHING)
    play = rolling.site("rolling", dsr_rolling_tasks="work.yml", dsr_rolling_backends="b1,b2")
    assert play.status == 4, play.output
    assert list(rolling.worked) == ["b1"]
    assert rolling.drained("lb") == rolling.drained("lb2") == [POOL["b1"]]


def test_a_service_that_does_not_come_back(rolling: Rolling) -> None:
    rolling.tasks(BREAKING)
    try:
        play = rolling.fails(dsr_rolling_timeout=1)
    finally:
        rolling.lab.run("b1", ["nft", "delete", "table", "inet", "dead"])
    assert rolling.drained("lb") == rolling.drained("lb2") == [POOL["b1"]]
    assert "The tasks were run on b1, and it is not back: after 1 s the VIP web: none of 1 connections" in play.text
    assert "b1 stays drained, and no other backend is touched." in play.text


def test_clients_that_stay(rolling: Rolling) -> None:
    """After the time limit nothing is done, or the work begins in spite of them; what others drained stays."""
    rolling.site.ok("drain", dsr_backend="b1", dsr_vip="echo")
    with rolling.lab.start_traffic("client", "hold", VIP, LINE_PORT, "--count", 20) as held:
        play = rolling.fails(dsr_rolling_timeout="1")
        assert not rolling.worked
        assert rolling.drained("lb") == rolling.drained("lb2") == [f"{POOL['b1']} echo"]
        # How many of them came to this backend, nobody knows.
        example = f"3 connections to {VIP}, from 198.51.100.7 (2), 198.51.100.9 (1)"
        head, tail = map(re.escape, shown("Nothing was done on").replace("300 s", "1 s").split(example))
        said = re.escape(f"N connections to {VIP}, from 10.77.0.10 (N)").replace("N", r"\d+")
        assert re.search(head + said + tail, play.text), play.output

        play = rolling.ok(dsr_rolling_timeout=1, dsr_rolling_on_timeout="go_on", dsr_rolling_backends="b1")
        kept = held.stop()
    assert (kept["opened"], kept["broken"]) == (20, 0)
    assert "1. b1: echo, web; stays as it is: echo on lb, echo on lb2" in play.text
    note = rolling.worked["b1"]
    assert int(note["connected"]) > 0
    assert {row["vip"] for row in note["drained"][0]} == {"echo", "web"}
    assert rolling.drained("lb") == rolling.drained("lb2") == [f"{POOL['b1']} echo"]


def test_what_is_refused(rolling: Rolling) -> None:
    """Before anything is touched."""
    site = rolling.site
    before = site.traces()
    (rolling.folder / "text.yml").write_text("just: this\n", encoding="utf-8")
    for wrong, message in (
        ({"dsr_rolling_tasks": ""}, "dsr_rolling_tasks (Tasks): is empty; name a file with the tasks"),
        ({"dsr_rolling_tasks": "nowhere.yml"}, f"{rolling.folder}/nowhere.yml is no file on the controller"),
        ({"dsr_rolling_tasks": "text.yml"}, f"{rolling.folder}/text.yml is no list of tasks"),
        ({"dsr_rolling_backends": "b1,b9"}, "there is no host 'b9' in dsr_backends; there are: b1, b2, b3"),
        ({"dsr_rolling_serial": "3"}, "b1, b2, b3 at the same time are all that serves the VIP echo on lb now"),
    ):
        assert message in rolling.fails(**wrong).text
    assert "2 at a time" in rolling.ok("--check", dsr_rolling_serial="2").text
    assert (
        "the host b2 of dsr_backends: cannot be worked on"
        in rolling.fails("--limit", "b1", dsr_rolling_backends="b2").text
    )

    # The last one that serves a VIP, on one load balancer alone.
    site.ok("drain", "--limit", "lb2", dsr_backend="b2")
    site.ok("drain", "--limit", "lb2", dsr_backend="b3")
    drained = site.traces()
    assert "b1 is all that serves the VIP echo on lb2 now, and nobody would be left" in rolling.fails().text
    rolling.ok("--check", dsr_rolling_allow_last="true")
    assert site.traces() == drained
    site.ok("restore", dsr_backend="b2")
    site.ok("restore", dsr_backend="b3")

    # A load balancer that would go on sending
    site.host_variables = {**site.host_variables, "lb2": {"ansible_host": f"lb9.{site.lab.name}"}}
    for limit in ([], ["--limit", "b1"]):
        play = site("rolling", *limit, dsr_rolling_tasks="work.yml")
        assert play.status in (2, 4), play.output
        assert "the load balancer lb2: did not say what it does" in play.text
    assert not rolling.worked
    after = site.traces()
    for host in NAMES:
        assert after[host] == before[host]
    assert not rolling.drained("lb")
