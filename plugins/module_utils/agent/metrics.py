# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What there is to be measured of a load balancer, by the conventions of Prometheus. Pure: data in, samples out.

*How many series.* A VIP has up to five, a backend of a VIP up to ten. Results and durations of checks are counted by
the type of the check and not by backend: a histogram alone would have sixteen series for each. Of a single backend
there is how long its last check took, and how many failed.

*Why no label for a state.* Six states would be six series for each backend, of which five are 0. Whether packets may go
to it (``up``), whether an administrator wants that (``enabled``) and with which weight it gets new flows (``weight``)
say the same, each is always there, and alerts are written in terms of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Optional

from ..nft_dsr.health_check import HealthCheck
from ..nft_dsr.model import Backend, IPAddress, Vip
from ..nft_dsr.resolved import ResolvedVip
from ..nft_dsr.table import Counter, Names
from .checking import Report
from .probe_base import Target
from .tally import BUCKETS, FAILED, OK, UNABLE, Durations, Tally
from .version import VERSION

COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"
_BACKEND = ("vip", "backend", "name")

Key = tuple[str, IPAddress]  # a VIP's name, and a backend of it


class Metric(NamedTuple):
    """What a metric is: its name as it is asked for, its type, its labels, and what it says."""

    name: str
    kind: str
    labels: Sequence[str]
    help: str


METRICS = (
    Metric("nft_dsr_vip_info", GAUGE, ("vip", "address", "protocol", "scheduler"), "A virtual IP; always 1."),
    Metric(
        "nft_dsr_vip_packets_total",
        COUNTER,
        ("vip",),
        "Packets that arrived for a VIP, with those that no backend got.",
    ),
    Metric("nft_dsr_vip_bytes_total", COUNTER, ("vip",), "Bytes of these packets, without Ethernet headers."),
    Metric(
        "nft_dsr_vip_health_ignored",
        GAUGE,
        ("vip",),
        "1 while fewer backends are healthy than min_healthy and all serve; of VIPs that are checked.",
    ),
    Metric(
        "nft_dsr_vip_flow_table_size",
        GAUGE,
        ("vip",),
        "Flows that a VIP can track at most; of VIPs that track.",
    ),
    Metric("nft_dsr_backend_packets_total", COUNTER, _BACKEND, "Packets of a VIP that were sent on to a backend."),
    Metric("nft_dsr_backend_bytes_total", COUNTER, _BACKEND, "Bytes of these packets, without Ethernet headers."),
    Metric("nft_dsr_backend_flows", GAUGE, _BACKEND, "Flows that are tracked; of VIPs that track, or that drain."),
    Metric(
        "nft_dsr_backend_up",
        GAUGE,
        _BACKEND,
        "1 if packets may go to a backend: it is not down, its MAC address is known, it does not count as unhealthy.",
    ),
    Metric("nft_dsr_backend_enabled", GAUGE, _BACKEND, "1 if it is to get new flows: neither down nor drained."),
    Metric(
        "nft_dsr_backend_weight",
        GAUGE,
        _BACKEND,
        "The weight with which a backend gets new flows now; 0 if it gets none, as a backup that waits.",
    ),
    Metric(
        "nft_dsr_backend_healthy",
        GAUGE,
        _BACKEND,
        "1 if it passes its health check, whatever min_healthy makes of that; of backends that are checked.",
    ),
    Metric("nft_dsr_backend_check_failures_total", COUNTER, _BACKEND, "Checks of a backend that failed."),
    Metric("nft_dsr_backend_check_duration_seconds", GAUGE, _BACKEND, "How long the last check of a backend took."),
    Metric("nft_dsr_backend_transitions_total", COUNTER, _BACKEND, "How often it became healthy or unhealthy."),
    Metric(
        "nft_dsr_checks_total",
        COUNTER,
        ("type", "result"),
        "Checks: ok, failed, or unable if this host could not carry them out.",
    ),
    Metric("nft_dsr_check_duration_seconds", HISTOGRAM, ("type",), "How long checks took that could be carried out."),
    Metric("nft_dsr_checks_late_total", COUNTER, (), "Checks that began more than 0.1 s too late."),
    Metric("nft_dsr_in_sync", GAUGE, (), "1 if the kernel's rules are what they should be, as far as the agent knows."),
    Metric(
        "nft_dsr_reconciliations_total",
        COUNTER,
        ("result",),
        "Comparisons of the rules with what they should be: ok (changed if need be) or failed.",
    ),
    Metric("nft_dsr_mac_changes_total", COUNTER, (), "Times that a backend was followed to another MAC address."),
    Metric("nft_dsr_repairs_total", COUNTER, (), "Times that rules were put right which somebody else had changed."),
    Metric(
        "nft_dsr_last_reconciliation_timestamp_seconds",
        GAUGE,
        (),
        "When the rules were last seen, or made, to be what they should be. On a quiet host that is long ago.",
    ),
    Metric("nft_dsr_last_reconciliation_duration_seconds", GAUGE, (), "How long that took."),
    Metric("nft_dsr_configuration_valid", GAUGE, (), "1 if the configuration on disk is the one in force."),
    Metric("nft_dsr_configuration_accepted_timestamp_seconds", GAUGE, (), "When a configuration was last taken."),
    Metric(
        "nft_dsr_collector_success",
        GAUGE,
        ("collector",),
        "1 if the kernel could be asked for its counters, or its flows.",
    ),
    Metric(
        "nft_dsr_collector_timestamp_seconds",
        GAUGE,
        ("collector",),
        "When it was last asked; figures are as old as that.",
    ),
    Metric("nft_dsr_collector_duration_seconds", GAUGE, ("collector",), "How long that took."),
    Metric("nft_dsr_agent_info", GAUGE, ("version",), "The agent; always 1."),
)


@dataclass(frozen=True)
class Reading:
    """How the last look at something of the kernel went. ``at`` is in seconds since 1970; 0 is never."""

    ok: bool = False
    at: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True)
class Traffic:
    """What the kernel says, of what it said anything."""

    vips: Mapping[str, Counter] = field(default_factory=dict)
    backends: Mapping[Key, Counter] = field(default_factory=dict)
    flows: Mapping[Key, int] = field(default_factory=dict)
    readings: Mapping[str, Reading] = field(default_factory=dict)


@dataclass(frozen=True)
class Facts:
    """What the agent knows: VIPs as they are served, what they go through in the kernel, which ignore health, what is
    known of each check, for whom that is, and what was counted. To be made fast: checks wait meanwhile."""

    items: Sequence[ResolvedVip]
    names: Mapping[str, Names]
    ignoring: Mapping[str, bool]
    reports: Sequence[Report]
    users: Mapping[tuple[HealthCheck, Target], Sequence[tuple[Vip, Backend]]]
    tally: Tally


Sample = tuple[Sequence[str], float]  # values of the labels, and the value


@dataclass
class Family:
    """A metric with its samples, or, if it is a histogram, its durations."""

    metric: Metric
    samples: list[Sample] = field(default_factory=list)
    durations: list[tuple[Sequence[str], Durations]] = field(default_factory=list)

    def add(self, value: float, *labels: str) -> None:
        self.samples.append((labels, value))


def families(facts: Facts, traffic: Traffic) -> Iterator[Family]:
    """Everything that is known now, in the order of METRICS; what has no sample is left out."""
    found = {metric.name: Family(metric) for metric in METRICS}
    _of_vips(found, facts, traffic)
    _of_checks(found, facts)
    _of_the_agent(found, facts.tally)
    for collector, reading in traffic.readings.items():
        found["nft_dsr_collector_success"].add(float(reading.ok), collector)
        found["nft_dsr_collector_timestamp_seconds"].add(reading.at, collector)
        found["nft_dsr_collector_duration_seconds"].add(reading.seconds, collector)
    yield from (family for family in found.values() if family.samples or family.durations)


def _of_vips(found: Mapping[str, Family], facts: Facts, traffic: Traffic) -> None:
    for item in facts.items:
        vip = item.vip
        found["nft_dsr_vip_info"].add(1, vip.name, str(vip.address), vip.protocol, vip.scheduler)
        _count(found, "vip", traffic.vips.get(vip.name), vip.name)
        if vip.name in facts.ignoring:
            found["nft_dsr_vip_health_ignored"].add(float(facts.ignoring[vip.name]), vip.name)
        if vip.tracks:
            found["nft_dsr_vip_flow_table_size"].add(vip.flows.size, vip.name)
        takers = {backend.address for backend in item.takers}
        for backend in vip.backends:
            labels = labels_of(vip, backend)
            key = (vip.name, backend.address)
            up = item.usable(backend)
            taking = backend.address in takers
            found["nft_dsr_backend_up"].add(float(up), *labels)
            found["nft_dsr_backend_enabled"].add(float(not backend.down and not backend.draining), *labels)
            found["nft_dsr_backend_weight"].add(vip.table_weight(backend) if taking else 0, *labels)
            _count(found, "backend", traffic.backends.get(key), *labels)
            if key in traffic.flows:
                # What is left of a backend that gets no packets is no flow any more.
                found["nft_dsr_backend_flows"].add(traffic.flows[key] if up else 0, *labels)


def labels_of(vip: Vip, backend: Backend) -> tuple[str, str, str]:
    return vip.name, str(backend.address), backend.name or ""


def _count(found: Mapping[str, Family], whose: str, counter: Optional[Counter], *labels: str) -> None:
    if counter is not None:
        found[f"nft_dsr_{whose}_packets_total"].add(counter.packets, *labels)
        found[f"nft_dsr_{whose}_bytes_total"].add(counter.bytes, *labels)


def _of_checks(found: Mapping[str, Family], facts: Facts) -> None:
    tally = facts.tally
    for report in facts.reports:
        for vip, backend in facts.users.get((report.check, report.target), ()):
            labels = labels_of(vip, backend)
            statistics = report.statistics
            found["nft_dsr_backend_healthy"].add(float(report.healthy), *labels)
            found["nft_dsr_backend_check_failures_total"].add(statistics.failures, *labels)
            found["nft_dsr_backend_transitions_total"].add(tally.transitions[vip.name, backend.address], *labels)
            if statistics.runs:
                found["nft_dsr_backend_check_duration_seconds"].add(statistics.last_seconds, *labels)
    # All results of a type of check are there from the beginning, so that the first failure is seen to be one more.
    kinds = {report.check.type for report in facts.reports} | {kind for kind, _result in list(tally.checks)}
    for kind in sorted(kinds):
        for result in (OK, FAILED, UNABLE):
            found["nft_dsr_checks_total"].add(tally.checks[kind, result], kind, result)
        found["nft_dsr_check_duration_seconds"].durations.append(((kind,), tally.durations.get(kind, Durations())))
    found["nft_dsr_checks_late_total"].add(tally.late)


def _of_the_agent(found: Mapping[str, Family], tally: Tally) -> None:
    found["nft_dsr_in_sync"].add(float(tally.in_sync))
    found["nft_dsr_reconciliations_total"].add(tally.reconciled, "ok")
    found["nft_dsr_reconciliations_total"].add(tally.not_reconciled, "failed")
    found["nft_dsr_mac_changes_total"].add(tally.mac_changes)
    found["nft_dsr_repairs_total"].add(tally.repairs)
    if tally.reconciled:
        found["nft_dsr_last_reconciliation_timestamp_seconds"].add(tally.reconciled_at)
        found["nft_dsr_last_reconciliation_duration_seconds"].add(tally.reconciled_in)
    found["nft_dsr_configuration_valid"].add(float(tally.valid))
    if tally.accepted_at:
        found["nft_dsr_configuration_accepted_timestamp_seconds"].add(tally.accepted_at)
    found["nft_dsr_agent_info"].add(1, VERSION)


def buckets(durations: Durations) -> list[tuple[str, int]]:
    """How many took at most so long, as Prometheus has it: each bucket with all those before."""
    counted = 0
    found = []
    for limit, number in zip([*map(str, BUCKETS), "+Inf"], durations.counts):
        counted += number
        found.append((limit, counted))
    return found
