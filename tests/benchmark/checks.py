# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What health checks cost the load balancer; `make bench-checks` runs it.

One VIP with many backends, each with a MAC address and a network namespace of its own, is checked through the VIP by
the program that the role installs. What is read from /proc is the processor time of that program and of the programs
that it ran, and its memory; how many checks came, and how late, is what the backends noted themselves. There a check
that failed is seen as well: the next one follows it sooner than any other.

The backends are on the same machine, so a part of the network's work is done in the program's name: what another host
does when a packet comes in is counted too.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
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
from lab.running import Running  # noqa: E402

from ansible_collections.dsr.layer2.plugins.plugin_utils import agent_archive  # noqa: E402

VIP, PORT = "10.77.0.253", 80
_FIRST, _MOST = 3, 240
_WARMING = 3.0  # seconds
_LATE = 0.1  # seconds, as the agent has it
_SOONER = 0.8  # of the interval, as there is no jitter
# What /proc says of the program whose arguments these are
_LOOK = """\
import json, os, sys
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        words = open(f"/proc/{pid}/cmdline").read().split("\\0")
        if sys.argv[1] in words and "run" in words and "python" in words[0]:
            stat = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()
            status = dict(line.split(":", 1) for line in open(f"/proc/{pid}/status") if ":" in line)
            times = [int(ticks) / os.sysconf("SC_CLK_TCK") for ticks in stat[11:15]]
            print(json.dumps({"times": times, "rss": int(status["VmRSS"].split()[0])}))
    except OSError:
        pass
"""


@contextmanager
def site(runner: ModuleRunner, backends: int) -> Iterator[tuple[Lab, Running, list[str]]]:
    """A load balancer and a farm of backends."""
    addresses = [f"10.77.0.{number}" for number in range(_FIRST, _FIRST + backends)]
    with Lab(unused_name(), shown=runner.shown) as lab:
        lab.up()
        lab.add_host("lb", "10.77.0.2")
        lab.add_host("farm", "10.77.0.254")
        lab.ip("lb", f"address add {VIP}/32 dev eth0")
        argv = ["/usr/bin/python3", "-I", str(_HERE / "farm.py"), "eth0", VIP, str(PORT), *addresses]
        with lab.popen("farm", argv) as farm:
            farm.wait_for("READY", 120)
            yield lab, farm, addresses


def measure(runner: ModuleRunner, kind: str, backends: int, interval: float, seconds: float) -> dict[str, Any]:
    """Let the agent check for so long, and see what it took."""
    program = runner.folder / "nft-dsr.pyz"
    program.write_bytes(agent_archive.build())
    with site(runner, backends) as (lab, farm, addresses):
        vip = {
            "name": "web",
            "address": VIP,
            "ports": [str(PORT)],
            "scheduler": "connection_hash",
            "backends": [{"address": address} for address in addresses],
            "health_check": {"type": kind, "interval": interval, "timeout": interval / 2, "fall": 2, "jitter": 0},
        }
        result = runner.run(lab, "lb", "nft_dsr_vips", {"vips": [vip], "purge": True})
        if result.get("failed"):
            raise LabError(str(result["msg"]))
        argv = ["/usr/bin/python3", "-I", "-u", str(program), "run"]
        with lab.popen("lb", argv) as agent:
            agent.wait_for(f"began; VIPs: 1, checked: 1, checks: {backends}")
            time.sleep(_WARMING)
            assert farm.process.stdin is not None
            farm.process.stdin.write(b"\n")
            farm.process.stdin.flush()
            before, begun = processor_of(lab, program), time.monotonic()
            time.sleep(seconds)
            after, took = processor_of(lab, program), time.monotonic() - begun
            noted = farm.stop()
            said = agent.printed().splitlines()
    user, system, *_programs = (later - sooner for later, sooner in zip(after["times"], before["times"]))
    own = user + system
    return {
        "checks": sum(row["checks"] for row in noted),
        "seconds": took,
        "user": user / took,
        "system": system / took,
        "programs": sum(after["times"][2:]) - sum(before["times"][2:]),
        "share": own / took,
        "rss": after["rss"] / 1024,
        "fewest": min(row["checks"] for row in noted),
        "late": sum(row["longest_gap"] > interval + _LATE for row in noted),
        "longest_gap": max(row["longest_gap"] for row in noted),
        "failures": sum(row["shortest_gap"] < interval * _SOONER for row in noted),
        "said": [line for line in said if "healthy" in line],
    }


def processor_of(lab: Lab, program: Path) -> dict[str, Any]:
    """The processor times of the agent that runs there, and its memory in KiB."""
    found: dict[str, Any] = lab.run("lb", ["/usr/bin/python3", "-I", "-c", _LOOK, str(program)]).json()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backends", type=int, default=200, help=f"how many, {_MOST} at most (default: 200)")
    parser.add_argument("--interval", type=float, default=1.0, help="of each check (default: 1)")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each type (default: 60)")
    parser.add_argument("--types", default="tcp,http", help="(default: tcp,http)")
    options = parser.parse_args()
    if not 1 <= options.backends <= _MOST:
        parser.error(f"--backends: from 1 to {_MOST}")
    try:
        check_machine()
        with tempfile.TemporaryDirectory() as folder:
            runner = ModuleRunner(Path(folder))
            print("| type | checks/s | processor | of that the kernel's | memory | longest gap | late | failures |")
            print("|---|---:|---:|---:|---:|---:|---:|---:|")
            for kind in options.types.split(","):
                found = measure(runner, kind, options.backends, options.interval, options.seconds)
                print(
                    f"| `{kind}` | {found['checks'] / found['seconds']:.0f} | {found['share']:.1%} of a core | "
                    f"{found['system']:.1%} | "
                    f"{found['rss']:.0f} MB | {found['longest_gap']:.2f} s | {found['late']} | {found['failures']} |",
                    flush=True,
                )
                for line in found["said"]:
                    print(line, file=sys.stderr)
    except LabError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
