# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Layer 2 Direct Server Return in one minute: `sudo make demo`. It ends with `sudo make demo-down`."""

from __future__ import annotations

import argparse
import fcntl
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from lab import Lab, LabError  # noqa: E402
from lab.machines import ENVIRONMENT  # noqa: E402
from lab.standard import LINE_PORT, build, serve  # noqa: E402

NAME = "demo"
FILES = ROOT / ".cache" / "demo"
INVENTORY = FILES / "inventory.yml"
CONFIGURATION = FILES / "ansible.cfg"
BACKENDS = ("b1", "b2", "b3")
WEIGHTS = {"b3": 2}
VIPS = [
    {"name": "web", "address": "10.77.0.100", "ports": ["80", str(LINE_PORT)], "scheduler": "connection_hash"},
    {"name": "api", "address": "10.77.0.101", "ports": ["8080", str(LINE_PORT)], "scheduler": "weighted_round_robin"},
]
# These hosts never boot, so there is nothing that could put addresses back.
NO_BOOT = {"backend_persist": "none", "load_balancer_address_persist": "none"}
CONNECTIONS = 300
DOWNLOADS, DOWNLOAD_SIZE = 12, 4_000_000
HELD = 30
DRAINED = "b2"

PICTURE = """
     client         lb             b1             b2             b3
     10.77.0.10     10.77.0.2      10.77.0.21     10.77.0.22     10.77.0.23
     MAC ..:0a      MAC ..:02      MAC ..:15      MAC ..:16      MAC ..:17
         |              |              |              |          weight 2
         |              |              |              |              |
    =====+==============+==============+==============+==============+=====
              one Ethernet segment, 10.77.0.0/24, a bridge

     VIPs:  web 10.77.0.100   api 10.77.0.101
            on the NIC of lb, which alone answers ARP for them, and on lo of
            b1 to b3, so that these take the packets and reply themselves

     there: client > lb > one of b1, b2, b3      lb changes only the MACs
     back:  that backend > client                lb sees nothing of it
"""


class DemoError(Exception):
    """The demo did not show what it should; the text says why."""


# -- what a person sees


def bold(text: str) -> str:
    return f"\033[1m{text}\033[0m" if sys.stdout.isatty() else text


def heading(number: int, text: str) -> None:
    print(f"\n{bold(f'{number}. {text}')}\n", flush=True)


def say(text: str = "") -> None:
    print(f"  {text}".rstrip(), flush=True)


def bars(counts: Mapping[str, int]) -> None:
    """One bar for each backend, the longest one of 40 characters."""
    full = "█" if "utf" in (sys.stdout.encoding or "").lower() else "#"
    longest = max([*counts.values(), 1])
    for backend in BACKENDS:
        count = counts.get(backend, 0)
        say(f"    {backend}  {count:4d}  {full * round(40 * count / longest)}")


def size(count: int) -> str:
    return f"{count / 1e6:8.1f} MB" if count >= 100_000 else f"{count / 1e3:8.1f} kB"


# -- what happens


def configure_ansible(collections: Path) -> None:
    """Ansible as the demo and whoever looks around use it, whatever a person has configured elsewhere."""
    settings = {
        "inventory": INVENTORY,
        "collections_path": collections,
        "home": ROOT / ".cache" / "ansible",
        "forks": 10,
    }
    lines = ["[defaults]", *(f"{key} = {value}" for key, value in settings.items())]
    CONFIGURATION.write_text("\n".join(lines) + "\n", encoding="utf-8")


def ansible(playbook: str, *arguments: str) -> None:
    """Run a playbook of the collection, show its plays as they begin, what it has to say, and its sums."""
    program = Path(sys.executable).with_name("ansible-playbook")
    command = [str(program), "-i", str(INVENTORY), f"dsr.layer2.{playbook}", *arguments]
    say(f"$ ansible-playbook -i {' '.join([str(INVENTORY.relative_to(ROOT)), *command[3:]])}")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    environment.update(ANSIBLE_CONFIG=str(CONFIGURATION), ANSIBLE_NOCOLOR="1", LC_ALL="C.UTF-8")
    begun = time.monotonic()
    log = FILES / f"{playbook}.log"
    text = ""
    with (
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as run,
        log.open("w", encoding="utf-8") as written,
    ):
        assert run.stdout is not None
        play = None
        for line in run.stdout:
            text += line
            written.write(line)
            play = re.match(r"PLAY \[(.*)\]", line) or play
            # One that skips everything is not worth a line.
            if play and line.startswith(("ok:", "changed:", "fatal:")):
                say(f"    {play[1]}")
                play = None
    if run.returncode != 0:
        raise DemoError(f"the playbook {playbook} failed:\n\n{text[-3000:]}\nAll of what it said: {log}")
    recap = re.findall(r"^\w+ +: ok=(\d+) +changed=(\d+)", text, re.MULTILINE)
    tasks, changed = (sum(int(host[column]) for host in recap) for column in (0, 1))
    say(f"{tasks} tasks on {len(recap)} host{'s'[: len(recap) - 1]}, {changed} changed something.")
    for message in messages(text):
        for number, part in enumerate(textwrap.wrap(message, 70)):
            say(f"{'  ' if number else '- '}{part}")
    say(f"({time.monotonic() - begun:.1f} s)")


def messages(text: str) -> list[str]:
    """What the tasks of a playbook had to say, from its output."""
    found = []
    for block in re.findall(r'"msg": (\[.*?\n    \]|"[^\n]*")$', text, re.MULTILINE | re.DOTALL):
        said = json.loads(block)
        found += said if isinstance(said, list) else [said]
    return found


def connections(lab: Lab, vip: Mapping[str, Any]) -> dict[str, int]:
    """Open new connections to a VIP, one after another; how many each backend answered."""
    answers = lab.traffic("client", "connect", vip["address"], vip["ports"][0], "--count", CONNECTIONS)
    if answers["failed"]:
        raise DemoError(f"{answers['failed']} connections to {vip['name']} failed: {answers['errors']}")
    spread: dict[str, int] = answers["by_host"]
    return spread


def bytes_through(lab: Lab, host: str) -> dict[str, int]:
    """What the NIC of a host has received and sent so far."""
    shown = json.loads(lab.run(host, ["ip", "-json", "-stats", "link", "show", "eth0"]).stdout)[0]["stats64"]
    return {"in": shown["rx"]["bytes"], "out": shown["tx"]["bytes"]}


def show_spread(lab: Lab) -> None:
    for vip in VIPS:
        spread = connections(lab, vip)
        say(f"{vip['name']}  {vip['address']}:{vip['ports'][0]}  {vip['scheduler']}")
        bars(spread)
        if set(spread) != set(BACKENDS):
            raise DemoError(f"{vip['name']} did not reach all backends")
    say()
    say("b3 has weight 2 (dsr_backend_weight in the inventory), so about half is its.")


def show_direct_return(lab: Lab) -> None:
    vip = VIPS[0]
    names = {lab.hosts[host].mac: host for host in lab.hosts}
    before = bytes_through(lab, "lb"), bytes_through(lab, "client")
    capture = lab.start_traffic(
        "client", "capture", "eth0", "--source", vip["address"], "--protocol", "tcp", "--direction", "in"
    )
    done = lab.traffic(
        *("client", "connect", vip["address"], vip["ports"][0]),
        *("--count", DOWNLOADS, "--path", f"/bytes/{DOWNLOAD_SIZE}", "--timeout", 10),
    )
    frames = capture.stop()
    after = bytes_through(lab, "lb"), bytes_through(lab, "client")
    if done["failed"]:
        raise DemoError(f"{done['failed']} downloads failed: {done['errors']}")
    balancer, client = ({way: new[way] - old[way] for way in old} for old, new in zip(before, after))

    say(f"{DOWNLOADS} downloads of {DOWNLOAD_SIZE / 1e6:.0f} MB from web. The client's NIC received what came from")
    say("the VIP from these MACs:")
    for mac, count in frames["by_source"].items():
        say(f"    {mac}  {names.get(mac, '?'):<3} {size(count['bytes'])}")
    say(f"    {lab.hosts['lb'].mac}  lb  {size(frames['by_source'].get(lab.hosts['lb'].mac, {'bytes': 0})['bytes'])}")
    say()
    say(f"{'':27}   received          sent")
    say(f"    the client's NIC        {size(client['in'])}  {size(client['out'])}")
    say(f"    the load balancer's NIC {size(balancer['in'])}  {size(balancer['out'])}")
    say()
    say("Through the load balancer went the requests and acknowledgements alone:")
    say(f"{100 * balancer['out'] / client['in']:.1f} % of what the client received.")
    if not set(frames["by_source"]) <= {lab.hosts[backend].mac for backend in BACKENDS}:
        raise DemoError("some replies did not come straight from a backend")
    if balancer["out"] > 0.1 * client["in"]:
        raise DemoError("the load balancer carried replies")


def show_drain(lab: Lab) -> None:
    held = [
        lab.start_traffic("client", "hold", vip["address"], LINE_PORT, "--count", HELD, "--interval", 0.1)
        for vip in VIPS
    ]
    say(f"The client holds {HELD} connections to each VIP and talks over each ten times a second.")
    ansible("drain", "-e", f"dsr_backend={DRAINED}")
    say()
    for vip in VIPS:
        spread = connections(lab, vip)
        say(f"{CONNECTIONS} new connections to {vip['name']}")
        bars(spread)
        if DRAINED in spread:
            raise DemoError(f"{DRAINED} is drained and still got new connections to {vip['name']}")
    for vip, running in zip(VIPS, held):
        talked = running.stop()
        say(
            f"The {talked['opened']} held on {vip['name']}: {talked['broken']} broken, {talked['moved']} moved, "
            f"{talked['by_host'].get(DRAINED, 0)} live on {DRAINED}"
        )
        if talked["opened"] != HELD or talked["broken"] or talked["moved"]:
            raise DemoError(f"connections to {vip['name']} did not live through the drain: {talked}")
    say()
    ansible("restore", "-e", f"dsr_backend={DRAINED}")
    say()
    for vip in VIPS:
        spread = connections(lab, vip)
        say(f"{CONNECTIONS} new connections to {vip['name']}")
        bars(spread)
        if DRAINED not in spread:
            raise DemoError(f"{DRAINED} was restored and gets no connections to {vip['name']}")


def show_around() -> None:
    def there(*commands: str) -> list[str]:
        """The commands of hosts that can be run here: what a host has is what this machine has."""
        return [command for command in commands if shutil.which(command.split()[0], path=ENVIRONMENT["PATH"])]

    say("The lab stays up. From the folder of this repository, as root:")
    say()
    say("    demo/enter lb                        a shell on a host: client, lb, b1, b2, b3")
    say("    demo/enter lb nft -t list table netdev nft_dsr")
    say("    demo/enter b1 ip address show lo")
    for command in there("curl http://10.77.0.101:8080/", "tcpdump -eni eth0 host 10.77.0.100"):
        say(f"    demo/enter client {command}")
    say()
    say(f"    export ANSIBLE_CONFIG={CONFIGURATION.relative_to(ROOT)}")
    say("    .venv/bin/ansible-playbook dsr.layer2.verify")
    say("    .venv/bin/ansible-playbook dsr.layer2.status")
    say("    .venv/bin/ansible-playbook dsr.layer2.site --check --diff")
    say()
    say("    make demo-down                       end it")


def show_vips() -> None:
    """The variable, as the inventory has it."""
    lines = INVENTORY.read_text(encoding="utf-8").splitlines()
    first = lines.index("    dsr_vips:")
    for line in itertools.takewhile(lambda line: line.startswith("     ") or "dsr_vips" in line, lines[first:]):
        say(line)
    say()


@contextmanager
def alone() -> Iterator[None]:
    """Two demos at a time would take each other's lab down."""
    FILES.mkdir(parents=True, exist_ok=True)
    with (FILES / "lock").open("w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DemoError("the demo is running already, somewhere else") from None
        yield


@contextmanager
def raised() -> Iterator[Lab]:
    """The lab of the demo, anew. It stays up, unless something goes wrong."""
    if Lab.remove(NAME):
        say("(The lab of an earlier demo was taken down.)\n")
    lab = Lab(NAME, linger=True)
    try:
        yield build(lab)
    except BaseException:
        lab.down()
        raise


def run(collections: Path) -> None:
    begun = time.monotonic()
    if shutil.which("nft", path="/usr/sbin:/usr/bin:/sbin:/bin") is None:
        raise LabError("the demo needs nft; install the package nftables")
    heading(1, "The lab: five hosts in namespaces of this machine")
    with alone(), raised() as lab:
        serve(lab, background=True)
        lab.inventory(
            INVENTORY,
            variables={**NO_BOOT, "dsr_vips": VIPS},
            host_variables={host: {"dsr_backend_weight": weight} for host, weight in WEIGHTS.items()},
        )
        print(PICTURE.strip("\n"))
        say()
        say(f"Up in {time.monotonic() - begun:.1f} s. The backends serve HTTP; nothing else is configured yet.")
        heading(2, "One inventory variable, dsr_vips, configures both ends")
        configure_ansible(collections)
        show_vips()
        # Its last part, dsr.layer2.verify, would prove what the next steps show, and take half as long again.
        ansible("site", "-e", "dsr_verify=false")
        heading(3, f"Where {CONNECTIONS} connections to each VIP go")
        show_spread(lab)
        heading(4, "Replies come straight from the backends")
        show_direct_return(lab)
        heading(5, f"{DRAINED} is drained: no new connections, and those it has live on")
        show_drain(lab)
        heading(6, f"Done in {time.monotonic() - begun:.0f} s")
        show_around()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--down", action="store_true", help="end the lab of the demo")
    parser.add_argument(
        "--collections",
        type=Path,
        default=ROOT / ".cache" / "collections",
        metavar="FOLDER",
        help="where the collection is installed; default: this working tree",
    )
    arguments = parser.parse_args()
    if not (arguments.collections / "ansible_collections" / "dsr" / "layer2" / "playbooks").is_dir():
        parser.error(f"--collections: no dsr.layer2 is installed in {arguments.collections}")
    if os.geteuid() != 0:
        print("The demo needs root, to make network namespaces: sudo make demo", file=sys.stderr)
        return 1
    try:
        if arguments.down:
            print("The lab is down." if Lab.remove(NAME) else "There was no lab.")
        else:
            run(arguments.collections.resolve())
    except (DemoError, LabError) as error:
        print(f"\ndemo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndemo: stopped, and the lab is down", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
