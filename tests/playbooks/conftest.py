# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Labs in which the playbooks are run for real. All of them need root; without it they fail and say so."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from lab import Lab, LabError, unused_name
from lab.machines import check_machine
from lab.standard import build, serve

_HERE = Path(__file__).resolve().parent
_REPOSITORY = _HERE.parents[1]
_RECAP = re.compile(r"^(\S+)\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", re.MULTILINE)
# All that DSR leaves on a host, for a comparison of before and after
_TRACES = """
ip -o address show | awk '{ print $2, $4 }' | sort
nft --stateless list ruleset
sysctl net.ipv4.conf.all.arp_ignore net.ipv4.conf.all.arp_announce
find /etc/nft-dsr /etc/netplan /etc/sysctl.d /etc/systemd/network /etc/systemd/system /var/lib/nft-dsr \
    -name '*dsr*' -o -path '*nft-dsr*' | sort | while read -r path; do
    echo "$path"
    [ ! -f "$path" ] || cat "$path"
done
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker(pytest.mark.dataplane)


@pytest.fixture(scope="session", autouse=True)
def _machine_can_have_labs() -> None:
    try:
        check_machine()
    except LabError as error:
        pytest.fail(f"tests of playbooks cannot run: {error}", pytrace=False)


@dataclass(frozen=True)
class Play:
    """How a run of a playbook ended."""

    status: int
    output: str

    @property
    def text(self) -> str:
        """What it said, on one line: messages are wrapped and quoted in many ways."""
        return " ".join(self.output.split())

    @property
    def changed(self) -> dict[str, int]:
        """The number of changes on each host."""
        return {host: int(changed) for host, _unused, changed, _unused, _unused in _RECAP.findall(self.output)}

    @property
    def tasks(self) -> int:
        return self.output.count("\nTASK [")


class Site:
    """A lab with an inventory, on which playbooks are run."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        self._folder = folder
        self.variables: dict[str, Any] = {
            "ansible_user": "root",
            # Nothing manages the network of these hosts.
            "backend_persist": "none",
            "dsr_vips": [{"name": "web", "address": "10.77.0.100", "ports": ["80"]}],
        }
        self.host_variables: dict[str, dict[str, Any]] = {}
        self.groups: dict[str, Sequence[str]] | None = None

    def __call__(self, playbook: str, *arguments: str, **variables: Any) -> Play:
        """Run a playbook of the collection; ``variables`` as a survey or a command line gives them."""
        inventory = self.lab.inventory(self._folder / "inventory.yml", self.variables, self.host_variables, self.groups)
        command = [str(Path(sys.executable).with_name("ansible-playbook")), f"dsr.layer2.{playbook}"]
        command += ["--inventory", str(inventory), *arguments]
        if variables:
            command += ["--extra-vars", json.dumps(variables)]
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            encoding="utf-8",
            timeout=180,
            check=False,
            cwd=self._folder,
            env={
                "PATH": os.environ["PATH"],
                "LANG": "C.UTF-8",
                "HOME": str(self._folder),
                "ANSIBLE_COLLECTIONS_PATH": str(_REPOSITORY / ".cache" / "collections"),
                "ANSIBLE_NOCOLOR": "true",
                "ANSIBLE_LOCALHOST_WARNING": "false",
            },
        )
        assert "Traceback (most recent call last)" not in done.stdout, done.stdout
        return Play(done.returncode, done.stdout)

    def ok(self, playbook: str, *arguments: str, **variables: Any) -> Play:
        """Run a playbook that must not fail."""
        play = self(playbook, *arguments, **variables)
        assert play.status == 0, play.output
        return play

    def fails(self, playbook: str, *arguments: str, **variables: Any) -> Play:
        """Run a playbook that must fail on some host."""
        play = self(playbook, *arguments, **variables)
        assert play.status == 2, play.output
        return play

    def traces(self) -> dict[str, str]:
        """What DSR has left on each host at both ends."""
        hosts = [host for host in self.lab.hosts if host != "client"]
        return {host: self.lab.run(host, ["sh", "-c", _TRACES], check=False).stdout for host in hosts}

    def addresses(self, host: str, nic: str) -> set[str]:
        """The virtual IPs that a NIC holds."""
        rows = json.loads(self.lab.run(host, ["ip", "-json", "address", "show", "dev", nic]).stdout)
        return {entry["local"] for entry in rows[0]["addr_info"] if entry["prefixlen"] == 32}

    def vips(self, host: str = "lb") -> dict[str, list[str]]:
        """The VIPs of a load balancer's configuration, each with the addresses of its backends."""
        if not self.lab.exists(host, "/etc/nft-dsr/vips.json"):
            return {}
        rows = json.loads(self.lab.read(host, "/etc/nft-dsr/vips.json"))["vips"]
        return {row["name"]: [backend["address"] for backend in row["backends"]] for row in rows}

    def served(self, address: str = "10.77.0.100", port: int = 80, count: int = 20) -> dict[str, Any]:
        """What becomes of connections of the client."""
        result: dict[str, Any] = self.lab.traffic("client", "connect", address, port, "--count", count)
        return result


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """client, lb, b1 to b3, with servers on the backends and nothing else configured."""
    with Lab(unused_name()) as lab:
        build(lab)
        serve(lab)
        yield Site(lab, tmp_path)


@pytest.fixture
def twin_site(tmp_path: Path) -> Iterator[Site]:
    """The same with two load balancers, lb and lb2; something else would own the addresses."""
    with Lab(unused_name()) as lab:
        build(lab, load_balancers=2)
        serve(lab)
        twin = Site(lab, tmp_path)
        twin.variables["load_balancer_manage_address"] = False
        yield twin
