# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write docs/reference from the documentation in the code: .venv/bin/python tests/tools/document_reference.py

A page for each module, role and filter, as Markdown that a repository's browser shows. What ansible-doc says is the
source; antsibull-docs-parser reads its markup.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional, Union

from antsibull_docs_parser import dom
from antsibull_docs_parser.format import Formatter, LinkProvider, format_paragraphs
from antsibull_docs_parser.parser import Context, parse

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "reference"
COLLECTION = "dsr.layer2"
_TITLES = {"module": "Modules", "role": "Roles", "filter": "Filters"}
_NOTE = (
    "<!-- Written from the documentation in the code by tests/tools/document_reference.py: change it there. -->\n"
    "<!-- markdownlint-disable -->"
)


# --- what there is ---------------------------------------------------------------------------------------------


def names() -> dict[str, list[str]]:
    """By type of plugin, the short names, sorted."""
    return {
        "module": sorted(path.stem for path in (ROOT / "plugins/modules").glob("*.py")),
        "role": sorted(path.parent.parent.name for path in (ROOT / "roles").glob("*/meta/argument_specs.yml")),
        "filter": sorted(path.stem for path in (ROOT / "plugins/filter").glob("*.yml")),
    }


def read() -> dict[str, dict[str, Any]]:
    """By type and short name, what ansible-doc knows. Raises subprocess.CalledProcessError when it fails."""
    program = Path(sys.executable).with_name("ansible-doc")
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".cache" / "collections"),
        "ANSIBLE_NOCOLOR": "1",
    }
    found: dict[str, dict[str, Any]] = {}
    for kind, those in names().items():
        command = [str(program), "--type", kind, "--json", *(f"{COLLECTION}.{name}" for name in those)]
        done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
        found[kind] = {name.rpartition(".")[2]: entry for name, entry in json.loads(done.stdout).items()}
        assert sorted(found[kind]) == those, "ansible-doc left some out"
    return found


# --- markup ------------------------------------------------------------------------------------------------------


class _Links(LinkProvider):
    def plugin_link(self, plugin: dom.PluginIdentifier) -> Optional[str]:
        own = plugin.fqcn.startswith(f"{COLLECTION}.")
        return file_name(plugin.type, plugin.fqcn.rpartition(".")[2]) if own and plugin.type in _TITLES else None

    def plugin_option_like_link(
        self,
        plugin: dom.PluginIdentifier,
        entrypoint: Optional[str],
        what: str,
        name: list[str],
        current_plugin: bool,
    ) -> Optional[str]:
        return self.plugin_link(plugin)


class _Markdown(Formatter):
    def format_error(self, part: dom.ErrorPart) -> str:
        raise ValueError(part.message)

    def format_bold(self, part: dom.BoldPart) -> str:
        return f"**{_text(part.text)}**"

    def format_code(self, part: dom.CodePart) -> str:
        return _code(part.text)

    def format_horizontal_line(self, part: dom.HorizontalLinePart) -> str:
        return "<hr>"

    def format_italic(self, part: dom.ItalicPart) -> str:
        return f"*{_text(part.text)}*"

    def format_link(self, part: dom.LinkPart) -> str:
        return f"[{_text(part.text)}]({part.url})"

    def format_module(self, part: dom.ModulePart, url: Optional[str]) -> str:
        return _linked(part.fqcn, url)

    def format_rst_ref(self, part: dom.RSTRefPart) -> str:
        return _text(part.text)

    def format_url(self, part: dom.URLPart) -> str:
        return f"<{part.url}>"

    def format_text(self, part: dom.TextPart) -> str:
        return _text(part.text)

    def format_env_variable(self, part: dom.EnvVariablePart) -> str:
        return _code(part.name)

    def format_option_name(self, part: dom.OptionNamePart, url: Optional[str]) -> str:
        return _named(part, url)

    def format_option_value(self, part: dom.OptionValuePart) -> str:
        return _code(part.value)

    def format_plugin(self, part: dom.PluginPart, url: Optional[str]) -> str:
        return _linked(part.plugin.fqcn, url)

    def format_return_value(self, part: dom.ReturnValuePart, url: Optional[str]) -> str:
        return _named(part, url)


def _text(text: str) -> str:
    for sign in ("\\", "`", "*", "<", "["):
        text = text.replace(sign, f"\\{sign}")
    return text


def _code(text: str) -> str:
    fence = "``" if "`" in text else "`"
    return f"{fence}{text}{fence}" if text else '`""`'


def _named(part: Union[dom.OptionNamePart, dom.ReturnValuePart], url: Optional[str]) -> str:
    """An option or a return value; those of other plugins lead to their page."""
    return _linked(part.name if part.value is None else f"{part.name}: {part.value}", url)


def _linked(name: str, url: Optional[str]) -> str:
    short = _code(name)
    return f"[{short}]({url})" if url else short


def prose(text: Any, separator: str = "\n\n") -> str:
    """A description of the documentation, which is a paragraph or a list of them, as Markdown."""
    paragraphs = [text] if isinstance(text, str) else list(text or [])
    return format_paragraphs(
        parse(paragraphs, Context()), _Markdown(), link_provider=_Links(), par_sep=separator
    ).strip()


# --- pages -------------------------------------------------------------------------------------------------------


def file_name(kind: str, name: str) -> str:
    """The page of a plugin, in the folder of all of them."""
    return f"{name}.md" if kind == "module" else f"{name}_{kind}.md"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown. Cells are single lines."""
    lines = [
        head,
        ["---"] * len(head),
        *([cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def plain(value: Any) -> str:
    """A value as one writes it in YAML."""
    if isinstance(value, bool) or value is None:
        return "null" if value is None else str(value).lower()
    return value if isinstance(value, str) else json.dumps(value)


def kind_of(option: Mapping[str, Any]) -> str:
    """Such as: list of int, required."""
    kind = option.get("type", "str")
    if option.get("elements"):
        kind = f"{kind} of {option['elements']}"
    return f"{kind}, **required**" if option.get("required") else str(kind)


def about_option(option: Mapping[str, Any]) -> str:
    said = [prose(option.get("description"), "<br>")]
    choices = option.get("choices")
    if isinstance(choices, Mapping):
        said.append("<br>".join(f"{_code(plain(value))}: {prose(text, ' ')}" for value, text in choices.items()))
    elif choices:
        said.append(f"One of {', '.join(_code(plain(value)) for value in choices)}.")
    if option.get("default") is not None:
        said.append(f"Default: {_code(plain(option['default']))}")
    if option.get("version_added"):
        said.append(f"Since {option['version_added']}.")
    return "<br>".join(said)


def nested(entries: Mapping[str, Any], inner: str, above: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Options or return values with all that is in them, in order: backends, then backends.address."""
    for name, entry in entries.items():
        yield f"{above}{name}", entry
        yield from nested(entry.get(inner) or {}, inner, f"{above}{name}.")


def options(entries: Mapping[str, Any], inner: str) -> str:
    rows = [(f"`{name}`", kind_of(entry), about_option(entry)) for name, entry in nested(entries, inner)]
    return table(["option", "type", "what it is"], rows)


def returned(entries: Mapping[str, Any]) -> str:
    rows = []
    for name, entry in nested(entries, "contains"):
        said = [prose(entry.get("description"), "<br>")]
        if entry.get("returned"):
            said.append(f"Returned: {prose(entry['returned'], ' ')}")
        if entry.get("sample") is not None and not entry.get("contains"):
            said.append(f"Sample: {_code(plain(entry['sample']))}")
        rows.append((f"`{name}`", kind_of(entry), "<br>".join(said)))
    return table(["value", "type", "what it is"], rows)


def attributes(entries: Mapping[str, Any]) -> str:
    rows = []
    for name, entry in entries.items():
        support = str(entry.get("support", "full"))
        if entry.get("platforms"):
            support = f"{support}: {entry['platforms']}"
        if entry.get("membership"):
            support = f"{support}: {', '.join(entry['membership'])}"
        rows.append((f"`{name}`", support, prose(entry.get("details") or entry.get("description"), "<br>")))
    return table(["attribute", "support", "what it is"], rows)


def bullets(texts: Sequence[str]) -> str:
    return "\n".join(f"- {prose(text, ' ')}" for text in texts)


def see_also(entries: Sequence[Mapping[str, Any]]) -> str:
    lines = []
    for entry in entries:
        name = entry.get("module") or entry.get("plugin") or entry["name"]
        kind = entry.get("plugin_type", "module")
        shown = _linked(name, _Links().plugin_link(dom.PluginIdentifier(fqcn=name, type=kind)))
        text = f": {prose(entry['description'], ' ')}" if entry.get("description") else ""
        lines.append(f"- {shown}{text}")
    return "\n".join(lines)


def joined(sections: Sequence[tuple[str, str]], title: str) -> str:
    parts = [_NOTE, f"# {title}"]
    for head, text in sections:
        if text:
            parts += [f"## {head}", text] if head else [text]
    return "\n\n".join(parts) + "\n"


def plugin_page(kind: str, name: str, entry: Mapping[str, Any]) -> str:
    """The page of a module or a filter."""
    doc, examples = entry["doc"], (entry.get("examples") or "").strip("\n")
    known = dict(doc.get("options") or {})
    sections = [
        ("", f"**{prose(doc['short_description'])}**"),
        ("", prose(doc["description"])),
        ("Requirements", bullets(doc.get("requirements") or [])),
        ("Input" if kind == "filter" else "Options", options(known, "suboptions") if known else ""),
        ("Attributes", attributes(doc["attributes"]) if doc.get("attributes") else ""),
        ("Notes", bullets(doc.get("notes") or [])),
        ("See also", see_also(doc.get("seealso") or [])),
        ("Examples", f"```yaml\n{examples}\n```" if examples else ""),
        ("Return values", returned(entry.get("return") or {}) if entry.get("return") else ""),
    ]
    return joined(sections, f"{COLLECTION}.{name}")


def role_page(name: str, entry: Mapping[str, Any]) -> str:
    """The page of a role: what its entry points take. Its README says how to use it."""
    sections = [("", f"How to use it is in [its README](../../roles/{name}/README.md).")]
    written: dict[str, str] = {}
    for point, spec in entry["entry_points"].items():
        head = f"Entry point {_code(point)}"
        sections += [(head, f"**{prose(spec['short_description'])}**"), ("", prose(spec.get("description") or []))]
        known = options(spec.get("options") or {}, "options")
        if known in written:
            sections.append(("", f"It takes the options of {_code(written[known])}."))
        elif spec.get("options"):
            sections.append(("", known))
            written[known] = point
    return joined(sections, f"{COLLECTION}.{name}, a role")


def index(found: Mapping[str, Mapping[str, Any]]) -> str:
    """What leads to all the pages."""
    sections = [("", "Every option, return value and example. `ansible-doc` shows the same in a terminal.")]
    for kind, title in _TITLES.items():
        rows = []
        for name, entry in found[kind].items():
            first = next(iter(entry["entry_points"].values())) if kind == "role" else entry["doc"]
            rows.append((f"[`{name}`]({file_name(kind, name)})", prose(first["short_description"])))
        sections.append((title, table([kind, "for"], rows)))
    return joined(sections, "Reference")


def pages() -> dict[str, str]:
    """By file name, every page as it should be."""
    found = read()
    made = {"README.md": index(found)}
    for kind, entries in found.items():
        for name, entry in entries.items():
            page = role_page(name, entry) if kind == "role" else plugin_page(kind, name, entry)
            made[file_name(kind, name)] = page
    return made


def main() -> None:
    made = pages()
    FOLDER.mkdir(exist_ok=True)
    for path in FOLDER.glob("*.md"):
        if path.name not in made:
            path.unlink()
    for name, text in made.items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
