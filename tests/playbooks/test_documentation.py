# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every command that the README and the guides show, word for word, on a clone in an empty folder."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import Site

REPOSITORY = Path(__file__).resolve().parents[2]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```shell\n(.*?)```", README, re.DOTALL) for line in block.splitlines()]
MAKE = [line for line in COMMANDS if line.startswith("make ")]
OTHERS = [line for line in COMMANDS if line not in MAKE]


def test_the_readme_shows_what_is_tested_here() -> None:
    assert MAKE == ["make demo", "make test"]
    assert [line.split()[0] for line in OTHERS[:2]] == ["ansible-galaxy", "cp"]
    assert all(line.startswith("ansible-playbook -i inventory.yml dsr.layer2.") for line in OTHERS[2:])
    shown = set(re.findall(r"`dsr\.layer2\.(\w+)` \|", README))
    playbooks = {path.stem for path in (REPOSITORY / "playbooks").glob("*.yml")} - {"inventory.example"}
    assert shown == playbooks == set(re.findall(r"dsr\.layer2\.(\w+)", "\n".join(OTHERS)))
    modules = {path.stem for path in (REPOSITORY / "plugins" / "modules").glob("*.py")} - {"__init__"}
    assert modules <= set(re.findall(r"^\| `(\w+)` \|", README, re.MULTILINE))


@pytest.mark.parametrize("line", [*MAKE, "make help", "make demo-down"])
def test_make_knows_the_target(line: str) -> None:
    done = subprocess.run([*line.split(), "--dry-run"], cwd=REPOSITORY, capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


def test_links_lead_somewhere() -> None:
    for page in (REPOSITORY / "README.md", *(REPOSITORY / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


class Clone:
    """A clone of the repository, with commands that are run in it as a person does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "clone"
        tracked = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=REPOSITORY, capture_output=True, check=True, timeout=60,
        ).stdout.decode().split("\0")  # fmt: skip
        for name in filter(None, tracked):
            if (REPOSITORY / name).is_file():
                (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(REPOSITORY / name, self.folder / name)
        self.collections = folder / "collections"
        self._environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "LANG": "C.UTF-8",
            "HOME": str(folder),
            "ANSIBLE_COLLECTIONS_PATH": str(self.collections),
            "ANSIBLE_NOCOLOR": "true",
        }

    def has_tasks(self) -> None:
        """What a person would have written for rolling work."""
        (self.folder / "upgrade.yml").write_text("- name: Upgrade\n  ansible.builtin.ping:\n", encoding="utf-8")

    def run(self, line: str) -> str:
        done = subprocess.run(
            shlex.split(line), cwd=self.folder, env=self._environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, encoding="utf-8", timeout=240, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{line}\n{done.stdout}"
        return done.stdout


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


def test_the_quick_start(site: Site, clone: Clone) -> None:
    run = clone.run
    for line in OTHERS[:2]:
        run(line)
    installed = clone.collections / "ansible_collections" / "dsr" / "layer2"
    assert (installed / "playbooks" / "site.yml").is_file()
    assert not (installed / "tests").exists()
    example = json.loads(run("ansible-inventory -i inventory.yml --list"))
    assert {"dsr_load_balancers", "dsr_backends"} <= set(example)

    # The lab's hosts, and the VIP of the README's text.
    site.variables["dsr_vips"] = [{"name": "web", "address": "10.77.0.100", "ports": ["80"]}]
    site.variables["load_balancer_address_persist"] = "none"
    site.lab.inventory(clone.folder / "inventory.yml", site.variables, site.host_variables, site.groups)
    clone.has_tasks()
    for line in OTHERS[2:]:
        said = run(line.replace("192.0.2.", "10.77.0."))
        if line.endswith("dsr.layer2.site"):
            assert site.served()["ok"] == 20
            assert set(re.findall(r"changed=(\d+)", run(line))) == {"0"}, "the second run changes something"
        if line.endswith("dsr.layer2.status"):
            assert "10.77.0.100" in said


def shown(page: str) -> list[tuple[str, str]]:
    """The commands of a guide in their order, each with what is said of it."""
    text = (REPOSITORY / "docs" / f"{page}.md").read_text(encoding="utf-8")
    lines = [line for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    split = [line[2:].partition("  #") for line in lines if line.startswith("$ ")]
    return [(command.strip(), said) for command, _sign, said in split]


def where(command: str, said: str) -> str:
    """The host on which a guide's command is run."""
    for text, host in (("on the client", "client"), ("on a backend", "b1"), ("the load balancer", "lb")):
        if text in said:
            return host
    assert command.split()[0] in ("nft-dsr", "journalctl"), f"the guide does not say where: {command}"
    return "lb"


def test_the_guides(site: Site, clone: Clone) -> None:
    """The names and addresses are the pages' own, but for the network. What they print is held by the unit tests."""
    backends = [{"address": f"10.77.0.2{number}", "name": f"web{number}"} for number in (1, 2, 3)]
    web = {
        "name": "web",
        "address": "10.77.0.100",
        "ports": ["80"],
        "health_check": {"type": "tcp"},
        "backends": backends,
    }
    site.variables.update(dsr_vips=[web], load_balancer_agent=True, load_balancer_address_persist="none")
    site.lab.ip("b1", "route add default via 10.77.0.10")
    site.lab.inventory(clone.folder / "inventory.yml", site.variables, site.host_variables, site.groups)
    clone.run("ansible-galaxy collection install .")
    clone.has_tasks()
    ran = set()

    def configured() -> None:
        clone.run("ansible-playbook -i inventory.yml dsr.layer2.site -e dsr_verify=false")

    configured()
    with site.lab.popen("lb", ["/usr/local/lib/nft-dsr/nft-dsr.pyz", "run"]) as agent:
        agent.wait_for("began; VIPs: 1, checked: 1, checks: 3")
        for command, said in [*shown("operate"), *shown("troubleshooting"), *shown("health_checks")]:
            line = re.sub(r"\bb1$", "web1", command.replace("192.0.2.", "10.77.0.")).replace(" lb1 ", " lb ")
            line = line.replace("/srv/www", str(clone.folder))
            ran.add(line.split()[0])
            if line.startswith("ansible"):
                clone.run(line)
                if line.endswith("dsr.layer2.remove"):
                    configured()
                continue
            words = shlex.split(line)
            if "--watch" in words:
                with site.lab.popen("lb", words) as watching:
                    watching.wait_for("")  # below the first look
            elif words[0] == "tcpdump":
                with site.lab.popen(where(command, said), [*words, "-c", "4"]) as watching:
                    for _attempt in range(100):
                        if not watching.running:
                            break
                        site.served(count=1)
                    assert watching.finish().stdout.count(" > 10.77.0.100.80: ") >= 2
            else:
                site.lab.run(where(command, said), words)
    assert {"ansible-playbook", "nft-dsr", "tcpdump", "ping", "ip"} <= ran
