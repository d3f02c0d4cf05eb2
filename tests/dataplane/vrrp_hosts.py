# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two load balancers with the same VIPs and a keepalived on each, as the role high_availability configures it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable

import jinja2
from balancer import HTTP, LINES, UDP, WEB, WEB6, pool
from lab import Lab
from lab.running import Running

from ansible_collections.dsr.layer2.plugins.filter.vrrp import vrrp_plan
from ansible_collections.dsr.layer2.plugins.plugin_utils.vrrp import AWAY_FILE

NAMES = ("lb", "lb2")
OWN = {"lb": "10.77.0.2", "lb2": "10.77.0.3"}
TRACKED = "10.77.0.101"
VIPS = (
    {"name": "web", "address": WEB, "scheduler": "connection_hash"},
    {"name": "web6", "address": WEB6, "scheduler": "connection_hash"},
    {"name": "turns", "address": TRACKED, "scheduler": "round_robin"},
    {"name": "udp", "address": WEB, "scheduler": "connection_hash", "protocol": "udp", "ports": [str(UDP)]},
)
CONFIG = "/etc/keepalived/nft-dsr.conf"
_ROLE = Path(__file__).resolve().parents[2] / "roles/high_availability"


def rendered(plan: Mapping[str, Any]) -> str:
    """The role's own template, as Ansible fills it in."""
    loader = jinja2.FileSystemLoader(_ROLE / "templates")
    environment = jinja2.Environment(
        loader=loader, trim_blocks=True, keep_trailing_newline=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("nft-dsr.conf.j2").render(__high_availability_plan=plan)


def until(holds: Callable[[], bool], what: str, seconds: float = 15.0) -> float:
    """How long it took until that held."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < seconds, f"not within {seconds} s: {what}"
        time.sleep(0.005)
    return time.monotonic() - began


class Pair:
    """The two, each with the rules; what holds the addresses is started by the test."""

    def __init__(self, lab: Lab, module: Any) -> None:
        self.lab = lab
        self.module = module
        self.running: dict[str, Running] = {}
        self.options: dict[str, Any] = {"spread": False, "preempt_delay": 0}
        self.priorities = {"lb": 200, "lb2": 150}
        self.vips: list[dict[str, Any]] = [dict(vip) for vip in VIPS]
        self.agent_check = ""  # a command that stands for the one that asks for the agent

    def rules(self, *names: str) -> None:
        """The VIPs' rules on these load balancers, on both unless some are named."""
        vips = [
            {
                "protocol": "tcp",
                "ports": [str(HTTP), str(LINES)],
                "backends": pool(6 if ":" in vip["address"] else 4),
                "interface": "eth0",
                **vip,
            }
            for vip in self.vips
        ]
        for name in names or NAMES:
            self.module.ok(name, "nft_dsr_vips", {"vips": vips, "purge": True})

    def plan(self, name: str) -> dict[str, Any]:
        hosts: dict[str, dict[str, Any]] = {
            one: {"dsr_interface": "eth0", "high_availability_address": OWN[one]} for one in NAMES
        }
        if not self.options["spread"]:
            for one in NAMES:
                hosts[one]["high_availability_priority"] = self.priorities[one]
        plan = vrrp_plan(self.vips, name, NAMES, hosts, {**self.options, "agent": bool(self.agent_check)})
        for check in plan["checks"]:
            if check["name"] == "dsr_agent":
                check.update(command=self.agent_check, fall=2, rise=1)
        return plan

    def configure(self, name: str) -> None:
        self.lab.write(name, CONFIG, rendered(self.plan(name)), mode=0o600)

    def start(self, name: str) -> None:
        """Run keepalived with what the role would write, found valid by keepalived itself first."""
        self.configure(name)
        self.lab.run(name, ["keepalived", "--config-test", "--use-file", CONFIG])
        files = ["--pid", "/run/dsr-keepalived.pid", "--vrrp_pid", "/run/dsr-vrrp.pid"]
        self.running[name] = self.lab.popen(
            name,
            ["keepalived", "--dont-fork", "--vrrp", "--log-console", "--no-syslog", "--use-file", CONFIG, *files],
        )

    def up(self) -> None:
        """Both run, and the first has all VIPs."""
        for name in NAMES:
            self.start(name)
        self.settle("lb")

    def reload(self, name: str) -> None:
        self.configure(name)
        self._signal(name, "HUP")

    def _signal(self, name: str, what: str) -> None:
        files = ("/run/dsr-keepalived.pid",) if what == "HUP" else ("/run/dsr-vrrp.pid", "/run/dsr-keepalived.pid")
        # All at once: the one that votes would otherwise see its parent die, and tidy up.
        self.lab.run(name, ["kill", f"-{what}", *(self.lab.read(name, file).strip() for file in files)])

    def kill(self, name: str) -> None:
        """SIGKILL: nobody is told, and no address is taken off."""
        self._signal(name, "KILL")
        until(lambda: not self.running[name].running, f"keepalived on {name} is dead")
        self.running.pop(name).close()

    def away(self, name: str, away: bool = True) -> None:
        self.lab.run(name, ["tee", AWAY_FILE], input=f"{int(away)}\n")

    def addresses(self, name: str) -> set[str]:
        links = json.loads(self.lab.run(name, ["ip", "-json", "address", "show", "dev", "eth0"]).stdout)
        return {one["local"] for one in links[0]["addr_info"]}

    def holds(self, name: str) -> bool:
        """Whether it has all VIPs."""
        return {vip["address"] for vip in self.vips} <= self.addresses(name)

    def holds_none(self, name: str) -> bool:
        return not {vip["address"] for vip in self.vips} & self.addresses(name)

    def settle(self, name: str) -> float:
        """Wait until this one has all VIPs and the other none; for how long, in seconds."""
        other = NAMES[1 - NAMES.index(name)]
        return until(lambda: self.holds(name) and self.holds_none(other), f"{name} alone has the VIPs")

    def sends(self, name: str, packets: int = 3000) -> None:
        """Wait until it has sent as many packets on."""

        def sent() -> int:
            return int(self.lab.read(name, "/sys/class/net/eth0/statistics/tx_packets"))

        before = sent()
        until(lambda: sent() >= before + packets, f"{name} sends {packets} packets on")

    def hold(self, address: str = WEB, count: int = 200, interval: float = 0.02) -> Running:
        """Connections that are kept open and busy until ``stop()``."""
        arguments = ["--count", count, "--interval", interval, "--protocol", "tcp"]
        return self.lab.start_traffic("client", "hold", address, LINES, *arguments)

    def end(self) -> None:
        for running in self.running.values():
            running.close()
