# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shells of the address modules: what they take, what they hand on, what they make of results and errors."""

from __future__ import annotations

import ipaddress
import json
from types import ModuleType
from typing import Any

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args

from ansible_collections.dsr.layer2.plugins.module_utils.common.errors import ConfigError
from ansible_collections.dsr.layer2.plugins.module_utils.loopback import backend, info, vip_address
from ansible_collections.dsr.layer2.plugins.module_utils.loopback.holding import Outcome
from ansible_collections.dsr.layer2.plugins.module_utils.loopback.plan import AddAddress
from ansible_collections.dsr.layer2.plugins.modules import (
    dsr_backend_loopback,
    dsr_backend_loopback_info,
    dsr_vip_address,
)

VIP = "10.77.0.100"
CASES = [
    (dsr_backend_loopback, backend, {"vips": [VIP]}, "vips"),
    (dsr_vip_address, vip_address, {"addresses": [VIP], "interface": "eth0"}, "addresses"),
]
MODULES = [dsr_backend_loopback, dsr_backend_loopback_info, dsr_vip_address]


def outcome(module: ModuleType, capsys: pytest.CaptureFixture[str], arguments: dict[str, Any]) -> dict[str, Any]:
    with patch_module_args(arguments), pytest.raises(SystemExit) as ended:
        module.main()
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert bool(result.get("failed")) is (ended.value.code != 0)
    return result


@pytest.mark.parametrize(("module", "engine", "arguments", "key"), CASES)
@pytest.mark.parametrize("check", [False, True])
def test_what_was_done(
    module: ModuleType,
    engine: ModuleType,
    arguments: dict[str, Any],
    key: str,
    check: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given: list[Any] = []

    def ensure(_host: Any, options: dict[str, Any], check_mode: bool) -> Outcome:
        given.append((options, check_mode))
        engine.parse_options(options)
        return Outcome(
            steps=[AddAddress("lo", ipaddress.ip_interface(f"{VIP}/32"))],
            persist="none",
            files=["/etc/x"],
            addresses=(ipaddress.ip_address(VIP),),
            warnings=["look out"],
            message="there",
        )

    monkeypatch.setattr(engine, "ensure", ensure)
    result = outcome(module, capsys, {**arguments, "_ansible_check_mode": check})
    assert given[0][1] is check
    assert result["changed"] is True
    assert result["steps"] == [f"ip address replace {VIP}/32 dev lo"]
    assert result[key] == [VIP]
    assert (result["persist"], result["files"], result["msg"]) == ("none", ["/etc/x"], "there")
    assert result["diff"][0]["after"] == f"{VIP}/32 dev lo\n"
    documented = yaml.safe_load(module.RETURN)
    assert set(documented) | {"changed", "diff", "warnings", "invocation"} >= set(result)


@pytest.mark.parametrize(("module", "engine", "arguments", "key"), CASES)
def test_errors_are_one_message(
    module: ModuleType,
    engine: ModuleType,
    arguments: dict[str, Any],
    key: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def ensure(*_arguments: Any) -> Outcome:
        raise ConfigError(f"{key}[0]", "wrong")

    monkeypatch.setattr(engine, "ensure", ensure)
    result = outcome(module, capsys, arguments)
    assert result["msg"] == f"{key}[0]: wrong"
    assert result["failed"] is True


def test_info(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def look(_host: Any, options: dict[str, Any]) -> dict[str, Any]:
        info.parse_options(options)
        return {"problems": []}

    monkeypatch.setattr(info, "look", look)
    result = outcome(dsr_backend_loopback_info, capsys, {})
    assert (result["changed"], result["problems"]) == (False, [])


@pytest.mark.parametrize("module", MODULES)
def test_unknown_choices_are_refused(module: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    result = outcome(module, capsys, {"vips": [VIP], "addresses": [VIP], "interface": "eth0", "persist": "ifupdown"})
    assert result["failed"] is True
    assert "persist" in result["msg"] or "Unsupported parameters" in result["msg"]


@pytest.mark.parametrize("module", MODULES)
def test_documentation_is_complete(module: ModuleType) -> None:
    """Every option and every result is described; examples name the module in full and give known options."""
    documentation = yaml.safe_load(module.DOCUMENTATION)
    assert documentation["module"] == module.__name__.rpartition(".")[2]
    assert all(option["description"] for option in documentation["options"].values())
    name = f"dsr.layer2.{documentation['module']}"
    examples = [task[name] for task in yaml.safe_load(module.EXAMPLES) if name in task]
    assert examples
    assert all(set(example) <= set(documentation["options"]) for example in examples)

    def described(entries: dict[str, Any]) -> None:
        for entry in entries.values():
            assert entry["description"] and entry["returned"] and entry["type"]
            described(entry.get("contains", {}))

    described(yaml.safe_load(module.RETURN))
