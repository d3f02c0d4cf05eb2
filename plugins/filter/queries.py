# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Questions to what load balancers returned, in JMESPath.

JMESPath answers a question about a key that does not exist with null, so a slip of the pen would look like a pool in
which all is well. Keys that no VIP can have are therefore errors here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Callable, Optional

from ansible_collections.dsr.layer2.plugins.module_utils.common.errors import ConfigError
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr import health_check, model
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.options import parse_boolean
from ansible_collections.dsr.layer2.plugins.plugin_utils.filtering import one_of, require, suggestion, told

try:
    import jmespath
except ImportError:
    jmespath = None

# What nft_dsr_vip_info may tell, whether these VIPs have it or not
_KEYS = frozenset(
    (
        *model.VIP_OPTIONS,
        *model.BACKEND_OPTIONS,
        *model.FLOW_TABLE_OPTIONS,
        *model.TIMEOUT_OPTIONS,
        *health_check.HEALTH_CHECK_OPTIONS,
        *("in_sync", "differences", "health_ignored", "packets", "bytes", "flows", "healthy", "cause", "since"),
    )
)
_PLAIN_WORDS = ("true", "false", "null")


def _plain(value: Any) -> Any:
    """The same in the types of JSON alone: JMESPath's functions know no others, and Ansible's are others."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, int):
        return int(value)
    return float(value) if isinstance(value, float) else str(value)


# --- the expression


def _compiled(expression: Any) -> tuple[str, Any]:
    text = str(expression) if isinstance(expression, str) else ""
    if not text.strip():
        raise ConfigError("expression", f"{expression!r} is no expression; write one such as 'backends[].address'")
    try:
        return text, jmespath.compile(text)
    except Exception as error:  # pylint: disable=broad-except
        raise ConfigError("expression", f"{text!r} is not JMESPath: {_complaint(error, text)}") from None


def _complaint(error: Exception, text: str) -> str:
    """What is wrong in an expression, on one line."""
    kinds = jmespath.exceptions
    if isinstance(error, kinds.IncompleteExpressionError):
        return f"it ends too soon, after {text[-12:]!r}; is a bracket or a quotation mark not closed?"
    if isinstance(error, kinds.LexerError):
        return f"column {error.lexer_position + 1}: {error.message}"
    if isinstance(error, kinds.ParseError) and not isinstance(error, kinds.ArityError):
        rest = text[error.lex_position :]
        return f"column {error.lex_position + 1}: {rest[:12]!r} is not expected there"
    if isinstance(error, kinds.JMESPathTypeError):
        return f"{error.function_name}() takes {' or '.join(error.expected_types)}, and got {error.actual_type}"
    return " ".join(str(error).split())


def _nodes(node: Any) -> Iterator[Mapping[str, Any]]:
    """Every part of an expression."""
    if isinstance(node, Mapping):
        yield node
        for child in node["children"]:
            yield from _nodes(child)


def _keys(value: Any) -> Iterator[str]:
    """Every key that there is in the data."""
    if isinstance(value, dict):
        yield from value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _keys(item)


def _check(text: str, parsed: Mapping[str, Any], data: Any) -> None:
    """Refuse what can only be null or false, whatever the state of the VIPs."""
    made = {node["value"] for node in _nodes(parsed) if node["type"] == "key_val_pair"}
    known = _KEYS.union(made, _keys(data))
    calls = [node for node in _nodes(parsed) if node["type"] == "function_expression"]
    passed = {id(argument) for node in calls for argument in node["children"]}
    for node in _nodes(parsed):
        if node["type"] == "expref" and id(node) not in passed:
            raise ConfigError(
                "expression",
                f"{text!r} has '&' where no function takes it; it belongs in one such as sort_by(@, &name)",
            )
        if node["type"] == "field" and node["value"] not in known:
            key = node["value"]
            meant = f"{suggestion(key, sorted(known))}; text stands between single quotes"
            hint = f"write `{key}`" if key in _PLAIN_WORDS else meant
            raise ConfigError("expression", f"{text!r} asks for the key {key!r}, which no VIP or backend has; {hint}")
        if node["type"] == "comparator":
            for child in node["children"]:
                if child["type"] == "literal" and child["value"] in _PLAIN_WORDS:
                    raise ConfigError(
                        "expression",
                        f"{text!r} compares with the text {child['value']!r}, which nothing is; "
                        f"write `{child['value']}`",
                    )


# --- what is asked


def _vips(data: Any) -> list[Mapping[str, Any]]:
    """The VIPs of what nft_dsr_vip_info returned, of its list, or of one VIP."""
    if isinstance(data, Mapping) and "vips" not in data and "backends" not in data:
        why = str(data.get("msg") or "") or f"it has {', '.join(map(str, data)) or 'nothing'}"
        raise ConfigError("vips", f"this is no result of dsr.layer2.nft_dsr_vip_info: {why}")
    given = data.get("vips", [data]) if isinstance(data, Mapping) else data
    if not isinstance(given, (list, tuple)):
        raise ConfigError("vips", f"must be the VIPs that dsr.layer2.nft_dsr_vip_info returned, not {given!r}")
    for index, vip in enumerate(given):
        if not isinstance(vip, Mapping) or "name" not in vip:
            raise ConfigError(f"vips[{index}]", f"must be a VIP with a name, not {vip!r}")
    return list(map(_plain, given))


def vip_query(data: Any, expression: Any, vip: Optional[str] = None, together: Any = False) -> Any:
    """The answers of VIPs to a question in JMESPath, by their names; or of one VIP, or of their list as a whole."""
    require(jmespath, "jmespath", "vip_query")

    def ask() -> Any:
        text, query = _compiled(expression)
        vips = _vips(data)
        whole = parse_boolean(together, "together")
        _check(text, query.parsed, vips)

        def answer(asked: Any, of: str) -> Any:
            try:
                return query.search(asked)
            except Exception as error:  # pylint: disable=broad-except
                # Besides its own errors, it lets through those of Python's functions.
                raise ConfigError("expression", f"{text!r} fails {of}: {_complaint(error, text)}") from None

        if vip not in (None, ""):
            if whole:
                raise ConfigError("together", "has no use with the name of one VIP; leave out one of them")
            named = {str(item["name"]): item for item in vips}
            name = one_of(vip, named, "vip", "VIP")
            return answer(named[name], f"with the VIP {name}")
        if whole:
            return answer(vips, "with the list of VIPs")
        answers = {str(item["name"]): answer(item, f"with the VIP {item['name']}") for item in vips}
        single = isinstance(data, Mapping) and "vips" not in data
        return next(iter(answers.values())) if single else answers

    return told(ask)


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"vip_query": vip_query}
