# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What least connections cost the load balancer; `make bench-steering` runs it.

One VIP with three backends gets new connections at a rate, beside so many flows that are in its table already. What is
read from /proc is the processor time of the agent, of looks and recounts and of what it writes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

# Run as a script, this file's own folder comes first; what it belongs to is found from the folder above.
_HERE = Path(__file__).resolve().parent
sys.path[0] = str(_HERE.parent)
REPOSITORY = _HERE.parents[1]
sys.path.insert(1, str(REPOSITORY / ".cache" / "collections"))

from lab import Lab, LabError, unused_name  # noqa: E402
from lab.machines import check_machine  # noqa: E402
from lab.modules import ModuleRunner  # noqa: E402
from lab.standard import build, hold_vips, serve  # noqa: E402

from ansible_collections.dsr.layer2.plugins.plugin_utils import agent_archive  # noqa: E402
from benchmark.checks import processor_of  # noqa: E402

VIP, PORT = "10.77.0.100", 7000
_BACKENDS = ("10.77.0.21", "10.77.0.22", "10.77.0.23")
_WARMING = 8.0  # seconds, until flows have been counted for the first time
_PER_COMMAND = 10_000  # elements


def fill(lab: Lab, flows: int) -> None:
    """So many flows of clients that say nothing, evenly over the backends."""
    marks = [f"0x{int.from_bytes(bytes(map(int, address.split('.'))), 'big'):08x}" for address in _BACKENDS]
    for start in range(0, flows, _PER_COMMAND):
        elements = ", ".join(
            f"{0x0A000000 + number // 50000} . {1024 + number % 50000} . {PORT} timeout 900s : {marks[number % 3]}"
            for number in range(start, min(flows, start + _PER_COMMAND))
        )
        lab.run("lb", ["nft", "-f", "-"], input=f"add element netdev nft_dsr flows_web {{ {elements} }}\n", timeout=120)


def measure(runner: ModuleRunner, flows: int, rate: float, seconds: float) -> dict[str, Any]:
    """Let the agent steer for so long, and see what it took."""
    program = runner.folder / "nft-dsr.pyz"
    program.write_bytes(agent_archive.build())
    with Lab(unused_name(), shown=runner.shown) as lab:
        build(lab)
        hold_vips(lab)
        serve(lab)
        vip = {
            "name": "web",
            "address": VIP,
            "ports": [str(PORT)],
            "scheduler": "least_connections",
            "backends": [{"address": address} for address in _BACKENDS],
        }
        result = runner.run(lab, "lb", "nft_dsr_vips", {"vips": [vip], "purge": True})
        if result.get("failed"):
            raise LabError(str(result["msg"]))
        fill(lab, flows)
        with lab.popen("lb", ["/usr/bin/python3", "-I", "-u", str(program), "run"]) as agent:
            agent.wait_for("began; VIPs: 1, checked: 0, checks: 0")
            options = ["--rate", rate, "--life", 1.5, "--seconds", _WARMING + seconds + 30]
            load = lab.start_traffic("client", "come", VIP, PORT, *options) if rate else None
            time.sleep(_WARMING)
            before, begun = processor_of(lab, program), time.monotonic()
            time.sleep(seconds)
            after, took = processor_of(lab, program), time.monotonic() - begun
            came: dict[str, Any] = load.stop() if load else {"errors": {}}
    user, system, *_programs = (later - sooner for later, sooner in zip(after["times"], before["times"]))
    return {
        "share": (user + system) / took,
        "system": system / took,
        "rss": after["rss"] / 1024,
        "failed": sum(came["errors"].values()),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flows", default="0,1000,100000", help="in the table already (default: 0,1000,100000)")
    parser.add_argument("--rates", default="0,200", help="new connections in a second (default: 0,200)")
    parser.add_argument("--seconds", type=float, default=40.0, help="for each (default: 40)")
    options = parser.parse_args()
    try:
        check_machine()
        with tempfile.TemporaryDirectory() as folder:
            runner = ModuleRunner(Path(folder))
            print("| flows | new in a second | processor | of that the kernel's | memory | failed |")
            print("|---:|---:|---:|---:|---:|---:|")
            for flows in map(int, options.flows.split(",")):
                for rate in map(float, options.rates.split(",")):
                    found = measure(runner, flows, rate, options.seconds)
                    print(
                        f"| {flows:,} | {rate:g} | {found['share']:.1%} of a core | {found['system']:.1%} | "
                        f"{found['rss']:.0f} MB | {found['failed']} |",
                        flush=True,
                    )
    except LabError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
