# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""This repository as an AWX project: the sync, jobs by ansible-runner, and what people type into surveys.

AWX hands a survey's answers over as text that is marked as unsafe, which is never taken for a template. So it is here.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import pytest
import yaml
from lab import Lab, unused_name
from lab.standard import build, serve

from .conftest import Site

REPOSITORY = Path(__file__).resolve().parents[2]
# What AWX offers as playbooks: files with a line that begins so, with or without a dash
PLAYBOOK = re.compile(r"^\s*-?\s*(?:hosts|import_playbook):", re.MULTILINE)
POOL_HOSTS = ["b1", "b2", "b3"]
POOL = ["10.77.0.21", "10.77.0.22", "10.77.0.23"]
API = {
    "dsr_vip_name": " api ",
    "dsr_vip_address": " 10.77.0.101\n",
    "dsr_vip_ports": " 8080 ,8081",
    "dsr_vip_protocol": "",
}


@dataclass(frozen=True)
class Job:
    """How a job ended, by the events that AWX shows."""

    status: int
    events: list[dict[str, Any]]
    output: str

    @property
    def changed(self) -> dict[str, int]:
        stats = next(event for event in self.events if event["event"] == "playbook_on_stats")
        return {host: stats["event_data"]["changed"].get(host, 0) for host in stats["event_data"]["processed"]}

    @property
    def said(self) -> str:
        """What the tasks said, failed ones included."""
        results = [event["event_data"]["res"].get("msg") for event in self.events if "res" in event["event_data"]]
        return "\n".join("\n".join(map(str, text)) if isinstance(text, list) else str(text) for text in results)


class _Unsafe(yaml.SafeDumper):
    """Writes text as AWX does for what came from a survey."""

    def represent_data(self, data: Any) -> yaml.Node:
        return self.represent_scalar("!unsafe", data) if isinstance(data, str) else super().represent_data(data)


class Project:
    """A copy of the repository with its collections, as a sync leaves it, and jobs that are run from it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "project"
        self.collections = folder / "requirements_collections"
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=REPOSITORY, capture_output=True, check=True, timeout=60,
        ).stdout.decode().split("\0")  # fmt: skip
        for name in filter(None, listed):
            if (REPOSITORY / name).is_file():
                (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(REPOSITORY / name, self.folder / name)
        self._environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "LANG": "C.UTF-8",
            "HOME": str(folder),
            "ANSIBLE_COLLECTIONS_PATH": str(self.collections),
        }
        self._jobs = 0
        # From the top of the project; that there is no network is not left to chance.
        self.run(
            *("ansible-galaxy", "collection", "install", "--offline"),
            *("-r", str(self.folder / "collections" / "requirements.yml")),
            *("--collections-path", str(self.collections)),
        )

    def run(self, *command: str, status: int = 0) -> str:
        done = subprocess.run(
            command, cwd=self.folder, env=self._environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, encoding="utf-8", timeout=240, check=False,
        )  # fmt: skip
        assert done.returncode == status, f"{command}\n{done.stdout}"
        return done.stdout

    def job(self, site: Site, playbook: str, answers: Optional[Mapping[str, Any]] = None, check: bool = False) -> Job:
        """Launch a job template."""
        self._jobs += 1
        private = self.folder.parent / f"job{self._jobs}"
        (private / "env").mkdir(parents=True)
        (private / "inventory").mkdir()
        (private / "project").symlink_to(self.folder)
        site.lab.inventory(private / "inventory" / "hosts.yml", site.variables, site.host_variables, site.groups)
        (private / "env" / "extravars").write_text(yaml.dump(dict(answers or {}), Dumper=_Unsafe), encoding="utf-8")
        if check:
            (private / "env" / "cmdline").write_text("--check", encoding="utf-8")
        done = subprocess.run(
            ["ansible-runner", "run", str(private), "-p", f"playbooks/{playbook}.yml", "-i", "job"],
            cwd=self.folder, env=self._environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, encoding="utf-8", timeout=240, check=False,
        )  # fmt: skip
        artifacts = private / "artifacts" / "job"
        events = [
            json.loads(path.read_text(encoding="utf-8"))
            for path in sorted((artifacts / "job_events").glob("*.json"), key=lambda path: int(path.name.split("-")[0]))
        ]
        assert "Traceback (most recent call last)" not in done.stdout, done.stdout
        return Job(int((artifacts / "rc").read_text(encoding="ascii")), events, done.stdout)

    def ok(self, site: Site, playbook: str, answers: Optional[Mapping[str, Any]] = None, check: bool = False) -> Job:
        job = self.job(site, playbook, answers, check)
        assert job.status == 0, job.output
        return job


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(tmp_path_factory.mktemp("awx"))


def test_what_awx_offers(project: Project) -> None:
    """Its playbooks, and each one that a job template names."""
    playbooks = set((project.folder / "playbooks").glob("*.yml")) - {
        project.folder / "playbooks" / "inventory.example.yml"
    }
    offered = {path.name for path in playbooks if PLAYBOOK.search(path.read_text("utf-8"))}
    assert offered == {path.name for path in playbooks}
    templates = yaml.safe_load((project.folder / "awx" / "controller.yml").read_text("utf-8"))["controller_templates"]
    named = [template["playbook"].removeprefix("playbooks/") for template in templates]
    assert set(named) == offered and len(set(named)) == len(named)
    for template in templates:
        if "survey_spec" in template:
            survey = re.search(r"'/(\w+\.json)'", template["survey_spec"])
            assert survey and (project.folder / "awx" / "surveys" / survey[1]).is_file()
    assert not (project.collections / "ansible_collections" / "dsr" / "layer2" / "collections").exists()


def test_ansible_builder_learns_what_an_execution_environment_needs(project: Project) -> None:
    """From the collection that is installed, as a definition that names it has it."""
    found = yaml.safe_load(project.run("ansible-builder", "introspect", str(project.collections)))
    assert sorted(line.split(">=")[0] for line in found["python"]) == ["jmespath", "netaddr"]


def test_ansible_builder_takes_the_definition_of_an_execution_environment(project: Project, tmp_path: Path) -> None:
    """And what it builds from has ansible-core, the packages of the filters, and ssh."""
    definition = project.folder / "awx" / "execution-environment.yml"
    project.run("ansible-builder", "create", "--file", str(definition), "--context", str(tmp_path))
    build = tmp_path / "_build"
    wanted = (project.folder / "meta" / "ee-requirements.txt").read_text("utf-8")
    assert (build / "requirements.txt").read_text("utf-8") == wanted
    assert "openssh-clients" in (build / "bindep.txt").read_text("utf-8")
    recipe = (tmp_path / "Containerfile").read_text("utf-8")
    assert 'PYPKG="python3"' in recipe and "ansible-core>=2.19" in recipe and "ansible-runner" in recipe
    runtime = yaml.safe_load((project.folder / "meta" / "runtime.yml").read_text("utf-8"))
    assert runtime["requires_ansible"] == ">=2.19.0"


def test_jobs(project: Project, site: Site) -> None:
    """The site job, then a VIP by survey: made, changed, kept and removed; each a second time without a change."""
    checked = project.ok(site, "site", check=True)
    assert site.vips() == {} and checked.changed["lb"] > 0
    project.ok(site, "site")
    assert site.served()["ok"] == 20
    before = site.traces()
    assert set(project.ok(site, "site").changed.values()) == {0}

    project.ok(site, "vip", API, check=True)
    assert site.traces() == before
    made = project.ok(site, "vip", API)
    assert "client: the VIP api (10.77.0.101 tcp 8080): 30 connections answered directly" in made.said
    assert "the next run of dsr.layer2.site REMOVES it" in made.said and "  ports:" in made.said
    assert site.vips() == {"web": POOL, "api": POOL}
    assert site.served("10.77.0.101", 8080)["ok"] == 20
    assert set(project.ok(site, "vip", API).changed.values()) == {0}

    # A page in the job's own folder
    reported = project.ok(site, "report", {"dsr_report_file": "", "dsr_report_probe": "false"})
    assert f"Wrote {project.folder}/dsr-report.html" in reported.said and not any(reported.changed.values())
    assert (project.folder / "dsr-report.html").stat().st_size > 20_000

    # Another address, and a backend less.
    other = {
        **API,
        "dsr_vip_address": "10.77.0.102",
        "dsr_vip_backends": "10.77.0.21 b1 2\r\n\r\n10.77.0.22\tb2",
        "dsr_vip_scheduler": "weighted_round_robin",
    }
    project.ok(site, "vip", other)
    assert site.vips()["api"] == POOL[:2]
    assert site.addresses("lb", "eth0") == {"10.77.0.100", "10.77.0.102"}
    assert site.addresses("b1", "lo") == {"10.77.0.100", "10.77.0.102"}
    assert site.addresses("b3", "lo") == {"10.77.0.100"}
    assert site.served("10.77.0.102", 8080, 30)["by_host"] == {"b1": 20, "b2": 10}
    assert set(project.ok(site, "vip", other).changed.values()) == {0}

    # What site makes of it
    site.variables.update(load_balancer_purge=False, backend_purge=False)
    assert set(project.ok(site, "site").changed.values()) == {0}
    assert "Runs of dsr.layer2.site leave it" in project.ok(site, "vip", other).said

    drained = {"dsr_backend": " b2 ", "dsr_vip": " api\n"}
    assert project.ok(site, "drain", drained).changed == {"lb": 1}
    assert site.served("10.77.0.102", 8080)["by_host"] == {"b1": 20}
    assert project.ok(site, "restore", drained).changed == {"lb": 1}

    project.ok(site, "remove_vip", {"dsr_vip_name": "api "})
    after = site.traces()
    assert {host: after[host] for host in POOL_HOSTS} == {host: before[host] for host in POOL_HOSTS}
    assert (site.vips(), site.addresses("lb", "eth0")) == ({"web": POOL}, {"10.77.0.100"})
    again = project.ok(site, "remove_vip", {"dsr_vip_name": "api"})
    assert set(again.changed.values()) == {0} and "lb has no VIP api; there are: web" in again.said


def test_a_vip_of_the_inventory(project: Project, site: Site) -> None:
    """What the survey leaves open stays as dsr_vips has it; two VIPs of one address do not take it from each other."""
    site.variables.update(dsr_verify=False)
    site.variables["dsr_vips"][0]["deny_sources"] = ["10.99.0.0/16"]
    project.ok(site, "site")
    changed = project.ok(site, "vip", {"dsr_vip_name": "web", "dsr_vip_scheduler": "round_robin"})
    assert "is in dsr_vips, and differs there" in changed.said
    row = json.loads(site.lab.read("lb", "/etc/nft-dsr/vips.json"))["vips"][0]
    assert (row["scheduler"], row["deny_sources"], row["ports"]) == ("round_robin", ["10.99.0.0/16"], ["80"])

    project.ok(
        site,
        "vip",
        {
            "dsr_vip_name": "web2",
            "dsr_vip_address": "10.77.0.100",
            "dsr_vip_ports": "8080",
            "dsr_vip_backends": POOL[0],
        },
    )
    removed = project.ok(site, "remove_vip", {"dsr_vip_name": "web"})
    assert "The VIP web is still in dsr_vips" in removed.said
    assert site.addresses("lb", "eth0") == {"10.77.0.100"}
    assert [site.addresses(host, "lo") for host in ("b1", "b2", "b3")] == [{"10.77.0.100"}, set(), set()]
    assert site.served(port=8080)["by_host"] == {"b1": 20}


@pytest.fixture(scope="module")
def used(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site with a VIP, that no survey of the table below may change."""
    with Lab(unused_name()) as lab:
        build(lab, backends=1)
        serve(lab)
        one = Site(lab, tmp_path_factory.mktemp("used"))
        one.variables["dsr_verify"] = False
        project.ok(one, "site")
        yield one


@pytest.fixture(scope="module")
def untouched(used: Site) -> dict[str, str]:
    return used.traces()


@pytest.mark.parametrize(
    ("playbook", "answers", "field"),
    [
        ("vip", {"dsr_vip_name": "{{ lookup('ansible.builtin.pipe', 'id') }}"}, "dsr_vip_name (Name)"),
        ("vip", {"dsr_vip_address": "10.77.0.101' \"$(id)`id`"}, "dsr_vip_address (Address)"),
        ("vip", {"dsr_vip_ports": "80\n}; flush ruleset"}, "dsr_vip_ports (Ports)"),
        ("vip", {"dsr_vip_scheduler": "round_rόbin"}, "dsr_vip_scheduler (Algorithm): has the character U+03CC"),
        ("vip", {"dsr_vip_protocol": "x" * 100_000}, "dsr_vip_protocol (Protocol): has 100000 characters"),
        ("vip", {"dsr_vip_backends": "10.77.0.21\n\n10.77.0.22 a|b"}, "dsr_vip_backends (Backends), line 3"),
        ("vip", {"load_balancer_purge": "true"}, "load_balancer_purge and backend_purge: "),
        # What another VIP has, which only the load balancer can know
        (
            "vip",
            {"dsr_vip_address": "10.77.0.100", "dsr_vip_ports": "80"},
            "10.77.0.100 tcp port 80 belongs to the VIP",
        ),
        ("remove_vip", {"dsr_vip_name": "web*; true"}, "dsr_vip_name (Name)"),
        ("drain", {"dsr_backend": "b1\nb2"}, "dsr_backend (Backend): has several lines"),
        ("drain", {"dsr_backend": "b1", "dsr_vip": "'; drop"}, "dsr_vip (VIP)"),
    ],
)
def test_what_nobody_should_type(
    project: Project, used: Site, untouched: dict[str, str], playbook: str, answers: dict[str, str], field: str
) -> None:
    job = project.job(used, playbook, {**(API if playbook == "vip" else {}), **answers})
    assert job.status == 2, job.output
    assert field in job.said, job.output
    assert not any(job.changed.values())
    assert used.traces() == untouched
