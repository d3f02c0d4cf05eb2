# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The examples of the filters and of the README, run by Ansible itself: its values are of types of their own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[4]
DOCUMENTED = ("backends_of_vip", "nth_vip", "off_link", "on_link", "vip_query", "vips_in", "vips_of_host")

HEALTHY = {"address": "192.0.2.21", "name": "web1", "state": "up", "healthy": True, "cause": None, "flows": 4}
FAILING = {**HEALTHY, "address": "192.0.2.22", "name": "web2", "healthy": False, "cause": "refused", "flows": 3}
VARIABLES = {
    "ansible_python_interpreter": sys.executable,
    "dsr_vips": [
        {"name": "web", "address": "192.0.2.100", "ports": ["80"]},
        {"name": "dns", "address": "192.0.2.102", "protocol": "udp", "backends": [{"address": "192.0.2.22"}]},
        {"name": "api", "address": "192.0.2.120", "ports": ["8443"]},
    ],
    "dsr": {
        "changed": False,
        "vips": [
            {"name": "web", "in_sync": True, "backends": [HEALTHY, FAILING]},
            {"name": "dns", "in_sync": False, "backends": [HEALTHY]},
        ],
    },
}
NIC = {"device": "eth0", "ipv4": {"address": "192.0.2.2", "prefix": "24", "netmask": "255.255.255.0"}}
INVENTORY = {
    "all": {
        "vars": VARIABLES,
        "children": {
            "dsr_load_balancers": {"hosts": {"lb1": {}}},
            "dsr_backends": {
                "hosts": {
                    "web1": {"dsr_backend_address": "192.0.2.21"},
                    "web2": {"dsr_backend_address": "192.0.2.22", "dsr_backend_weight": 2},
                    "web3": {"dsr_backend_address": "198.51.100.7"},
                }
            },
        },
    }
}


def backend(address: str, name: str, weight: int = 1) -> dict[str, Any]:
    return {
        "address": address,
        "name": name,
        "mac": None,
        "weight": weight,
        "state": "up",
        "backup": False,
        "host": name,
    }


STRAY = backend("198.51.100.7", "web3")
POOL = [backend("192.0.2.21", "web1"), backend("192.0.2.22", "web2", 2), STRAY]
EXPECTED = {
    "pool": POOL,
    "servers": ["web1", "web2", "web3"],
    "third": "192.0.2.102",
    "last": "192.0.2.110",
    "stray": [STRAY],
    "apart": ["198.51.100.7"],
    "reached": True,
    "unhealthy": {"web": ["192.0.2.22"], "dns": []},
    "flows": {"web": 7, "dns": 4},
    "causes": [["web2", "refused"]],
    "differing": ["dns"],
    "moving": ["web", "dns"],
    "backend_vips": ["192.0.2.100", "192.0.2.120"],
    "affected": ["web", "api"],
}
EXPECTED_OF_README = {"stray": [STRAY], "touched": ["web", "api"], "unhealthy": EXPECTED["unhealthy"]}


def examples(name: str) -> dict[str, str]:
    documentation = yaml.safe_load((REPOSITORY / "plugins" / "filter" / f"{name}.yml").read_text(encoding="utf-8"))
    shown: dict[str, str] = yaml.safe_load(documentation["EXAMPLES"])
    return shown


def readme() -> dict[str, str]:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8").partition("### Filters")[2]
    block = re.search(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert block
    shown: dict[str, str] = yaml.safe_load(block[1])
    return shown


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what Ansible made of all examples."""
    folder = tmp_path_factory.mktemp("examples")
    shown = {key: text for name in DOCUMENTED for key, text in examples(name).items()}
    tasks = [
        {
            "vars": variables,
            "ansible.builtin.copy": {
                "dest": str(folder / f"{name}.json"),
                "mode": "0600",
                "content": "{{ dict([" + ", ".join(f"('{key}', {key})" for key in variables) + "]) | to_json }}",
            },
        }
        for name, variables in {"documentation": shown, "readme": readme()}.items()
    ]
    plays = [
        {
            "hosts": "lb1",
            "gather_facts": False,
            "tasks": [{"ansible.builtin.set_fact": {"eth0": NIC, "cacheable": True}}],
        },
        {"hosts": "web1", "gather_facts": False, "connection": "local", "tasks": tasks},
    ]
    (folder / "inventory.yml").write_text(yaml.safe_dump(INVENTORY), encoding="utf-8")
    (folder / "play.yml").write_text(yaml.safe_dump(plays, width=1000), encoding="utf-8")
    environment = {
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
        "HOME": str(folder),
        "ANSIBLE_HOME": str(folder),
        "ANSIBLE_COLLECTIONS_PATH": str(REPOSITORY / ".cache" / "collections"),
        "ANSIBLE_NOCOLOR": "true",
        "ANSIBLE_LOCALHOST_WARNING": "false",
    }
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "inventory.yml", "play.yml"]
    done = subprocess.run(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, encoding="utf-8", timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return folder


@pytest.mark.parametrize(("name", "expected"), [("documentation", EXPECTED), ("readme", EXPECTED_OF_README)])
def test_examples_give_what_they_say(run: Path, name: str, expected: dict[str, Any]) -> None:
    answers = json.loads((run / f"{name}.json").read_text(encoding="utf-8"))
    assert [entry["name"] for entry in answers.pop("backends")] == ["web1", "web2", "web3"]
    assert answers == expected


def test_no_example_hides_another() -> None:
    seen: dict[str, str] = {}
    for name in DOCUMENTED:
        for key, text in examples(name).items():
            assert seen.setdefault(key, text) == text, f"{name}: {key}"


def test_every_filter_is_documented() -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8").partition("### Filters")[2]
    assert set(DOCUMENTED) <= set(re.findall(r"`(\w+)`", text.partition("```")[0]))
