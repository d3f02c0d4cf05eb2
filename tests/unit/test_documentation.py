# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the pages show is held against the code: examples, links, pictures, names, commands and what they print."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from ansible_collections.dsr.layer2.plugins.filter import reports
from ansible_collections.dsr.layer2.plugins.module_utils.agent import cli
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.failing import Failing
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.live import Live
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.model import parse_address, parse_vips
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.agent.test_cli import Balancer, through

ROOT = Path(__file__).parents[2]
GUIDES = [ROOT / "docs" / f"{name}.md" for name in ("how_it_works", "operate", "troubleshooting")]
COMING = sorted((ROOT / "docs").glob("coming_from_*.md"))
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md", *sorted((ROOT / "roles").glob("*/README.md"))]
PICTURES = sorted((ROOT / "docs/images").glob("*.svg"))
POOL = [{"address": f"192.0.2.2{number}"} for number in (1, 2, 3)]
POOL6 = [{"address": f"2001:db8::2{number}"} for number in (1, 2, 3)]
WEB = {
    "name": "web",
    "address": "192.0.2.100",
    "ports": ["80"],
    "scheduler": "connection_hash",
    "health_check": {"type": "http", "path": "/up", "via": "backend"},
    "backends": [{**backend, "name": f"web{number}"} for number, backend in enumerate(POOL, 1)],
}
THROUGH = {**WEB, "health_check": {"type": "http", "path": "/up"}}


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def prose(page: Path) -> str:
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def values_of(value: Any, wanted: str) -> Iterator[Any]:
    """What stands anywhere in an example under this key."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == wanted:
                yield inner
            yield from values_of(inner, wanted)
    elif isinstance(value, list):
        for inner in value:
            yield from values_of(inner, wanted)


def served(vip: Mapping[str, Any]) -> dict[str, Any]:
    """With the pool of the group, where the example leaves that to it."""
    return {"backends": POOL6 if ":" in str(vip["address"]) else POOL, **vip}


# -- names that there are


def documented(source: Path) -> dict[str, Any]:
    found = re.search(r'^DOCUMENTATION = r"""\n(.*?)^"""', source.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert found, source
    options: dict[str, Any] = yaml.safe_load(found[1]).get("options", {})
    return options


def paths_of(options: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, option in options.items():
        yield f"{above}{name}", option
        yield from paths_of(option.get("suboptions", {}), f"{above}{name}.")


MODULES = {path.stem: documented(path) for path in (ROOT / "plugins/modules").glob("*.py")}
PLAYBOOKS = {path.stem for path in (ROOT / "playbooks").glob("*.yml")} - {"inventory.example"}
AWX = set(re.findall(r"\bdsr_awx_\w+", (ROOT / "awx/controller.yml").read_text(encoding="utf-8")))
GROUPS = set(yaml.safe_load((ROOT / "meta/runtime.yml").read_text(encoding="utf-8"))["action_groups"])
FILTERS = {path.stem for path in (ROOT / "plugins/filter").glob("*.yml")}
VIP = dict(paths_of(MODULES["nft_dsr_vip"]))
ROLE_OPTIONS = {
    name
    for path in (ROOT / "roles").glob("*/meta/argument_specs.yml")
    for entry in yaml.safe_load(path.read_text(encoding="utf-8"))["argument_specs"].values()
    for name in entry["options"]
}
VARIABLES = {
    name
    for folder in ("playbooks", "plugins/filter", "roles")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in (".py", ".yml")
    for name in re.findall(r"(?<![\w.])dsr_\w+", path.read_text(encoding="utf-8"))
}
# A backend's options stand in its table by themselves.
SHORT = {path.rpartition(".")[2]: option for path, option in VIP.items() if path.startswith("backends.")}


def is_there(word: str) -> bool:
    """Whether an option, with a value or without, a module or a variable has this name."""
    name, _colon, value = word.partition(": ")
    options = [option for option in (VIP.get(name), SHORT.get(name), VIP.get(f"health_check.{name}")) if option]
    if not value:
        return bool(options) or name in MODULES or name in ROLE_OPTIONS or name in VARIABLES
    kinds = [option for option in options if option.get("choices") or option.get("type") == "bool"]
    return any(value in option.get("choices", ("true", "false")) for option in kinds)


def cells(page: Path, column: int) -> list[str]:
    rows = [line.strip().strip("|").split("|") for line in prose(page).splitlines() if line.startswith("| ")]
    return [row[column] for row in rows if len(row) > column]


# -- the tests


def test_there_are_pages() -> None:
    assert all(page.is_file() for page in GUIDES) and len(COMING) == 2 and len(PICTURES) == 3
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        assert f"(docs/{page.name})" in readme, f"the README leads nowhere near {page.name}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_and_picture_is_there(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(#[^)\s]+)?\)", prose(page)):
        if "://" in target:
            continue
        there = (page.parent / target).resolve() if target else page
        assert there.exists(), target
        if anchor:
            heads = re.findall(r"^#+ (.+)$", prose(there), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
            assert anchor[1:] in slugs, f"{target}{anchor}"


@pytest.mark.parametrize("picture", PICTURES, ids=lambda path: path.name)
def test_a_picture_is_readable_everywhere_and_asks_for_nothing(picture: Path) -> None:
    text = picture.read_text(encoding="utf-8")
    tags = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(text).iter()}
    assert {"title", "rect", "text"} <= tags and not tags & {"script", "image", "foreignObject", "use", "a"}
    assert "prefers-color-scheme: dark" in text and 'class="page"' in text
    assert not re.search(r"\bhref|@import|url\((?!#)|\son\w+=", text)
    assert any(f"(images/{picture.name})" in page.read_text(encoding="utf-8") for page in GUIDES)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_example_is_valid(page: Path) -> None:
    for text in blocks(page, "ya?ml"):
        example = yaml.safe_load(text)
        for key in ("dsr_vips", "load_balancer_vips"):
            for vips in (found for found in values_of(example, key) if isinstance(found, list)):
                assert parse_vips([served(vip) for vip in vips], key)
        for name in re.findall(r"^[ -]*((?:dsr|load_balancer|backend)_\w+):", text, re.MULTILINE):
            assert name in VARIABLES | ROLE_OPTIONS | set(VIP) or name in AWX, name


def test_both_examples_of_nftlb_are_the_same_service() -> None:
    (page,) = (page for page in COMING if "nftlb" in page.name)
    (farm,) = yaml.safe_load(blocks(page, "json")[0])["farms"]
    (vip,) = yaml.safe_load(blocks(page, "yaml")[0])["dsr_vips"]
    assert (farm["name"], farm["virtual-addr"], farm["virtual-ports"]) == (
        vip["name"],
        vip["address"],
        ",".join(vip["ports"]),
    )
    assert [(one["name"], one["ip-addr"], int(one["weight"]), one["priority"] != "1") for one in farm["backends"]] == [
        (one["name"], one["address"], one.get("weight", 1), one.get("backup", False)) for one in vip["backends"]
    ]


@pytest.mark.parametrize("page", COMING, ids=name_of)
def test_what_an_option_is_called_here(page: Path) -> None:
    """In the tables of options, every name of ours is one."""
    found = 0
    for cell in cells(page, 1):
        for word in re.findall(r"`([^`]+)`", cell):
            if re.fullmatch(r"[a-z_]+(\.[a-z_]+)*(: \w+)?", word):
                assert is_there(word), word
                found += 1
    assert found > 30
    assert not is_there("wait") and not is_there("scheduler: random") and not is_there("health_check.digest")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_modules_and_playbooks_that_are_named_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    roles = {path.name for path in (ROOT / "roles").iterdir()}
    for name in re.findall(r"dsr\.layer2\.([a-z_]+)", text):
        assert name in PLAYBOOKS | FILTERS | roles | GROUPS | set(MODULES), name
    for name in re.findall(r"`((?:nft_dsr|dsr)_\w+)`", prose(page)):
        assert name in MODULES or name in VARIABLES or name in METRICS, name


METRICS = set(re.findall(r"nft_dsr_\w+", (ROOT / "docs/metrics.md").read_text(encoding="utf-8")))


def commands() -> Iterator[tuple[Path, str]]:
    for page in PAGES:
        for block in blocks(page, "(?:console|shell)"):
            for line in block.splitlines():
                if line.startswith("$ "):
                    yield page, line[2:].partition("  #")[0].strip()
        for word in re.findall(r"`((?:nft-dsr|ansible-playbook) [^`]+)`", prose(page)):
            # In a sentence the command may stand without what it is about.
            yield page, f"{word} web1" if word in ("nft-dsr drain", "nft-dsr restore") else word


@pytest.mark.parametrize(("page", "command"), [pytest.param(*pair, id=pair[1]) for pair in commands()])
def test_a_command_is_one(page: Path, command: str) -> None:
    words = shlex.split(command)
    if words[0] == "nft-dsr":
        assert isinstance(cli._parser().parse_args(words[1:]), argparse.Namespace)
    elif words[0] == "ansible-playbook":
        playbook = next(word for word in words if word.startswith("dsr.layer2."))
        assert playbook.rpartition(".")[2] in PLAYBOOKS
        for word in words[words.index(playbook) + 1 :]:
            name = re.match(r"(dsr_\w+)=", word)
            assert name is None or name[1] in VARIABLES, word


@pytest.fixture
def balancer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Balancer:
    """The load balancer of the pages, whose backend web2 is refused when it is asked in troubleshooting."""
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setenv("COLUMNS", "100")
    made = Balancer(tmp_path)
    made.network.addresses["eth0"] = ["192.0.2.2/24", "192.0.2.100/32"]
    made.set(WEB)
    return made


@pytest.mark.parametrize("page", GUIDES[1:], ids=name_of)
def test_a_command_prints_what_the_page_shows(
    page: Path, balancer: Balancer, capsys: pytest.CaptureFixture[str]
) -> None:
    compared = 0
    if page.stem == "troubleshooting":
        second = parse_address("192.0.2.22", "")
        why = Failing("connection refused", "2026-11-23T16:00:00Z")
        balancer.load_balancer.reconcile(Live({"web": frozenset({second})}, {}, {"web": {second: why}}))
        balancer.servers.refusing.add("192.0.2.22")
    with balancer.live_file.held():
        for block in blocks(page, "console"):
            for line, shown in re.findall(r"^\$ (.+)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE):
                words = shlex.split(line.partition("  #")[0])
                if words[0] != "nft-dsr" or "--watch" in words:
                    continue
                if words[1] == "verify" and "missing" in shown:
                    balancer.nft.flush()
                capsys.readouterr()
                box = balancer.box if words[1] != "check" else replace(balancer.box, load_balancer=ways(balancer))
                cli.main(words[1:], box)
                said = capsys.readouterr()
                if shown:
                    assert said.out + said.err == shown, line
                    compared += 1
    assert compared >= 3


def ways(balancer: Balancer) -> Any:
    """Its VIP with checks that go through it."""
    return through(balancer, THROUGH).load_balancer


def test_the_table_that_the_playbook_status_shows() -> None:
    shown = [block for page in GUIDES for block in blocks(page, "text") if "  backend  " in block]
    assert len(shown) == 1
    figures = [(1, 1234, 98765, 1), (2, 2468, 197530, 2), (3, 3702, 296295, 3)]
    vip = {
        **WEB,
        "protocol": "tcp",
        "in_sync": True,
        "backends": [
            {
                "address": f"192.0.2.2{number}",
                "name": f"web{number}",
                "weight": 1,
                "state": "drain" if number == 2 else "up",
                "packets": packets,
                "bytes": size,
                "flows": flows,
            }
            for number, packets, size, flows in figures
        ],
    }
    assert shown[0].splitlines() == reports.status_table([vip])


def test_how_it_works_names_chains_and_maps_that_there_are() -> None:
    golden = ROOT / "tests/unit/plugins/module_utils/nft_dsr/golden"
    kinds = {
        name.partition("_")[0]
        for path in golden.glob("*.nft")
        for name in re.findall(r"^\t(?:chain|map|set) (\S+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    texts = [GUIDES[0].read_text(encoding="utf-8"), *(path.read_text(encoding="utf-8") for path in PICTURES)]
    named = {word for text in texts for word in re.findall(r"\b([a-z]+6?)_(?:web|eth0)\b", text)}
    assert len(named) > 15 and named <= kinds, named - kinds


# -- what the journal says


def test_the_journals_messages_are_those_of_the_agent() -> None:
    """Each in the first column of the table is in the source, but for the names in it."""
    source = "\n".join(
        re.sub(r'"\s*\n\s*f?"', "", path.read_text(encoding="utf-8"))
        for path in (ROOT / "plugins/module_utils").rglob("*.py")
    )
    page = GUIDES[2].read_text(encoding="utf-8")
    table = page[page.index("## Messages") :]
    said = re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)
    assert len(said) > 10
    for message in said:
        for part in message.split("..."):
            assert part.strip() in source, part
