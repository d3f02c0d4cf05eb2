# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The load balancer of a test with its agent."""

from __future__ import annotations

import ipaddress
import json
import re
import signal
import time
from collections import Counter
from typing import Any, Callable

from balancer import ADDRESSES, HTTP, LINES, Balancer
from lab.modules import ModuleRunner
from lab.running import Running

_START = (
    "import sys; from ansible_collections.dsr.layer2.plugins.module_utils.agent.agent import main; "
    "sys.exit(main(lambda text: print(text, flush=True)))"
)
QUICK = {"type": "http", "interval": 0.4, "timeout": 0.3, "rise": 2, "fall": 2}
NEVER = {"type": "tcp", "port": 9}


_REFUSED = """\
table inet dead {{
    chain input {{
        type filter hook input priority 0;
        tcp dport {port} {what}
    }}
}}
"""


def break_service(agent: AgentHost, host: str, what: str = "reject with tcp reset", port: int = HTTP) -> None:
    """What clients meet when a service is dead, or hangs, on a host; its other services go on."""
    agent.balancer.lab.run(host, ["nft", "-f", "-"], input=_REFUSED.format(port=port, what=what))


def mend_service(agent: AgentHost, host: str) -> None:
    agent.balancer.lab.run(host, ["nft", "delete", "table", "inet", "dead"])


class AgentHost:
    """The load balancer with its agent."""

    def __init__(self, balancer: Balancer, runner: ModuleRunner) -> None:
        self.balancer = balancer
        self._runner = runner
        self.running: Running | None = None

    def start(self, said: str = "began; VIPs: 1, checked: 1, checks: 3") -> None:
        environment = [f"PYTHONPATH={self._runner.folder}", "PYTHONDONTWRITEBYTECODE=1"]
        self.running = self.balancer.lab.popen("lb", ["/usr/bin/env", *environment, "/usr/bin/python3", "-c", _START])
        self.running.wait_for(said)

    def kill(self) -> None:
        """As an accident does."""
        assert self.running is not None
        self.running.signal(signal.SIGKILL)
        self.until(lambda: self.running is None or not self.running.running)

    def serve(self, check: dict[str, Any], scheduler: str = "connection_hash", **options: Any) -> dict[str, Any]:
        return self.balancer.serve(scheduler, ports=(HTTP, LINES), health_check={"port": HTTP, **check}, **options)

    def again(self) -> dict[str, Any]:
        """The same run of the module once more."""
        vips = json.loads(self.balancer.lab.read("lb", "/etc/nft-dsr/vips.json"))["vips"]
        wanted = [{key: value for key, value in vip.items() if key != "resolved"} for vip in vips]
        result: dict[str, Any] = self.balancer.module.ok(
            "lb", "nft_dsr_vips", {"vips": wanted, "purge": True}, diff=True
        )
        return result

    def healthy(self) -> dict[str, bool]:
        return {backend["name"]: backend["healthy"] for backend in self.balancer.info()["backends"]}

    def printed(self) -> str:
        return self.running.printed() if self.running else ""

    def until(self, wanted: Callable[[], bool], seconds: float = 10.0) -> float:
        """Wait for something; how long it took."""
        begun = time.monotonic()
        while not wanted():
            if time.monotonic() - begun > seconds:
                raise AssertionError(f"it did not come about; the agent said: {self.printed()}")
            time.sleep(0.05)
        return time.monotonic() - begun

    def break_service(self, host: str) -> None:
        break_service(self, host)

    def mend_service(self, host: str) -> None:
        mend_service(self, host)

    def flows_by_mark(self) -> dict[str, int]:
        """How many tracked flows each backend of the VIP has, as the kernel lists them."""
        listed = self.balancer.nft("-n", "list", "map", "netdev", "nft_dsr", "flows_web")
        marks = {f"0x{int(ipaddress.ip_address(address)):08x}": name for name, address in ADDRESSES.items()}
        return dict(Counter(marks[mark] for mark in re.findall(r" : (0x[0-9a-f]+)", listed) if mark in marks))
