# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The argument specifications of a VIP and its backends, and running a module with them."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, Callable, Optional

from ansible.module_utils.basic import AnsibleModule

from ..common.errors import DsrError
from . import model
from .health_check import TYPES


def backend_arguments() -> dict[str, Any]:
    return {
        "address": {"type": "str", "required": True},
        "name": {"type": "str"},
        "mac": {"type": "str"},
        "weight": {"type": "int", "default": 1},
        "state": {"type": "str", "choices": list(model.BACKEND_STATES), "default": "up"},
        "backup": {"type": "bool", "default": False},
    }


def health_check_arguments() -> dict[str, Any]:
    """No defaults: an option that has no effect on a type may not be given with it."""
    return {
        "type": {"type": "str", "required": True, "choices": list(TYPES)},
        "port": {"type": "int"},
        "path": {"type": "str"},
        "host": {"type": "str"},
        "sni": {"type": "str"},
        "verify_tls": {"type": "bool"},
        "status": {"type": "list", "elements": "str"},
        "body": {"type": "str"},
        "expect": {"type": "str"},
        "query": {"type": "str"},
        "command": {"type": "list", "elements": "str"},
        "interval": {"type": "float"},
        "timeout": {"type": "float"},
        "rise": {"type": "int"},
        "fall": {"type": "int"},
        "jitter": {"type": "float"},
        "min_healthy": {"type": "raw"},
        "via": {"type": "str", "choices": ["vip", "backend"]},
    }


def vip_arguments() -> dict[str, Any]:
    """All options of a VIP but its name and address, which modules require differently."""
    return {
        "interface": {"type": "str"},
        "backend_interface": {"type": "str"},
        "protocol": {"type": "str", "choices": list(model.PROTOCOLS), "default": "tcp"},
        "ports": {"type": "list", "elements": "str"},
        "scheduler": {"type": "str", "choices": list(model.SCHEDULERS), "default": "source_hash"},
        "backends": {"type": "list", "elements": "dict", "options": backend_arguments()},
        "persistence_timeout": {"type": "int", "default": 0},
        "flow_table": {
            "type": "dict",
            "options": {
                # No defaults: what is not given is not meant, and some have no effect with some protocols.
                "size": {"type": "int"},
                "timeouts": {"type": "dict", "options": {key: {"type": "int"} for key in model.TIMEOUT_OPTIONS}},
            },
        },
        "require_mac": {"type": "bool", "default": True},
        "on_empty": {"type": "str", "choices": list(model.ON_EMPTY), "default": "drop"},
        "allow_sources": {"type": "list", "elements": "str"},
        "deny_sources": {"type": "list", "elements": "str"},
        "new_flows_per_source": {"type": "str"},
        "health_check": {"type": "dict", "options": health_check_arguments()},
    }


class VipModule(AnsibleModule):  # type: ignore[misc]  # Ansible has no types of its own
    """An AnsibleModule whose complaints about a VIP name the place in the user's data.

    Ansible's own check of suboptions says "found in vips -> backends"; the model's check of the same
    data says "vips[2].backends[0].weight". So when Ansible refuses the arguments, the model is asked
    first, and Ansible's message is used for what the model has nothing against. The model sees the
    arguments as they were given, since Ansible drops from lists what it refuses.
    """

    def __init__(self, check: Optional[Callable[[dict[str, Any]], Any]] = None, **arguments: Any) -> None:
        self._check = check
        self._ready = False
        try:
            super().__init__(supports_check_mode=True, **arguments)
        except (TypeError, AttributeError):
            # Ansible looks for suboptions in what it has just found to be no dictionary.
            complaint = self._complaint()
            if not complaint:
                raise
            super().fail_json(complaint)
        self._ready = True

    def _load_params(self) -> None:
        super()._load_params()
        self._given = deepcopy(self.params)

    def fail_json(self, msg: str, **kwargs: Any) -> Any:
        return super().fail_json(msg if self._ready else self._complaint() or msg, **kwargs)

    def _complaint(self) -> str:
        """What is wrong with the arguments in this collection's words, '' when they don't tell."""
        # First, as an option that is missing may be meant by one that is written wrongly.
        for name in sorted(set(self.params) - set(self.argument_spec)):
            return f"{name}: unknown option; there are: {', '.join(sorted(self.argument_spec))}"
        try:
            if self._check is not None:
                self._check(self._given)
        except DsrError as error:
            return str(error)
        except Exception:  # pylint: disable=broad-except
            pass  # the model stumbled over what Ansible refuses; Ansible's message stands
        return ""


def vip_options(params: dict[str, Any]) -> dict[str, Any]:
    """Those of a module's parameters that describe its one VIP."""
    return {key: params[key] for key in model.VIP_OPTIONS if key in params}


def answer(module: AnsibleModule, result: Any, **values: Any) -> None:
    """End the module with an engine's result."""
    for warning in result.warnings:
        module.warn(warning)
    module.exit_json(
        changed=result.changed,
        ruleset=result.ruleset,
        commands=result.commands,
        diff=result.diff,
        **values,
    )
