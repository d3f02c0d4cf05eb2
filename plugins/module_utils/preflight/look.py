# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The checks that one host can make of itself, in their order. The only reader of this package but `listening`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, Optional

from ..common import neighbours
from ..common.command import Completed, Runner, find_program, run
from ..common.errors import ConfigError, DsrError
from ..common.iproute import IPAddress, Iproute
from ..loopback.host import Host
from ..loopback.observed import observe
from ..loopback.persisted import SYSCTL_FILE
from ..nft_dsr.state import StateFiles
from . import addresses, firewall, listeners, nftables, offloads, returning, segment, settings
from .finding import FAILED, UNTESTED, WARNING, Finding
from .network import Network, read
from .request import BACKEND, LOAD_BALANCER, Backend, Pool, Request

_LEGACY = (
    ("/proc/net/ip_tables_names", "iptables-legacy-save"),
    ("/proc/net/ip6_tables_names", "ip6tables-legacy-save"),
)


class Look:
    """One host: ``findings``, and the facts that are compared with those of other hosts."""

    def __init__(
        self,
        request: Request,
        host: Optional[Host] = None,
        runner: Runner = run,
        find: Callable[[str], Optional[str]] = find_program,
    ) -> None:
        self.request = request
        self._host = host or Host()
        self._run = runner
        self._find = find
        self.findings: list[Finding] = []
        self.facts: dict[str, Any] = {}

    def take(self) -> None:
        """Make all checks of this host."""
        end = self.request.end
        if self._find("ip") is None:
            install = "install the package iproute2 (iproute)"
            do = install + (", or let dsr.layer2.site do it" if self.request.installs else "")
            self._note(Finding("host", WARNING if self.request.installs else FAILED, "ip is not installed", do))
            return
        iproute = Iproute(self._run)
        targets: list[IPAddress] = [*self.request.clients, *self.request.addresses]
        if end == LOAD_BALANCER:
            targets += [backend.address for backend in self.request.backends]
        network = read(iproute, targets)
        nics = network.nics
        self.facts["nics"] = {name: {"mac": link.mac, "mtu": link.mtu} for name, link in sorted(nics.items())}
        self.facts["sources"] = network.sources(targets)
        self._note(*addresses.judge(end, self.request.addresses, network))
        self.facts["holds"] = addresses.held_well(end, self.request.addresses, network)
        if end == LOAD_BALANCER:
            self._load_balancer(network, iproute)
        elif end == BACKEND:
            self._backend(network)

    def _note(self, *findings: Finding) -> None:
        self.findings += findings

    # --- load balancers

    def _load_balancer(self, network: Network, iproute: Iproute) -> None:
        self._note(*nftables.judge(self.request.installs, find=self._find))
        drained = self._drained()
        by_nic: dict[str, dict[IPAddress, Backend]] = {}
        asked: dict[str, set[str]] = {}
        ways: list[dict[str, Any]] = []
        for pool in self.request.pools:
            found = self._as_drained(pool, drained)
            nic, findings = segment.interface_of(found, network)
            if self.request.ask:
                self._note(*findings)
            front = pool.interface or nic
            ways.append({"interface": front, "backend_interface": nic})
            if nic:
                for backend in found.backends:
                    known = by_nic.setdefault(nic, {})
                    if backend.in_service or backend.address not in known:
                        known[backend.address] = backend
            if front in network.nics:
                asked.setdefault(front, set()).update(str(vip.address) for vip in pool.vips)
        answers = self._ask({nic: list(map(str, some)) for nic, some in by_nic.items()}, iproute, 3, 0.3)
        others = self._ask({nic: sorted(some) for nic, some in asked.items()}, iproute, 1, 0.0)
        pools = {nic: list(some.values()) for nic, some in by_nic.items()}
        if self.request.ask:
            self._note(*segment.judge(pools, answers))
        used = offloads.with_ports({*asked, *by_nic}, network.links)
        self._note(*offloads.judge({nic: offloads.lro(nic) for nic in used if nic in network.nics}))
        self.facts["pools"] = ways
        self.facts["answers"] = {
            str(vip): sorted(macs) for (_nic, vip), macs in sorted(others.items(), key=str) if macs
        }
        self.facts["backends"] = {
            str(address): {
                "interface": nic,
                "mac": backend.mac or min(answers.get((nic, address), ()), default=""),
                "in_service": backend.in_service,
            }
            for nic, some in by_nic.items()
            for address, backend in some.items()
        }

    def _drained(self) -> dict[Optional[str], set[IPAddress]]:
        """Whom an operator has drained, by VIP; None for every VIP."""
        found: dict[Optional[str], set[IPAddress]] = {}
        try:
            for override in StateFiles().read_overrides():
                found.setdefault(override.vip, set()).add(override.backend)
        except DsrError as error:
            self._note(Finding("host", WARNING, str(error)))
        return found

    @staticmethod
    def _as_drained(pool: Pool, drained: dict[Optional[str], set[IPAddress]]) -> Pool:
        def gone(backend: Backend) -> bool:
            everywhere = backend.address in drained.get(None, ())
            return everywhere or all(backend.address in drained.get(vip.name, ()) for vip in pool.vips)

        backends = tuple(
            Backend(one.address, one.name, one.mac, one.in_service and not gone(one)) for one in pool.backends
        )
        return Pool(pool.vips, backends, pool.interface, pool.backend_interface)

    def _ask(
        self, wanted: dict[str, list[str]], iproute: Iproute, attempts: int, settle: float
    ) -> dict[tuple[str, IPAddress], frozenset[str]]:
        """Who answers for which address, by NIC."""
        found: dict[tuple[str, IPAddress], frozenset[str]] = {}
        for nic, asked in wanted.items() if self.request.ask else ():
            try:
                answers = neighbours.resolve(nic, asked, self.request.timeout, attempts, settle, iproute)
            except ConfigError:
                raise
            except DsrError as error:
                self._note(Finding(segment.CHECK, UNTESTED, str(error)))
                continue
            by_text = {str(address): address for address in self._known()}
            found.update({(nic, by_text[text]): macs for text, macs in answers.items() if text in by_text})
        return found

    def _known(self) -> Iterator[IPAddress]:
        yield from self.request.addresses
        yield from (backend.address for backend in self.request.backends)

    # --- backends

    def _backend(self, network: Network) -> None:
        request = self.request
        serving = request.in_service
        own = [backend.address for backend in request.backends]
        nic = network.nic_of(own) if own else self._default_nic(network)
        missing = [address for address in own if not network.holders(address)]
        if missing:
            self._note(
                Finding(
                    segment.CHECK,
                    FAILED if serving else WARNING,
                    f"does not have the address {', '.join(map(str, missing))} by which the pool knows it",
                    "correct dsr_backend_address, or 'address' of the backend",
                )
            )
        self.facts["interface"] = nic
        self.facts["in_service"] = serving
        versions: set[int] = {vip.version for vip in request.addresses}
        if nic:
            strictness = max(self._sysctl(f"net/ipv4/conf/{name}/rp_filter") for name in ("all", nic))
            self._note(*returning.judge(nic, versions, request.clients, network, strictness, serving))
        self._settings(versions)
        self._firewall(nic)
        if any(vip.ports for vip in request.vips):
            self._note(*listeners.judge(request.vips, listeners.read(), serving))

    @staticmethod
    def _default_nic(network: Network) -> str:
        """Where frames come in as far as this host alone can know: by its default route, or by its only NIC."""
        ways = {way.link for way in network.routes.values() if way is not None and way.link in network.nics}
        ways = ways or {name for name, link in network.nics.items() if link.up}
        return ways.pop() if len(ways) == 1 else ""

    def _sysctl(self, path: str) -> int:
        return returning.number(self._host.foreign_text(f"/proc/sys/{path}"))

    def _settings(self, versions: set[int]) -> None:
        if 4 in versions:
            observed = observe(self._host)
            self._note(
                *settings.judge(
                    observed.interfaces,
                    observed.all_ignore,
                    self._host.sysctl_files(),
                    self._host.late_sysctl_file(),
                    self.request.sysctl_file or SYSCTL_FILE,
                    self.request.in_service,
                )
            )
        keys = {4: "net/ipv4/ip_forward", 6: "net/ipv6/conf/all/forwarding"}
        self.facts["forwards"] = [version for version, key in keys.items() if self._sysctl(key) == 1]

    def _firewall(self, nic: str) -> None:
        unread: list[str] = []
        rows: list[Any] = []
        if self._find("nft") is None:
            unread.append("nft is not installed here, so that rules of nftables, if there are any, are not seen")
        else:
            done = self._run(["nft", "-j", "-t", "list", "ruleset"], None)
            try:
                rows = json.loads(done.stdout)["nftables"] if done.ok else []
            except (ValueError, KeyError, TypeError):
                done = Completed(done.argv, 1, "", "it printed something that is not its JSON")
            if not done.ok:
                unread.append(f"nft can't list the rules: {done.stderr.strip()[:200]}")
        ruleset = firewall.Ruleset(rows)
        places = firewall.places_of(ruleset, self.request.vips, nic)
        drops = {drop for _state, drop in places}
        legacy: list[str] = []
        for names, program in _LEGACY:
            # The program itself would have the kernel make such tables.
            if not (self._host.foreign_text(names) or "").strip():
                continue
            if self._find(program) is None:
                unread.append(f"there are rules of iptables-legacy, and no {program} to list them")
            else:
                legacy += self._run([program], None).stdout.splitlines()
        firewalld = ("inet", "firewalld") in ruleset.tables
        texts = {drop: self._text(drop) for drop in drops if drop.handle is not None}
        self._note(*firewall.judge(places, texts, legacy, "; ".join(unread), firewalld))

    def _text(self, drop: firewall.Drop) -> str:
        """A rule in nft's words."""
        done = self._run(["nft", "-a", "list", "chain", *drop.chain[:3]], None)
        sign = f"# handle {drop.handle}"
        lines = (line.strip() for line in done.stdout.splitlines())
        return next((line[: -len(sign)].strip() for line in lines if line.endswith(f" {sign}")), "")
