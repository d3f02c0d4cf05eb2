# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The answers of a survey, read and checked on the controller before any host is touched.

They are what somebody typed: text, with spaces around it, over several lines, or nothing at all. Every error names the
field of the survey, as a person sees it and as a variable.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Any, Callable

from ansible.errors import AnsibleFilterError

from ansible_collections.dsr.layer2.plugins.module_utils.common.errors import ConfigError
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr import model

Answers = Mapping[str, Any]

# The fields as the surveys in awx/surveys label them
LABELS = {
    "dsr_vip_name": "Name",
    "dsr_vip_address": "Address",
    "dsr_vip_protocol": "Protocol",
    "dsr_vip_ports": "Ports",
    "dsr_vip_scheduler": "Algorithm",
    "dsr_vip_backends": "Backends",
    "dsr_vip_persistence_timeout": "Persistence",
    "dsr_vip_on_empty": "With no backend left",
    "dsr_vip_health_check": "Health check",
    "dsr_vip_health_path": "Page of the health check",
    "dsr_backend": "Backend",
    "dsr_vip": "VIP",
    "dsr_rolling_tasks": "Tasks",
    "dsr_rolling_backends": "Backends",
    "dsr_rolling_serial": "At a time",
    "dsr_rolling_timeout": "Longest wait",
    "dsr_rolling_on_timeout": "After the longest wait",
    "dsr_rolling_quiet": "Silence",
    "dsr_rolling_allow_last": "The last one too",
}
MAX_LINE = 255

# Fields whose answer is an option of the VIP as it is
_PLAIN = ("address", "protocol", "scheduler", "on_empty")
_LINE_OF_BACKEND = "write: ADDRESS [NAME] [WEIGHT], such as 192.0.2.21 web1 3"
# Stand for the hosts of dsr_backends while nobody has asked them; two of each family, as one may be the VIP
_STAND_INS = {4: ("192.0.2.1", "192.0.2.2"), 6: ("2001:db8::1", "2001:db8::2")}


def place(variable: str, line: int = 0) -> str:
    """How an error names a field, and a line of it."""
    return f"{variable} ({LABELS[variable]})" + (f", line {line}" if line else "")


def _checked_line(text: str, where: str) -> str:
    if len(text) > MAX_LINE:
        raise ConfigError(where, f"has {len(text)} characters; {MAX_LINE} are the most")
    for character in text:
        # Nothing that these fields can name has others, and what can't be seen is a slip.
        if not (" " <= character <= "~"):
            raise ConfigError(
                where, f"has the character U+{ord(character):04X}; use letters, digits and signs of ASCII"
            )
    return text


def _text(answers: Answers, variable: str, glue: str = "\n") -> str:
    """An answer as text, '' where there is none. A command line may give lists and numbers as well."""
    value = answers.get(variable)
    if value is None:
        return ""
    parts = value if isinstance(value, (list, tuple)) else [value]
    if not all(isinstance(part, (str, int)) and not isinstance(part, bool) for part in parts):
        raise ConfigError(place(variable), "is no text; give it as the survey does")
    return glue.join(str(part) for part in parts).strip()


def _line(answers: Answers, variable: str, glue: str = "\n") -> str:
    text = _text(answers, variable, glue)
    if len(text.splitlines()) > 1:
        raise ConfigError(place(variable), "has several lines; give one")
    return _checked_line(text, place(variable))


def _ports(text: str) -> Any:
    return None if text.lower() == "all" else re.split(r"[\s,]+", text)


def _backend(text: str, where: str) -> dict[str, Any]:
    address, *others = [
        part for part in re.split(r"[\s,]+", _checked_line(text.strip().replace("\t", " "), where)) if part
    ]
    entry: dict[str, Any] = {"address": address}
    for part in others:
        option = "weight" if part.isdigit() else "name"
        if option in entry:
            raise ConfigError(where, f"has a second {option}, {part!r}; {_LINE_OF_BACKEND}")
        entry[option] = int(part) if option == "weight" else part
    return entry


def _backends(text: str, before: Sequence[Any]) -> tuple[list[dict[str, Any]], list[int]]:
    """The pool, and the line on which each backend stands. What a line leaves open is as it was before."""
    known = {str(entry.get("address")): entry for entry in before if isinstance(entry, Mapping)}
    found: list[dict[str, Any]] = []
    lines: list[int] = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip(" \t\r,"):
            entry = _backend(line, place("dsr_vip_backends", number))
            found.append({**known.get(entry["address"], {}), **entry})
            lines.append(number)
    return found, lines


def _health_check(answers: Answers, before: Any) -> Any:
    kind, path = _line(answers, "dsr_vip_health_check"), _line(answers, "dsr_vip_health_path")
    if kind == "none":
        before = None
    elif kind and not (isinstance(before, Mapping) and before.get("type") == kind):
        before = {"type": kind}
    if path and before is None:
        raise ConfigError(
            place("dsr_vip_health_path"), "there is no health check that gets a page; choose http or https"
        )
    return {**before, "path": path} if path else before


def _field_of(path: str, lines: Sequence[int]) -> str:
    """The field that gave the option at a place such as vip.backends[1].weight; the place itself if none did."""
    option, _unused, rest = path.partition("vip.")[2].partition(".")
    name, _unused, index = option.partition("[")
    if name == "health_check":
        return place("dsr_vip_health_path" if rest == "path" else "dsr_vip_health_check")
    variable = f"dsr_vip_{name}"
    if variable not in LABELS:
        return f"dsr_vips, {name} of this VIP" if name else "dsr_vips"
    return place(variable, lines[int(index.rstrip("]"))] if name == "backends" and index and lines else 0)


def _named(vips: Any, name: str) -> dict[str, Any]:
    """The VIP of this name in dsr_vips; {} if there is none."""
    given = vips if isinstance(vips, (list, tuple)) else ()
    return dict(next((vip for vip in given if isinstance(vip, Mapping) and vip.get("name") == name), {}))


def _stand_ins(address: str) -> list[dict[str, str]]:
    try:
        own = ip_address(address)
    except ValueError:
        return [{"address": _STAND_INS[4][0]}]
    return [{"address": next(text for text in _STAND_INS[own.version] if ip_address(text) != own)}]


def _vip(answers: Answers, vips: Any) -> dict[str, Any]:
    name = model.parse_name(_line(answers, "dsr_vip_name"), place("dsr_vip_name"))
    vip = {**_named(vips, name), "name": name}
    for option in _PLAIN:
        text = _line(answers, f"dsr_vip_{option}")
        if text:
            vip[option] = text
    ports = _line(answers, "dsr_vip_ports", ",")
    if ports:
        vip["ports"] = _ports(ports)
    persistence = _line(answers, "dsr_vip_persistence_timeout")
    if persistence:
        vip["persistence_timeout"] = persistence
    lines: list[int] = []
    text = _text(answers, "dsr_vip_backends")
    if text.lower() == "all":
        vip["backends"] = None
    elif text:
        vip["backends"], lines = _backends(text, vip.get("backends") or ())
    vip["health_check"] = _health_check(answers, vip.get("health_check"))
    try:
        checked = model.parse_vip(
            {
                **vip,
                "backends": _stand_ins(str(vip.get("address"))) if vip.get("backends") is None else vip["backends"],
            },
            "vip",
        )
    except ConfigError as error:
        raise ConfigError(_field_of(error.path, lines), error.problem) from None
    if "persistence_timeout" in vip:
        vip["persistence_timeout"] = checked.persistence_timeout
    return {key: value for key, value in vip.items() if value is not None}


def survey_vip(answers: Answers, vips: Any = None) -> dict[str, Any]:
    """The VIP that the survey "Add or change a VIP" asks for. What it leaves open is as in dsr_vips, or the default."""
    try:
        return _vip(answers, vips)
    except ConfigError as error:
        raise AnsibleFilterError(str(error)) from error


def survey_name(answers: Answers) -> str:
    """The VIP that the survey "Remove a VIP" names."""
    try:
        return model.parse_name(_line(answers, "dsr_vip_name"), place("dsr_vip_name"))
    except ConfigError as error:
        raise AnsibleFilterError(str(error)) from error


def _check_backend(answers: Answers) -> None:
    if not _line(answers, "dsr_backend"):
        raise ConfigError(
            place("dsr_backend"), "Name the backend, by its address or its name, such as: -e dsr_backend=192.0.2.21"
        )
    vip = _line(answers, "dsr_vip")
    if vip:
        model.parse_name(vip, place("dsr_vip"))


def survey_problem(answers: Answers, survey: str, vips: Any = None) -> str:
    """What is wrong with the answers to a survey (``vip``, ``remove_vip`` or ``backend``), or ''."""
    ask: dict[str, Callable[[], Any]] = {
        "vip": lambda: survey_vip(answers, vips),
        "remove_vip": lambda: survey_name(answers),
        "backend": lambda: _check_backend(answers),
    }
    try:
        ask[survey]()
    except (ConfigError, AnsibleFilterError) as error:
        return str(error)
    return ""


def survey_outlook(name: str, wanted: Any, vips: Any, keeps: bool) -> str:
    """What the next run of dsr.layer2.site makes of a VIP that a survey has set (``wanted``) or removed (none)."""
    before = _named(vips, name)
    if not wanted:
        return (
            f"The VIP {name} is still in dsr_vips: the next run of dsr.layer2.site brings it back. Take it out of the "
            "inventory."
            if before
            else ""
        )
    if before == wanted:
        return ""
    if before:
        return (
            f"The VIP {name} is in dsr_vips, and differs there: the next run of dsr.layer2.site brings it back to "
            "that. To keep it as it is now, put this into the inventory:"
        )
    if keeps:
        return (
            f"The VIP {name} is not in dsr_vips. Runs of dsr.layer2.site leave it, as load_balancer_purge and "
            "backend_purge are false, and do not repair it. For that, put this into dsr_vips:"
        )
    return (
        f"The VIP {name} is not in dsr_vips: the next run of dsr.layer2.site REMOVES it. To keep it, put this into "
        "dsr_vips, or set load_balancer_purge: false for the load balancers and backend_purge: false for the backends:"
    )


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "survey_name": survey_name,
            "survey_outlook": survey_outlook,
            "survey_problem": survey_problem,
            "survey_vip": survey_vip,
        }
