# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the hosts returned, as text for a person: the table of `status`, the findings of `verify`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_address
from typing import Any, Callable

from ansible_collections.dsr.layer2.plugins.filter.pools import addresses_of, held_by
from ansible_collections.dsr.layer2.plugins.module_utils.common.neighbours import question_of
from ansible_collections.dsr.layer2.plugins.plugin_utils.filtering import macs_of, told

Vip = Mapping[str, Any]
HostVars = Mapping[str, Mapping[str, Any]]

_GROUPS = ("dsr_load_balancers", "dsr_backends", "dsr_clients")
_MAC = re.compile(r"\b[0-9a-f]{2}(?::[0-9a-f]{2}){5}\b")

# A compared option of a VIP, as it is without the user's saying anything
_DEFAULTS = {"protocol": "tcp", "scheduler": "source_hash"}


def _service(vip: Vip) -> str:
    return f"{vip['address']} {vip['protocol']} {','.join(map(str, vip.get('ports') or ())) or 'all ports'}"


def _amount(number: float, unit: str = "") -> str:
    """A number of at most five characters with its unit: 812, 3.4 k, 12.0 MB."""
    for prefix in ("", "k", "M", "G", "T"):
        if number < 1000 or prefix == "T":
            break
        number /= 1000
    return f"{number:.1f} {prefix}{unit}" if prefix else f"{number:.0f} {unit}".strip()


def _label(backend: Mapping[str, Any]) -> str:
    return f"{backend['name']} ({backend['address']})" if backend.get("name") else str(backend["address"])


def _row(label: str, figures: str) -> list[str]:
    """A line of the table; two where the label is too long to stand beside the figures."""
    return [f"  {label:<36}{figures}"] if len(label) < 36 else [f"  {label}", f"  {'':<36}{figures}"]


def status_table(vips: Sequence[Vip]) -> list[str]:
    """The lines of a table of VIPs, as nft_dsr_vip_info returns them, no wider than 80 columns."""
    lines: list[str] = []
    for vip in vips:
        health = "in sync" if vip["in_sync"] else "DIFFERS FROM ITS CONFIGURATION"
        lines += [
            *([""] if lines else []),
            f"{vip['name']}: {_service(vip)}, {vip['scheduler']}, {health}",
            *_row("backend", f"{'state':<9}{'weight':>6}{'flows':>8}{'packets':>9}{'bytes':>10}"),
        ]
        for backend in vip["backends"]:
            lines += _row(
                _label(backend),
                f"{_state(backend):<9}{backend['weight']:>6}{_amount(backend['flows']):>8}"
                f"{_amount(backend['packets']):>9}{_amount(backend['bytes'], 'B'):>10}",
            )
        lines += [f"  ! {difference}" for difference in vip.get("differences", ())]
    return lines or ["No VIP is configured."]


def _first_port(vip: Vip) -> int:
    """The port to probe; 0 where the VIP takes all ports and none can be named."""
    ports = vip.get("ports") or ["0"]
    return int(str(ports[0]).partition("-")[0])


def _state(backend: Mapping[str, Any]) -> str:
    """What becomes of it: one that fails its health check is out of service whatever was configured."""
    return "unhealthy" if backend.get("healthy") is False else str(backend["state"])


def probes(vips: Iterable[Vip], protocols: Sequence[str], each_backend: bool = False) -> list[dict[str, Any]]:
    """What to probe: each VIP once, or each backend in service of each VIP through its MAC."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for vip in vips:
        port = _first_port(vip)
        if not port or vip["protocol"] not in protocols:
            continue
        probe = {
            "vip": vip["name"],
            "address": vip["address"],
            "protocol": vip["protocol"],
            "port": port,
            "label": f"the VIP {vip['name']} ({vip['address']} {vip['protocol']} {port})",
        }
        if not each_backend:
            found[vip["address"], vip["protocol"], port] = probe
            continue
        for backend in vip["backends"]:
            # One that drains or is down may well be under maintenance.
            if _state(backend) == "up" and backend["weight"] and backend.get("mac"):
                label = f"{_label(backend)} for {probe['label']}"
                found[vip["address"], vip["protocol"], port, backend["mac"]] = {
                    **probe,
                    "through": backend["mac"],
                    "interface": vip.get("backend_interface") or vip.get("interface"),
                    "label": label,
                }
    return list(found.values())


class _Run:
    """What the hosts of a run of `verify` have registered, by group."""

    def __init__(
        self,
        wanted: Sequence[Vip],
        hosts: Sequence[Mapping[str, Any]],
        hostvars: HostVars,
        groups: Mapping[str, Sequence[str]],
    ) -> None:
        self.wanted = wanted
        self._hosts = hosts
        self._groups = groups
        # Looked up once: that takes its time.
        names = dict.fromkeys(host for group in _GROUPS for host in groups.get(group, ()))
        self._hostvars = {host: hostvars[host] for host in names}

    def _registered(self, group: str, name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """The hosts of a group that were asked something, each with its answer."""
        for host in self._groups.get(group, ()):
            answer = self._hostvars[host].get(name)
            if isinstance(answer, Mapping) and not answer.get("skipped"):
                yield host, answer

    def variable(self, host: str, name: str, default: Any) -> Any:
        value = self._hostvars[host].get(name)
        return default if value in (None, "") else value

    @property
    def clients(self) -> Sequence[str]:
        return self._groups.get("dsr_clients_here", ())

    def unasked(self) -> list[str]:
        """The hosts at both ends that did not take part: unreachable, or outside the limit."""
        asked = {host for host, _unused in self.load_balancers()} | {host for host, _unused in self.backends()}
        both = [*self._groups.get("dsr_load_balancers", ()), *self._groups.get("dsr_backends", ())]
        return [host for host in both if host not in asked]

    def load_balancers(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        return self._registered("dsr_load_balancers", "__dsr_seen_vips")

    def addresses(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """What it takes to have the addresses on each NIC of the load balancers."""
        for host, answer in self._registered("dsr_load_balancers", "__dsr_seen_addresses"):
            for result in answer.get("results", ()):
                yield host, result

    def neighbours(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        return self._registered("dsr_load_balancers", "__dsr_seen_neighbours")

    def backends(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        return self._registered("dsr_backends", "__dsr_seen_loopback")

    def lacking(self, host: str, answer: Mapping[str, Any]) -> list[str]:
        """The VIPs that a backend should hold and does not."""
        held = {entry["address"] for entry in answer["vips"]}
        return [address for address in addresses_of(held_by(self.wanted, self._hosts, host)) if address not in held]

    def probes(self, group: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Every single probe of the hosts of a group."""
        for host, answer in self._registered(group, "__dsr_seen_probes"):
            for result in answer.get("results", ()):
                yield host, result


def _complaint(answer: Mapping[str, Any]) -> str:
    return str(answer.get("msg") or "")


def _plain(address: Any) -> str:
    """An address in its usual short form: people write those of IPv6 in many ways."""
    return str(ip_address(str(address)))


def _names(text: str, address: str) -> bool:
    """Whether a text speaks of this address, and not of one that only begins or ends like it."""
    return re.search(rf"(?<![\w.:]){re.escape(address)}(?![.:]*\w)", text) is not None


def _differences(wanted: Vip, seen: Vip) -> list[str]:
    """In what a VIP on a load balancer is not what dsr_vips says."""
    wanted = {**wanted, "address": _plain(wanted["address"])}
    differences = [
        f"{option} is {seen.get(option)}, not {wanted.get(option) or default}"
        for option, default in {"address": None, **_DEFAULTS}.items()
        if str(seen.get(option)) != str(wanted.get(option) or default)
    ]
    theirs = sorted(_plain(backend["address"]) for backend in seen["backends"])
    ours = sorted(_plain(backend["address"]) for backend in wanted["backends"])
    if theirs != ours:
        differences.append(f"its backends are {', '.join(theirs)}, not {', '.join(ours)}")
    return differences


def _of_load_balancers(run: _Run) -> Iterator[str]:
    names = {vip["name"]: vip for vip in run.wanted}
    for host, answer in run.load_balancers():
        if "vips" not in answer:
            yield f"{host}: {_complaint(answer)}"
            continue
        seen = {vip["name"]: vip for vip in answer["vips"]}
        for name, vip in names.items():
            if name not in seen:
                yield f"{host}: the VIP {name} of dsr_vips is not configured; run dsr.layer2.site"
                continue
            for difference in _differences(vip, seen[name]):
                yield f"{host}: the VIP {name} differs from dsr_vips: {difference}; run dsr.layer2.site"
        for name, vip in seen.items():
            if name not in names and str(run.variable(host, "load_balancer_purge", True)).lower() not in (
                "false",
                "no",
            ):
                yield f"{host}: the VIP {name} is configured and not in dsr_vips; run dsr.layer2.site to remove it"
            if not vip["in_sync"]:
                what = "; ".join(vip.get("differences", ())) or "the kernel has something else"
                yield f"{host}: the VIP {name} is not in force as configured ({what}); run dsr.layer2.site"


def _of_addresses(run: _Run) -> Iterator[str]:
    for host, result in run.addresses():
        if "steps" not in result:
            yield f"{host}: {_complaint(result)}"
        elif result["steps"]:
            yield (
                f"{host}: the addresses on {result['item']['key']}, or what brings them back at boot, are not as they "
                f"should be ({'; '.join(result['steps'])}); run dsr.layer2.site"
            )


def _macs(run: _Run) -> dict[str, str]:
    """Whose a MAC is, as far as the load balancers know."""
    return {
        backend["mac"]: backend.get("name") or backend["address"]
        for _unused, answer in run.load_balancers()
        for vip in answer.get("vips", ())
        for backend in vip["backends"]
        if backend.get("mac")
    }


def _owned(run: _Run) -> dict[str, str]:
    """Whose NIC a MAC is, of the load balancers whose addresses something else moves from one to the other."""
    owners = {}
    for host, _unused in run.load_balancers():
        facts = run.variable(host, "ansible_facts", {})
        if str(run.variable(host, "load_balancer_manage_address", True)).lower() in ("false", "no"):
            owners.update(dict.fromkeys(macs_of(facts), host))
    return owners


def _of_neighbours(run: _Run) -> Iterator[str]:
    known = _macs(run)
    owners = _owned(run)
    holders: dict[str, set[str]] = {}
    for _unused, answer in run.neighbours():
        for entry in answer.get("answers", ()):
            holders.setdefault(entry["address"], set()).update(owners[mac] for mac in entry["macs"] if mac in owners)
    for host, answer in run.neighbours():
        if "answers" not in answer:
            yield f"{host}: {_complaint(answer)}"
        for entry in answer.get("answers", ()):
            for mac in entry["macs"]:
                # The one that has it now is heard by the others, and hears none of them.
                if mac in owners and len(holders[entry["address"]]) == 1:
                    continue
                version = ip_address(entry["address"]).version
                why = "ARP is not suppressed there" if version == 4 else "it holds the VIP on its NIC as well"
                if mac in known:
                    who = f"its backend {known[mac]}: {why}"
                elif mac in owners:
                    who = f"{owners[mac]}: only one load balancer may hold it at a time"
                else:
                    who = "another host: two hosts must not hold one address"
                question = question_of(version)
                yield f"{host}: {mac} answers {question} for the VIP {entry['address']} as well. That is {who}"


def _of_backends(run: _Run) -> Iterator[str]:
    for host, answer in run.backends():
        if "vips" not in answer:
            yield f"{host}: {_complaint(answer)}"
            continue
        problems = answer.get("problems", ())
        yield from (f"{host}: {problem}" for problem in problems)
        for address in run.lacking(host, answer):
            if not any(_names(problem, address) for problem in problems):
                yield f"{host}: does not hold the VIP {address}; run dsr.layer2.site"


def _of_probes(run: _Run) -> Iterator[str]:
    known = _macs(run)

    def named(text: str) -> str:
        return _MAC.sub(lambda mac: f"{known[mac[0]]} ({mac[0]})" if mac[0] in known else mac[0], text)

    for group in ("dsr_clients", "dsr_load_balancers"):
        for host, result in run.probes(group):
            if _complaint(result):
                through = "" if group == "dsr_clients" else "is a service listening there? "
                yield f"{host}: {result['item']['label']}: {through}{named(_complaint(result))}"


def _summary(run: _Run) -> Iterator[str]:
    names = _macs(run)
    for host, answer in run.load_balancers():
        for vip in answer.get("vips", ()):
            up = sum(_state(backend) == "up" and backend["weight"] > 0 for backend in vip["backends"])
            yield f"{host}: {vip['name']} ({_service(vip)}) has {up} of {len(vip['backends'])} backends in service"
    for host, answer in run.backends():
        held = [entry["address"] for entry in answer.get("vips", ())]
        yield f"{host}: holds {', '.join(held) or 'no VIP'} and leaves it to the load balancer to answer for it"
    tried = set()
    for host, result in run.probes("dsr_clients"):
        tried.add(result["item"]["vip"])
        shares = (f"{names.get(entry['mac'], entry['mac'])} {entry['connections']}" for entry in result["backends"])
        answers = f"{result['direct']} connections answered directly ({', '.join(shares)})"
        yield f"{host}: {result['item']['label']}: {answers}"
    for host, result in run.probes("dsr_load_balancers"):
        tried.add(result["item"]["vip"])
        yield f"{host}: {result['item']['label']}: answers"
    untried = sorted({vip["name"] for _unused, answer in run.load_balancers() for vip in answer["vips"]} - tried)
    if untried:
        why = "it takes all ports, has no backend in service, or is not on TCP (for UDP see dsr_verify_udp)"
        yield f"Not tried: {', '.join(untried)}, as {why}"
    if not run.clients:
        yield "The clients' path was NOT tested: no host of the group dsr_clients took part."
    unasked = run.unasked()
    if unasked:
        yield f"Not checked, as not reached or outside the limit: {', '.join(unasked)}"


def verification(
    wanted: Sequence[Vip],
    hosts: Sequence[Mapping[str, Any]],
    hostvars: HostVars,
    groups: Mapping[str, Sequence[str]],
) -> dict[str, list[str]]:
    """The findings of `verify`: problems, and a summary to read when there are none."""
    return told(lambda: _findings(_Run(wanted, hosts, hostvars, groups)))


def _findings(run: _Run) -> dict[str, list[str]]:
    problems = [
        *_of_load_balancers(run),
        *_of_addresses(run),
        *_of_neighbours(run),
        *_of_backends(run),
        *_of_probes(run),
    ]
    return {"problems": problems, "summary": [] if problems else list(_summary(run))}


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"probes": probes, "status_table": status_table, "verification": verification}
