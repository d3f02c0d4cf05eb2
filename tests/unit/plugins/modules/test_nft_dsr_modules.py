# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules of a load balancer from their arguments to their results; the load balancer is made of data."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args

from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr import arguments, model
from ansible_collections.dsr.layer2.plugins.modules import nft_dsr_drain, nft_dsr_vip, nft_dsr_vip_info, nft_dsr_vips
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.nft_dsr.hosts import (
    Host,
    backends,
    backends6,
    mac_of,
    vip,
    vip6,
)

MODULES = (nft_dsr_drain, nft_dsr_vip, nft_dsr_vip_info, nft_dsr_vips)
WEB = vip(backends=[*backends(21, name="b1"), *backends(22, name="b2")])


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """The host that the modules run on."""
    monkeypatch.setattr("os.geteuid", lambda: 0)
    made = Host(tmp_path)
    for module in MODULES:
        monkeypatch.setattr(module, "LoadBalancer", lambda: made.load_balancer)
    return made


class Caller:
    """Runs a module as Ansible does, and reads what it prints."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.warnings: list[str] = []

    def __call__(self, module: ModuleType, check: bool = False, diff: bool = False, **given: Any) -> dict[str, Any]:
        self.warnings.clear()
        given = {**given, "_ansible_check_mode": check, "_ansible_diff": diff}
        with patch_module_args(given), pytest.raises(SystemExit) as ended:
            module.main()
        result: dict[str, Any] = json.loads(self._capsys.readouterr().out)
        assert bool(result.get("failed")) is (ended.value.code != 0)
        assert "Traceback" not in str(result.get("exception", ""))
        return result

    def error(self, module: ModuleType, **given: Any) -> str:
        result = self(module, **given)
        assert result["failed"], result
        return str(result["msg"])


@pytest.fixture
def call(host: Host, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Caller:
    made = Caller(capsys)
    # In a process that knows the controller's code too, Ansible would print them.
    monkeypatch.setattr(AnsibleModule, "warn", lambda _module, text: made.warnings.append(text))
    return made


# -- results


def test_vips_of_a_load_balancer(host: Host, call: Caller) -> None:
    foreseen = call(nft_dsr_vips, check=True, vips=[WEB])
    assert host.everything() == ({}, {})
    done = call(nft_dsr_vips, vips=[WEB])
    assert done["changed"] and done["commands"] == foreseen["commands"] != []
    assert done["vips"][0]["backends"][0] == {
        "address": "10.77.0.21",
        "name": "b1",
        "mac": mac_of("10.77.0.21"),
        "weight": 1,
        "state": "up",
        "backup": False,
    }
    assert done["ruleset"].startswith("table netdev nft_dsr {")
    again = call(nft_dsr_vips, vips=[WEB])
    assert (again["changed"], again["commands"]) == (False, [])
    # What a module returns, it takes.
    assert call(nft_dsr_vips, vips=again["vips"])["commands"] == []


def test_purge(call: Caller) -> None:
    call(nft_dsr_vips, vips=[WEB])
    kept = call(nft_dsr_vips, vips=[vip("x", ports=["81"])])
    assert len(kept["vips"]) == 2
    purged = call(nft_dsr_vips, vips=[vip("x", ports=["81"])], purge=True)
    assert [item["name"] for item in purged["vips"]] == ["x"]


def test_one_vip_and_its_end(host: Host, call: Caller) -> None:
    done = call(nft_dsr_vip, **WEB)
    assert done["changed"] and done["vip"]["name"] == "web" and done["vip"]["interface"] == "eth0"
    assert not call(nft_dsr_vip, **WEB)["changed"]
    gone = call(nft_dsr_vip, name="web", state="absent")
    assert gone["changed"] and gone["vip"] == {} and gone["ruleset"] == ""
    assert not call(nft_dsr_vip, name="web", state="absent")["changed"]
    assert host.nft.tables == {}


def test_drain_and_restore(call: Caller) -> None:
    call(nft_dsr_vips, vips=[WEB])
    done = call(nft_dsr_drain, backend="b1", diff=True)
    assert done["changed"] and done["vips"] == ["web"] and "weight 1 drain" in done["diff"][0]["after"]
    assert [text.split(";")[0] for text in call.warnings] == [
        "the backend 10.77.0.21 of every VIP is drained by an operator and stays so"
    ]
    info = call(nft_dsr_vip_info)
    assert [backend["state"] for backend in info["vips"][0]["backends"]] == ["drain", "up"]
    assert not call(nft_dsr_drain, backend="10.77.0.21")["changed"]
    assert call(nft_dsr_drain, backend="b1", vip="web", state="drained")["changed"]
    assert call(nft_dsr_drain, backend="b1", state="restored")["changed"]
    assert not call(nft_dsr_drain, backend="b1", state="restored", check=True)["changed"]


def test_information(host: Host, call: Caller) -> None:
    nothing = call(nft_dsr_vip_info)
    assert (nothing["changed"], nothing["present"], nothing["vips"]) == (False, False, [])
    call(nft_dsr_vips, vips=[WEB, vip("x", ports=["81"])])
    assert [item["name"] for item in call(nft_dsr_vip_info, name="x")["vips"]] == ["x"]
    host.nft.load("flush chain netdev nft_dsr pool_web")
    info = call(nft_dsr_vip_info, check=True)
    assert info["present"] and [(item["name"], item["in_sync"]) for item in info["vips"]] == [
        ("web", False),
        ("x", True),
    ]
    assert info["vips"][0]["differences"] == ["chain pool_web: rules differ"]


def test_warnings_are_ansibles_warnings(host: Host, call: Caller) -> None:
    call(nft_dsr_vips, vips=[WEB])
    host.network.silence("10.77.0.21")
    call(nft_dsr_vip, **WEB)
    assert call.warnings == [
        "web: the backend 10.77.0.21 (b1) does not answer ARP on eth0; it keeps the MAC address 02:d5:00:00:00:15 "
        "that it had"
    ]


EVERY_OPTION = {
    **vip(
        "shop",
        interface="eth0",
        backend_interface="eth0",
        scheduler="weighted_round_robin",
        persistence_timeout=1800,
        flow_table={"size": 5000, "timeouts": {"established": 3600}},
        require_mac=False,
        on_empty="reject",
        allow_sources=["10.0.0.0/8"],
        deny_sources=["10.9.0.0/16"],
        new_flows_per_source="100/minute",
        health_check={
            "type": "https",
            "port": 8443,
            "path": "/up",
            "host": "shop.example",
            "sni": "shop.example",
            "verify_tls": True,
            "status": ["200"],
            "body": "ok",
            "interval": 1.0,
            "timeout": 0.5,
            "rise": 3,
            "fall": 2,
            "jitter": 0.2,
            "min_healthy": 0.5,
            "via": "backend",
        },
    ),
    "backends": [*backends(21, weight=3), *backends(22, backup=True)],
}
FILLED_IN = {
    **EVERY_OPTION,
    "protocol": "tcp",
    "flow_table": {"size": 5000, "timeouts": {"syn": 60, "established": 3600, "closing": 60}},
    "health_check": {**EVERY_OPTION["health_check"], "expect": None, "query": None, "command": None},
    "backends": [
        {**backend, "name": "", "mac": mac_of(backend["address"]), "weight": weight, "state": "up", "backup": backup}
        for backend, weight, backup in zip(EVERY_OPTION["backends"], (3, 1), (False, True))
    ],
}


def test_every_option_of_a_vip(call: Caller) -> None:
    assert set(EVERY_OPTION) | {"protocol"} == set(model.VIP_OPTIONS), "an option that nobody tried"
    assert call(nft_dsr_vip, **EVERY_OPTION)["vip"] == FILLED_IN
    assert not call(nft_dsr_vips, vips=[EVERY_OPTION])["changed"]
    # What a module returns, it takes (and pins the MAC addresses with it).
    assert call(nft_dsr_vip, **FILLED_IN)["commands"] == []
    assert not call(nft_dsr_vips, vips=[FILLED_IN], purge=True)["changed"]
    (info,) = call(nft_dsr_vip_info)["vips"]
    assert {key: info[key] for key in FILLED_IN if key != "backends"} == {
        key: value for key, value in FILLED_IN.items() if key != "backends"
    }
    assert [backend["backup"] for backend in info["backends"]] == [False, True]


def test_text_where_a_number_or_a_list_is_meant(call: Caller) -> None:
    """As templates and surveys give it."""
    given = {
        **vip(scheduler="round_robin"),
        "persistence_timeout": "60",
        "flow_table": {"size": "5000", "timeouts": {"syn": "5"}},
        "allow_sources": "10.0.0.0/8,192.0.2.7",
        "backends": backends(21, weight="1", backup="no"),
    }
    done = call(nft_dsr_vips, vips=[given])["vips"][0]
    assert (done["persistence_timeout"], done["flow_table"]["size"]) == (60, 5000)
    assert done["allow_sources"] == ["10.0.0.0/8", "192.0.2.7/32"] and done["backends"][0]["backup"] is False


# -- errors


@pytest.mark.parametrize(
    ("given", "error"),
    [
        # Ansible refuses these before the module sees them; the place is the model's all the same.
        (
            {"vips": [vip(), vip("b", scheduler="rr")]},
            "vips[1].scheduler: 'rr' is not known; choose one of: source_hash",
        ),
        ({"vips": [vip(protocol="icmp")]}, "vips[0].protocol: 'icmp' is not known; choose one of: tcp, udp"),
        ({"vips": [vip(schedular="x")]}, "vips[0].schedular: unknown option; there are: name, address,"),
        (
            {"vips": [vip(backends=backends(21, mak="x"))]},
            "vips[0].backends[0].mak: unknown option; there are: address,",
        ),
        ({"vips": [vip(backends=backends(21, weight="heavy"))]}, "vips[0].backends[0].weight: 'heavy' is not a whole"),
        ({"vips": [vip(backends=backends(21, state="off"))]}, "vips[0].backends[0].state: 'off' is not known; choose"),
        ({"vips": [vip(backends=[{"name": "b1"}])]}, "vips[0].backends[0].address: is missing; every backend needs"),
        ({"vips": [{"name": "web", "backends": backends(21)}]}, "vips[0].address: is missing; a VIP needs its address"),
        ({"vips": [{"address": "10.77.0.100"}]}, "vips[0].name: is missing; every VIP needs a name"),
        ({"vips": [vip(require_mac="maybe")]}, "vips[0].require_mac: 'maybe' is neither true nor false"),
        (
            {"vips": [vip(ports={"80": 1})]},
            "vips[0].ports: {'80': 1} is not a list of ports; write ['80', '8000-8100']",
        ),
        (
            {"vips": [vip6(protocol="sctp", flow_table={"timeouts": {"udp": 5}})]},
            "vips[0].flow_table.timeouts.udp: has no",
        ),
        ({"vips": [vip(flow_table={"sise": 5})]}, "vips[0].flow_table.sise: unknown option; there are: size, timeouts"),
        # Ansible stumbles over these two, and never comes to say anything.
        ({"vips": [vip(flow_table=1000)]}, "vips[0].flow_table: must be a dictionary of options, not 1000"),
        (
            {"vips": [vip(flow_table={"timeouts": 60})]},
            "vips[0].flow_table.timeouts: must be a dictionary of options, not",
        ),
        ({"vips": [vip(flow_table="big")]}, "vips[0].flow_table: must be a dictionary of options, not 'big'"),
        ({"vips": [vip(flow_table={"size": "big"})]}, "vips[0].flow_table.size: 'big' is not a whole number; use 1 to"),
        (
            {"vips": [vip(flow_table={"timeouts": {"fin": 5}})]},
            "vips[0].flow_table.timeouts.fin: unknown option; there are: syn,",
        ),
        ({"vips": [vip(persistence_timeout="long")]}, "vips[0].persistence_timeout: 'long' is not a whole number;"),
        (
            {"vips": [vip(on_empty="sorry")]},
            "vips[0].on_empty: 'sorry' is not known; choose one of: drop, reject, local",
        ),
        ({"vips": [vip(allow_sources=[])]}, "vips[0].allow_sources: the list is empty and would lock out everybody;"),
        ({"vips": [vip(deny_sources=[{}])]}, "vips[0].deny_sources[0]: "),
        (
            {"vips": [vip(new_flows_per_source="fast")]},
            "vips[0].new_flows_per_source: 'fast' is not a rate; write it as",
        ),
        ({"vips": [vip(backends=backends(21, backup="maybe"))]}, "vips[0].backends[0].backup: 'maybe' is neither true"),
        ({"vips": [vip(backends=backends(21, backup=True))]}, "vips[0].backends: all of them are backups, of nobody;"),
        (
            {"vips": [vip6(backends=backends(21))]},
            "vips[0].backends[0].address: 10.77.0.21 is IPv4 and the VIP is IPv6",
        ),
        ({"vips": [vip(protocol="any")]}, "vips[0].ports: protocol any has no ports; leave them out"),
        (
            {"vips": [vip6(backends=backends6(21, 2))]},
            "vips[0].backends[1].address: fd00:77::2 is an address of this load",
        ),
        # Ansible empties a list of what it can't convert; the message is about what the user wrote.
        ({"vips": [vip(backends=["10.77.0.21"])]}, "vips[0].backends[0]: must be a dictionary of options, not '10.77."),
        ({"vips": [vip(backends=[backends(21)])]}, "vips[0].backends[0]: must be a dictionary of options, not [{"),
        ({"vips": [vip(backends="10.77.0.21")]}, "vips[0].backends: '10.77.0.21' is not a list of backends"),
        ({"vips": [vip(backends=backends(21)[0])]}, "vips[0].backends: {'address': '10.77.0.21'} is not a list of"),
        ({"vips": [[vip()]]}, "vips[0]: must be a dictionary of options, not [{"),
        ({"vips": [vip(), None]}, "vips[1]: must be a dictionary of options, not None"),
        ({"vips": "web"}, "vips: 'web' is not a list of VIPs"),
        ({"vips": None}, "vips: is missing; list the VIPs"),
        ({}, "vips: is missing; list the VIPs"),
        # The model has nothing against the VIPs: Ansible's own words.
        ({"vips": [vip()], "purge": "maybe"}, "argument 'purge' is of type str and we were unable to convert to bool:"),
        ({"vips": [vip(scheduler="rr")], "prune": True}, "prune: unknown option; there are: purge, vips"),
        # The module sees these.
        ({"vips": [vip(), vip()]}, "vips[1].name: 'web' is the name of vips[0] already; give each its own"),
        ({"vips": [vip(ports=["80", "0"])]}, "vips[0].ports[1]: port 0 is out of range; use 1 to 65535"),
        ({"vips": [vip(ports=[[80]])]}, "vips[0].ports[0]: '[80]' is not a port; write '80' or '8000-8100'"),
        ({"vips": [vip(backends=None)]}, "vips[0].backends: is missing; list every backend of the VIP"),
        ({"vips": [vip(interface="eth9")]}, "vips[0].interface: this host has no interface 'eth9'; it has: eth0, eth1"),
    ],
)
def test_vips_that_are_wrong(host: Host, call: Caller, given: dict[str, Any], error: str) -> None:
    assert call.error(nft_dsr_vips, **given).startswith(error)
    assert host.everything() == ({}, {})


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"name": "web"}, "address: is missing; a VIP needs its address"),
        ({"name": "web", "address": "10.77.0.100"}, "backends: is missing; list every backend of the VIP"),
        ({"address": "10.77.0.100"}, "name: is missing; every VIP needs a name"),
        ({**WEB, "scheduler": "rr"}, "scheduler: 'rr' is not known; choose one of: source_hash,"),
        (
            {**WEB, "backends": backends(21, mac="00:00:00:00:00:00")},
            "backends[0].mac: the zero MAC address belongs to no",
        ),
        (
            {**WEB, "backends": backends(21, colour="red")},
            "backends[0].colour: unknown option; there are: address, name",
        ),
        ({**WEB, "backends": ["b1"]}, "backends[0]: must be a dictionary of options, not 'b1'"),
        ({**WEB, "flow_table": 1000}, "flow_table: must be a dictionary of options, not 1000"),
        ({**WEB, "flow_table": {"timeouts": [60]}}, "flow_table.timeouts: must be a dictionary of options, not [60]"),
        # A wrong name of an option is what is wrong, not the option that is missing for it.
        ({"name": "web", "adress": "10.77.0.100"}, "adress: unknown option; there are: address, allow_sources,"),
        ({"name": "web", "state": "gone"}, "value of state must be one of: present, absent, got: gone"),
        ({"name": "web", "state": "absent", "scheduler": "rr"}, "value of scheduler must be one of: source_hash,"),
        ({"name": "a b", "state": "absent"}, "name: 'a b' is not a name of a VIP; use 1 to 31"),
        ({"state": "absent"}, "missing required arguments: name"),
    ],
)
def test_one_vip_that_is_wrong(host: Host, call: Caller, given: dict[str, Any], error: str) -> None:
    assert call.error(nft_dsr_vip, **given).startswith(error)
    assert host.everything() == ({}, {})


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({}, "missing required arguments: backend"),
        ({"backend": "b1", "state": "up"}, "value of state must be one of: drained, restored, got: up"),
        ({"backend": "b1", "vips": ["web"]}, "vips: unknown option; there are: backend, state, vip"),
        ({"backend": "b9"}, "backend: 'b9' is not a backend of any VIP; there are: 10.77.0.21 (b1), 10.77.0.22 (b2)"),
        (
            {"backend": "b9", "vip": "web"},
            "backend: 'b9' is not a backend of the VIP 'web'; there are: 10.77.0.21 (b1)",
        ),
        ({"backend": "b1", "vip": "x"}, "vip: there is no VIP 'x'; there are: web"),
        ({"backend": ""}, "backend: '' is neither an address nor a name of a backend"),
    ],
)
def test_a_drain_that_is_wrong(host: Host, call: Caller, given: dict[str, Any], error: str) -> None:
    call(nft_dsr_vips, vips=[WEB])
    before = host.everything()
    assert call.error(nft_dsr_drain, **given).startswith(error)
    assert host.everything() == before


def test_information_that_is_wrong(call: Caller) -> None:
    assert call.error(nft_dsr_vip_info, name="a b").startswith("name: 'a b' is not a name of a VIP;")
    assert call.error(nft_dsr_vip_info, names=["web"]).startswith("Unsupported parameters for ")


def test_a_refused_transaction_is_an_error_with_what_the_kernel_said(host: Host, call: Caller) -> None:
    host.nft.refuse = "Could not process rule: No space left on device"
    message = call.error(nft_dsr_vips, vips=[WEB])
    assert message.startswith("nft -f - failed (exit status 1): ") and "No space left on device" in message


# -- one place for one thing


def test_modules_and_model_know_the_same_options() -> None:
    given = arguments.vip_arguments()
    assert {"name", "address", *given} == set(model.VIP_OPTIONS)
    assert set(arguments.backend_arguments()) == set(model.BACKEND_OPTIONS)
    defaults = model.parse_vip(
        {"name": "x", "address": "10.0.0.1", "backends": [{"address": "10.0.0.2"}]}, ""
    ).options()
    assert {key: spec["default"] for key, spec in given.items() if "default" in spec} == {
        key: defaults[key] for key in ("protocol", "scheduler", "persistence_timeout", "require_mac", "on_empty")
    }
    backend = {key: spec["default"] for key, spec in arguments.backend_arguments().items() if "default" in spec}
    assert backend == {key: defaults["backends"][0][key] for key in ("weight", "state", "backup")}
    flow_table = given["flow_table"]["options"]
    assert set(flow_table) == set(model.FLOW_TABLE_OPTIONS)
    timeouts = flow_table["timeouts"]["options"]
    assert set(timeouts) == set(model.TIMEOUT_OPTIONS) == {key for times in model.TIMEOUTS.values() for key in times}
    # A default would be an option that is given, and some have no effect with some protocols.
    assert not any("default" in spec for spec in (flow_table["size"], *timeouts.values()))
    for option, choices in {
        "protocol": model.PROTOCOLS,
        "scheduler": model.SCHEDULERS,
        "on_empty": model.ON_EMPTY,
    }.items():
        assert given[option]["choices"] == list(choices)


@pytest.mark.parametrize("module", [nft_dsr_vip, nft_dsr_vips])
def test_what_is_documented_is_what_is_taken(module: ModuleType) -> None:
    """Every option and suboption with its type, choices and default; and what is returned has all of them."""

    def described(options: dict[str, Any]) -> dict[str, Any]:
        return {
            name: {
                **{key: option[key] for key in ("type", "elements", "choices", "default", "required") if key in option},
                "options": described(option.get("suboptions", {})),
            }
            for name, option in options.items()
        }

    def taken(options: dict[str, Any]) -> dict[str, Any]:
        return {
            name: {
                **{key: option[key] for key in ("type", "elements", "choices", "default", "required") if key in option},
                "options": taken(option.get("options", {})),
            }
            for name, option in options.items()
        }

    documented = described(yaml.safe_load(module.DOCUMENTATION)["options"])
    if module is nft_dsr_vips:
        documented = documented["vips"]["options"]
    assert {name: option for name, option in documented.items() if name not in ("name", "address", "state")} == taken(
        arguments.vip_arguments()
    )
    returned = yaml.safe_load(module.RETURN)
    sample = returned["vip"]["sample"] if module is nft_dsr_vip else returned["vips"]["sample"][0]
    assert sorted(sample) == sorted(model.VIP_OPTIONS)
    assert sorted(sample["backends"][0]) == sorted(model.BACKEND_OPTIONS)


@pytest.mark.parametrize("module", [nft_dsr_vip, nft_dsr_vips])
def test_the_examples_are_right(module: ModuleType) -> None:
    for task in yaml.safe_load(module.EXAMPLES):
        given = next(value for key, value in task.items() if key.startswith("dsr.layer2."))
        if given.get("state") != "absent":
            model.parse_vips(given["vips"] if module is nft_dsr_vips else [given])
