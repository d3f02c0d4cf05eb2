# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Labs for the data-plane tests. All of them need root; without it they fail and say so."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Optional

import pytest

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]

from balancer import Balancer  # noqa: E402
from lab import Lab, LabError, unused_name  # noqa: E402
from lab.machines import check_machine  # noqa: E402
from lab.modules import ModuleRunner  # noqa: E402
from lab.standard import build, hold_vips, serve  # noqa: E402

_HERE = Path(__file__).resolve().parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker(pytest.mark.dataplane)


@pytest.fixture(scope="session", autouse=True)
def _machine_can_have_labs() -> None:
    try:
        check_machine()
    except LabError as error:
        pytest.fail(f"data-plane tests cannot run: {error}", pytrace=False)


@pytest.fixture(scope="session")
def module_runner(tmp_path_factory: pytest.TempPathFactory) -> ModuleRunner:
    """What runs modules on hosts; it serves all labs of the session."""
    return ModuleRunner(tmp_path_factory.mktemp("python"))


def _standard(runner: ModuleRunner) -> Iterator[Lab]:
    with Lab(unused_name(), shown=runner.shown) as lab:
        build(lab)
        hold_vips(lab)
        serve(lab)
        yield lab


@pytest.fixture(scope="module")
def lab(module_runner: ModuleRunner) -> Iterator[Lab]:
    """The standard lab, shared by the tests of a file: each undoes what it configures.

    client 10.77.0.10, lb .2, b1 to b3 .21 to .23; VIPs .100 to .102 on the backends' lo (unanswered by ARP) and on
    the LB's eth0; servers on the backends: HTTP on 80 and 8080, lines on 7000, datagrams on 5300.
    """
    yield from _standard(module_runner)


@pytest.fixture
def fresh_lab(module_runner: ModuleRunner) -> Iterator[Lab]:
    """The standard lab for one test alone."""
    yield from _standard(module_runner)


@pytest.fixture
def bare_lab(module_runner: ModuleRunner) -> Iterator[Lab]:
    """A lab without hosts, for tests that build their own."""
    with Lab(unused_name(), shown=module_runner.shown) as lab:
        yield lab


class LabModule:
    """Runs modules of this collection on hosts of the test's lab."""

    def __init__(self, runner: ModuleRunner, lab: Lab) -> None:
        self._runner = runner
        self._lab = lab

    def __call__(
        self, host: str, name: str, args: Optional[Mapping[str, Any]] = None, check: bool = False, diff: bool = False
    ) -> dict[str, Any]:
        """The result of the module, whether it failed or not."""
        return self._runner.run(self._lab, host, name, args, check=check, diff=diff)

    def ok(
        self, host: str, name: str, args: Optional[Mapping[str, Any]] = None, check: bool = False, diff: bool = False
    ) -> dict[str, Any]:
        """The result of a module that must not fail."""
        result = self(host, name, args, check, diff)
        assert not result.get("failed"), f"{name} on {host}: {result.get('msg')}\n{result.get('exception', '')}"
        return result

    def fails(
        self, host: str, name: str, args: Optional[Mapping[str, Any]] = None, check: bool = False, diff: bool = False
    ) -> str:
        """The message of a module that must fail, by an error of its own and not by a traceback."""
        result = self(host, name, args, check, diff)
        assert result.get("failed"), f"{name} on {host} did not fail: {result}"
        message = str(result["msg"])
        assert "Traceback" not in message and "Traceback" not in str(result.get("exception", "")), result
        return message


@pytest.fixture
def lab_module(request: pytest.FixtureRequest, module_runner: ModuleRunner) -> LabModule:
    """Runs modules in the lab that the test asked for: fresh_lab or bare_lab where it did, else lab."""
    chosen = next((name for name in ("fresh_lab", "bare_lab") if name in request.fixturenames), "lab")
    return LabModule(module_runner, request.getfixturevalue(chosen))


@pytest.fixture
def balancer(request: pytest.FixtureRequest, lab_module: LabModule) -> Iterator[Balancer]:
    """The load balancer of the test's lab; nothing of what it served is left afterwards."""
    chosen = "fresh_lab" if "fresh_lab" in request.fixturenames else "lab"
    lab: Lab = request.getfixturevalue(chosen)
    yield Balancer(lab, lab_module)
    lab.run("lb", ["nft", "flush", "ruleset"])
    lab.run("lb", ["rm", "-rf", "/etc/nft-dsr"])
