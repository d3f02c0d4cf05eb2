# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The machines of a scenario as its tests see them: who they are, commands and traffic inside them, their counters."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import testinfra
import yaml

ENGINE = os.environ.get("MOLECULE_DSR_ENGINE") or "podman"
INTERFACE = "eth0"
TRAFFIC = ("python3", "/opt/traffic")


class Machine:
    """One container of the lab, with what the inventory says of it."""

    def __init__(self, name: str, container: str, settings: dict[str, Any]) -> None:
        self.name = name
        self.container = container
        self.address: str = settings["lab_address"]
        self.mac: str = settings["lab_mac"]
        self.network: str = settings.get("lab_network", "")
        self.settings = settings

    def __repr__(self) -> str:
        return self.name

    @cached_property
    def host(self) -> Any:
        """testinfra's view of the machine."""
        return testinfra.get_host(f"{ENGINE}://{self.container}")

    def run(self, *argv: str, check: bool = True) -> str:
        """What a command printed; a failing one fails the test with what it said."""
        done = subprocess.run(
            self._exec(*argv), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
        )
        assert not check or done.returncode == 0, f"{self.name}: {' '.join(argv)}: {done.stdout}{done.stderr}"
        return done.stdout

    def json(self, *argv: str) -> Any:
        return json.loads(self.run(*argv))

    def addresses(self, interface: str) -> set[str]:
        """IPv4 addresses with their prefix lengths, as the kernel has them now."""
        links = self.json("ip", "-json", "-4", "address", "show", "dev", interface)
        return {f"{entry['local']}/{entry['prefixlen']}" for link in links for entry in link.get("addr_info", [])}

    def sysctl(self, name: str) -> int:
        return int(self.run("sysctl", "--values", name))

    def counter(self, name: str) -> int:
        """One of the NIC's own counters, such as tx_bytes."""
        return int(self.run("cat", f"/sys/class/net/{INTERFACE}/statistics/{name}"))

    def connect(self, address: str, port: int, *options: str) -> dict[str, Any]:
        """Short connections, and who answered them."""
        report: dict[str, Any] = json.loads(
            self.run(*TRAFFIC, "connect", address, str(port), *options).splitlines()[-1]
        )
        return report

    @contextlib.contextmanager
    def capture(self, *options: str) -> Iterator[dict[str, Any]]:
        """Count frames on the NIC during the block; the report is filled in when the block ends."""
        report: dict[str, Any] = {}
        # Not every engine tells the program that its standard input has ended, so it is ended by its id.
        program = f"echo $$; exec {shlex.join([*TRAFFIC, 'capture', INTERFACE, '--seconds', '60', *options])}"
        command = self._exec("sh", "-c", program, interactive=True)
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            identity, first = process.stdout.readline().strip(), process.stdout.readline().strip()
            assert first == "READY", f"{self.name}: the capture did not begin: {first}"
            try:
                yield report
            finally:
                self.run("kill", identity)
                last = process.stdout.read().splitlines()
        report.update(json.loads(last[-1]))

    def _exec(self, *argv: str, interactive: bool = False) -> list[str]:
        return [ENGINE, "exec", *(["--interactive"] if interactive else []), self.container, *argv]


class Scenario:
    """All machines, by their place in the inventory, and its VIPs."""

    def __init__(self, inventory: Path) -> None:
        everything = yaml.safe_load(inventory.read_text())["all"]
        name = everything["vars"]["lab_name"]
        self._groups: dict[str, list[Machine]] = {
            group: [Machine(host, f"{name}-{host}", settings) for host, settings in content["hosts"].items()]
            for group, content in everything["children"].items()
            if "hosts" in content  # or else it is another group by another name
        }
        self.vips: dict[str, dict[str, Any]] = {vip["name"]: vip for vip in everything["vars"]["dsr_vips"]}

    @classmethod
    def running(cls) -> Scenario:
        """The one that Molecule is running."""
        return cls(Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"]) / "inventory/hosts.yml")

    @property
    def lb(self) -> Machine:
        return self._groups["dsr_load_balancers"][0]

    @property
    def backends(self) -> list[Machine]:
        return self._groups["dsr_backends"]

    @property
    def client(self) -> Machine:
        return self._groups["dsr_clients"][0]

    @property
    def machines(self) -> list[Machine]:
        return [machine for group in self._groups.values() for machine in group]

    @property
    def vip_addresses(self) -> set[str]:
        """As every holder of a VIP has it, alone in its network."""
        return {f"{vip['address']}/32" for vip in self.vips.values()}
