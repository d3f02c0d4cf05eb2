# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Ansible inventory of a lab: Ansible's own ssh connection, with ssh-to-lab in place of ssh."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from .errors import LabError

if TYPE_CHECKING:
    from .topology import Host

_SSH = Path(__file__).resolve().with_name("ssh-to-lab")


def groups_of(hosts: Sequence[str]) -> dict[str, list[str]]:
    """Hosts by their names: lb, lb2 ... balance, b1, b2 ... are backends, client... are clients."""
    return {
        "dsr_load_balancers": [name for name in hosts if name.startswith("lb")],
        "dsr_backends": [name for name in hosts if name.startswith("b")],
        "dsr_clients": [name for name in hosts if name.startswith("client")],
    }


def render(
    lab: str,
    hosts: Mapping[str, Host],
    variables: Optional[Mapping[str, Any]] = None,
    host_variables: Optional[Mapping[str, Mapping[str, Any]]] = None,
    groups: Optional[Mapping[str, Sequence[str]]] = None,
) -> str:
    """The inventory as YAML."""
    if not os.access(_SSH, os.X_OK):
        raise LabError(f"{_SSH} is not executable; run chmod +x on it")
    grouped = groups_of(list(hosts)) if groups is None else groups
    named = host_variables or {}
    # An empty group is left out of no test by accident: playbooks see it as empty, not as undefined.
    children = {
        group: {"hosts": {name: {"ansible_host": f"{name}.{lab}", **named.get(name, {})} for name in members}}
        for group, members in grouped.items()
    }
    connection = {
        "ansible_connection": "ansible.builtin.ssh",
        "ansible_user": "root",  # who it is already: nothing has to become root, and sudo need not be there
        "ansible_ssh_executable": str(_SSH),
        "ansible_ssh_args": "-o ControlMaster=no",
        "ansible_ssh_transfer_method": "piped",
        "ansible_pipelining": True,
        "ansible_python_interpreter": "/usr/bin/python3",
    }
    tree = {"all": {"vars": {**connection, **(variables or {})}, "children": children}}
    return "---\n" + "\n".join(_yaml(tree)) + "\n"


def _yaml(value: Any, indent: str = "") -> list[str]:
    """Lines of YAML for mappings and lists of plain values; every text is quoted, as in JSON."""
    if isinstance(value, dict) and value:
        lines = []
        for key, inner in value.items():
            deeper = _yaml(inner, indent + "  ")
            nested = isinstance(inner, (dict, list)) and inner
            lines += [f"{indent}{key}:", *deeper] if nested else [f"{indent}{key}: {deeper[0]}"]
        return lines
    if isinstance(value, list) and value:
        lines = []
        for inner in value:
            first, *rest = _yaml(inner, indent + "  ")
            lines += [f"{indent}- {first.lstrip()}", *rest]
        return lines
    return [json.dumps(value)]
