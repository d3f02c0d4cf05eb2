# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rolling work: which backend is taken out of service when, where, and whether anybody is left then.

Made on the controller from what load balancers say, before anything is touched, and again before each backend.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Callable, Optional

from ansible_collections.dsr.layer2.plugins.filter.surveys import place
from ansible_collections.dsr.layer2.plugins.module_utils.common.errors import ConfigError
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.options import (
    parse_boolean,
    parse_choice,
    parse_integer,
)
from ansible_collections.dsr.layer2.plugins.plugin_utils.filtering import suggestion

Vip = Mapping[str, Any]
Host = Mapping[str, Any]

FAIL = "fail"
GO_ON = "go_on"
_LONGEST = 86400  # seconds


@dataclass(frozen=True)
class Options:
    """What is asked for. ``backends`` are names and addresses as somebody typed them; none of them: all."""

    tasks: str
    backends: tuple[str, ...]
    serial: int
    timeout: int
    quiet: int
    on_timeout: str
    allow_last: bool

    def document(self) -> dict[str, Any]:
        return {
            "tasks": self.tasks,
            "serial": self.serial,
            "timeout": self.timeout,
            "quiet": self.quiet,
            "on_timeout": self.on_timeout,
        }


@dataclass(frozen=True)
class Pool:
    """A VIP on a load balancer, and the addresses there that are the host's."""

    balancer: str
    vip: Vip
    mine: tuple[str, ...]

    def backend(self, address: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = next(
            backend for backend in self.vip["backends"] if _plain(backend["address"]) == address
        )
        return found


def rolling_plan(
    answers: Mapping[str, Any],
    looks: Sequence[Mapping[str, Any]],
    hosts: Sequence[Host],
    taking_part: Sequence[str],
    reached: Sequence[str],
    batch: Optional[Sequence[str]] = None,
) -> dict[str, Any]:
    """What is to be done, or in ``problem`` why it may not be.

    ``looks`` are the results of nft_dsr_vip_info on every load balancer; ``taking_part`` the hosts within the limit,
    and ``reached`` those that could be reached. With ``batch`` it is of these hosts alone, all at once.
    """
    try:
        here = [str(host["name"]) for host in hosts if host["name"] in taking_part]
        return _plan(_options(answers), looks, hosts, batch or here, list(reached), bool(batch))
    except ConfigError as error:
        return {"problem": str(error), "options": {}, "steps": {}, "order": [], "text": []}


# --- what is asked for


def _options(answers: Mapping[str, Any]) -> Options:
    tasks = _text(answers, "dsr_rolling_tasks")
    if not tasks:
        raise ConfigError(
            place("dsr_rolling_tasks"),
            "is empty; name a file with the tasks to run on each backend, as in -e dsr_rolling_tasks=upgrade.yml",
        )
    return Options(
        tasks=tasks,
        backends=tuple(_names(answers)),
        serial=_number(answers, "dsr_rolling_serial", 1, 1, 1000),
        timeout=_number(answers, "dsr_rolling_timeout", 300, 0, _LONGEST),
        quiet=_number(answers, "dsr_rolling_quiet", 5, 1, 3600),
        on_timeout=parse_choice(
            _text(answers, "dsr_rolling_on_timeout") or FAIL, place("dsr_rolling_on_timeout"), (FAIL, GO_ON)
        ),
        allow_last=parse_boolean(_text(answers, "dsr_rolling_allow_last") or False, place("dsr_rolling_allow_last")),
    )


def _text(answers: Mapping[str, Any], variable: str) -> str:
    value = answers.get(variable)
    return "" if value is None else str(value).strip()


def _number(answers: Mapping[str, Any], variable: str, default: int, lowest: int, highest: int) -> int:
    return parse_integer(_text(answers, variable) or default, place(variable), lowest, highest)


def _names(answers: Mapping[str, Any]) -> list[str]:
    value = answers.get("dsr_rolling_backends")
    parts = value if isinstance(value, (list, tuple)) else [value]
    words = [word for part in parts if part is not None for word in re.split(r"[\s,]+", str(part)) if word]
    return list(dict.fromkeys(words))


# --- what there is


def _balancers(looks: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, Sequence[Vip]]]:
    for look in looks:
        name = str(look["item"])
        if "vips" not in look:
            raise ConfigError(
                f"the load balancer {name}",
                f"did not say what it does ({str(look.get('msg') or 'no answer').strip()}). A backend that is drained "
                "on the others alone would still get connections; bring it back, or take it out of dsr_load_balancers",
            )
        if not look["vips"]:
            raise ConfigError(
                f"the load balancer {name}",
                "has no VIP at all; run dsr.layer2.site, or take it out of dsr_load_balancers",
            )
        yield name, look["vips"]


def _plain(address: Any) -> str:
    return str(ip_address(str(address).partition("%")[0]))


def _pools_of(host: Host, balancers: Sequence[tuple[str, Sequence[Vip]]]) -> list[Pool]:
    own = {_plain(address) for address in host["own_addresses"]}
    found = []
    for name, vips in balancers:
        for vip in vips:
            addresses = (_plain(backend["address"]) for backend in vip["backends"])
            mine = tuple(address for address in addresses if address in own)
            if mine:
                found.append(Pool(name, vip, mine))
    return found


def _chosen(wanted: Sequence[str], hosts: Sequence[Host], pools: Mapping[str, Sequence[Pool]]) -> list[str]:
    """The hosts that are asked for by name, address, or the name that a VIP has for them; in that order."""
    where = place("dsr_rolling_backends")
    called: dict[str, set[str]] = {}
    for host in hosts:
        name = str(host["name"])
        backends = [pool.backend(address) for pool in pools[name] for address in pool.mine]
        others = [*map(_plain, host["own_addresses"]), *(str(row["name"]) for row in backends if row.get("name"))]
        for other in others:
            called.setdefault(other, set()).add(name)
    names = [str(host["name"]) for host in hosts]
    found = []
    for word in wanted:
        meant = {word} if word in names else called.get(_known(word), set())
        if not meant:
            raise ConfigError(where, f"there is no host {word!r} in dsr_backends; {suggestion(word, names)}")
        if len(meant) > 1:
            raise ConfigError(where, f"{word!r} names several hosts ({', '.join(sorted(meant))}); give the host's name")
        found += sorted(meant)
    return list(dict.fromkeys(found))


def _known(word: str) -> str:
    try:
        return _plain(word)  # an IPv6 address has many spellings
    except ValueError:
        return word


def _in_service(backend: Mapping[str, Any]) -> bool:
    """It would get new flows, as far as people are concerned."""
    return bool(backend["state"] == "up" and backend["weight"])


def _serves(vip: Vip, backend: Mapping[str, Any]) -> bool:
    """It gets new flows, or would if it were needed."""
    healthy = backend.get("healthy") is not False or bool(vip.get("health_ignored"))
    return _in_service(backend) and bool(backend.get("mac")) and healthy


# --- the plan


def _plan(
    options: Options,
    looks: Sequence[Mapping[str, Any]],
    hosts: Sequence[Host],
    here: Sequence[str],
    reached: Sequence[str],
    at_once: bool,
) -> dict[str, Any]:
    for host in hosts:
        if host["problem"]:
            raise ConfigError(*str(host["problem"]).split(": ", 1))
    balancers = list(_balancers(looks))
    if not balancers:
        raise ConfigError("dsr_load_balancers", "the inventory has no host in this group")
    by_name = {str(host["name"]): host for host in hosts}
    pools = {name: _pools_of(host, balancers) for name, host in by_name.items()}
    named = _chosen(options.backends, hosts, pools)
    steps = {name: _step(name, pools[name]) for name in by_name}
    chosen = list(here) if at_once else named or list(here)
    skipped = [] if named or at_once else [name for name in chosen if steps[name]["out"]]
    order = [name for name in chosen if name not in skipped]
    if not chosen:
        raise ConfigError(
            "dsr_backends", "no host of this group takes part in this run; look at the limit, and reach them"
        )
    for name in chosen:
        if name not in reached:
            raise ConfigError(
                f"the host {name} of dsr_backends",
                "cannot be worked on: it was not reached, or is outside the limit. Leave it out by "
                "dsr_rolling_backends or by the limit, or bring it back",
            )
        if not pools[name]:
            raise ConfigError(
                f"the host {name} of dsr_backends",
                "is a backend of no VIP of these load balancers, so nobody would take it out of service. Run "
                "dsr.layer2.site, or leave it out by dsr_rolling_backends or by the limit",
            )
    size = max(1, len(order)) if at_once else options.serial
    groups = [order[at : at + size] for at in range(0, len(order), size)]
    if not options.allow_last:
        for group in groups:
            _check_somebody_is_left(group, pools)
    return {
        "problem": "",
        "options": options.document(),
        "order": order,
        "steps": {name: steps[name] for name in order},
        "text": _text_of(options, groups, steps, skipped, [name for name, _vips in balancers]),
    }


def _step(name: str, pools: Sequence[Pool]) -> dict[str, Any]:
    """What is to be drained where. One VIP at a time where somebody drained it on another before: that is to stay."""
    drains: list[dict[str, str]] = []
    kept: list[str] = []
    groups: dict[tuple[str, str], list[Pool]] = {}
    for pool in pools:
        for address in pool.mine:
            groups.setdefault((pool.balancer, address), []).append(pool)
    for (balancer, address), mine in groups.items():
        serving = [pool for pool in mine if _in_service(pool.backend(address))]
        whole = len(serving) == len(mine)
        kept += [f"{pool.vip['name']} on {balancer}" for pool in mine if pool not in serving]
        for vip in [""] if whole else [str(pool.vip["name"]) for pool in serving]:
            drains.append({"lb": balancer, "backend": address, "vip": vip})
    waits = [{"lb": balancer, "backend": address} for balancer, address in groups]
    others = {
        (balancer, address) for (balancer, address), mine in groups.items()
        if any(pool.vip["protocol"] != "tcp" for pool in mine)
    }  # fmt: skip
    return {
        "host": name,
        "out": not drains,
        "drains": drains,
        "kept": kept,
        "vips": list(dict.fromkeys(_plain(pool.vip["address"]) for pool in pools)),
        "names": list(dict.fromkeys(str(pool.vip["name"]) for pool in pools)),
        "quiet": [row for row in waits if (row["lb"], row["backend"]) in others],
        "serving": waits if drains else [],
        "restore": list(dict.fromkeys(map(_restoring, drains))),
    }


def _restoring(drain: Mapping[str, str]) -> str:
    """How a person ends that drain, and no other."""
    only = f" -e dsr_vip={drain['vip']}" if drain["vip"] else ""
    return f"dsr.layer2.restore -e dsr_backend={drain['backend']}{only}"


def _check_somebody_is_left(group: Sequence[str], pools: Mapping[str, Sequence[Pool]]) -> None:
    leaving: dict[tuple[str, str], set[str]] = {}
    known: dict[tuple[str, str], Vip] = {}
    for name in group:
        for pool in pools[name]:
            key = pool.balancer, str(pool.vip["name"])
            known[key] = pool.vip
            leaving.setdefault(key, set()).update(pool.mine)
    for (balancer, vip_name), addresses in leaving.items():
        vip = known[balancer, vip_name]
        serving = {_plain(backend["address"]) for backend in vip["backends"] if _serves(vip, backend)}
        if serving and serving <= addresses:
            who = f"{group[0]} is" if len(group) == 1 else f"{', '.join(group)} at the same time are"
            raise ConfigError(
                place("dsr_rolling_backends"),
                f"{who} all that serves the VIP {vip_name} on {balancer} now, and nobody would be left. Nothing was "
                "touched. Bring others into service first"
                + (", or take fewer at a time (dsr_rolling_serial)" if len(group) > 1 else "")
                + ", or set dsr_rolling_allow_last: true",
            )


def _text_of(
    options: Options,
    groups: Sequence[Sequence[str]],
    steps: Mapping[str, Mapping[str, Any]],
    skipped: Iterable[str],
    balancers: Sequence[str],
) -> list[str]:
    """The plan for people."""
    together = f", {options.serial} at a time" if options.serial > 1 else ""
    late = "that one is restored and the run fails" if options.on_timeout == FAIL else "the work begins all the same"
    lines = [
        f"For each backend{together}: drain it on {', '.join(balancers)}; wait until its connections are gone (after "
        f"{options.timeout} s {late}); run {options.tasks}; wait until it serves; restore it",
    ]
    number = 0
    for group in groups:
        for name in group:
            number += 1
            lines.append(f"{number}. {name}: {_what(steps[name])}")
    lines += [
        f"Skipped: {name}, which is out of service already (drained or down on {', '.join(steps[name]['names'])}); "
        "name it in dsr_rolling_backends to work on it as well"
        for name in skipped
    ]
    return lines


def _what(step: Mapping[str, Any]) -> str:
    if step["out"]:
        return f"out of service already on {', '.join(step['names'])}; it is not restored afterwards"
    kept = f"; stays as it is: {', '.join(step['kept'])}" if step["kept"] else ""
    return f"{', '.join(step['names'])}{kept}"


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"rolling_plan": rolling_plan}
