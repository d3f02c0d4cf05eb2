# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every command that the README shows, word for word, on a clone in an empty folder."""

from __future__ import annotations

import json
import os
import re
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


def test_the_quick_start(site: Site, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    tracked = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY, capture_output=True, check=True, timeout=60,
    ).stdout.decode().split("\0")  # fmt: skip
    for name in filter(None, tracked):
        if (REPOSITORY / name).is_file():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, clone / name)
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "LANG": "C.UTF-8",
        "HOME": str(tmp_path),
        "ANSIBLE_COLLECTIONS_PATH": str(tmp_path / "collections"),
        "ANSIBLE_NOCOLOR": "true",
    }

    def run(line: str) -> str:
        done = subprocess.run(
            line.split(), cwd=clone, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, encoding="utf-8", timeout=240, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{line}\n{done.stdout}"
        return done.stdout

    for line in OTHERS[:2]:
        run(line)
    installed = tmp_path / "collections" / "ansible_collections" / "dsr" / "layer2"
    assert (installed / "playbooks" / "site.yml").is_file()
    assert not (installed / "tests").exists()
    example = json.loads(run("ansible-inventory -i inventory.yml --list"))
    assert {"dsr_load_balancers", "dsr_backends"} <= set(example)

    # The lab's hosts, and the VIP of the README's text.
    site.variables["dsr_vips"] = [{"name": "web", "address": "10.77.0.100", "ports": ["80"]}]
    site.variables["load_balancer_address_persist"] = "none"
    site.lab.inventory(clone / "inventory.yml", site.variables, site.host_variables, site.groups)
    for line in OTHERS[2:]:
        said = run(line.replace("192.0.2.", "10.77.0."))
        if line.endswith("dsr.layer2.site"):
            assert site.served()["ok"] == 20
            assert set(re.findall(r"changed=(\d+)", run(line))) == {"0"}, "the second run changes something"
        if line.endswith("dsr.layer2.status"):
            assert "10.77.0.100" in said
