# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The preflight: on bare hosts, on a running system, and with all broken that breaks Layer 2 DSR in the field."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from lab import Lab

from .conftest import Play, Site

PAGE = Path(__file__).resolve().parents[2] / "docs" / "preflight.md"
# Of the page's examples, as this lab has the addresses. Unit tests hold those that take hardware, or an old host.
BLOCKS = [
    block.replace("192.0.2.", "10.77.0.").replace("2001:db8::", "fd00:77::")
    for block in re.findall(r"^```text\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
]
SHOWN_ELSEWHERE = ("host", "nftables", "lro")
WEB6 = {"name": "web6", "address": "fd00:77::100", "ports": ["8080"], "scheduler": "round_robin"}
KNOBS = (
    "allowed address pairs",
    "source/destination check",
    "IP forwarding",
    "forged transmits",
    "nwfilter",
    "Proxmox",
)
DNS = {"name": "dns", "address": "10.77.0.101", "protocol": "udp", "ports": ["5300"],
       "backends": [{"address": "10.77.0.21", "name": "b1"}, {"address": "10.77.0.23", "state": "drain"}]}  # fmt: skip


def lines_of(play: Play) -> list[str]:
    """The table, without what Ansible writes around its lines."""
    found = re.findall(r'^ {8}"(.*?)",?$', play.output, re.MULTILINE)
    return [line.replace('\\"', '"') for line in found]


def table(play: Play) -> list[tuple[str, str, str, str]]:
    """Its rows: check, hosts, result, and the rest on one line."""
    return rows_of(lines_of(play))


def rows_of(lines: Sequence[str]) -> list[tuple[str, str, str, str]]:
    found: list[list[str]] = []
    for line in lines:
        if line.startswith("CHECK") or re.match(r"\d+ FAILED", line):
            continue
        cells = [line[:9], line[10:26], line[27:37], line[38:]]
        if cells[2].strip():
            found.append([cell.strip() for cell in cells])
        elif found:
            for index in (1, 3):
                found[-1][index] = f"{found[-1][index]} {cells[index].strip()}".strip()
    return [(row[0], row[1], row[2], row[3]) for row in found]


def results(play: Play, wanted: Sequence[str] = ("FAILED", "warning", "not tested")) -> list[tuple[str, str, str]]:
    return [row[:3] for row in table(play) if row[2] in wanted]


def drop_at(lab: Lab, port: str, *matches: str) -> None:
    """What a port of a cloud's network drops: frames that come in there."""
    rules = "\n".join(f"{match} drop" for match in matches)
    lab.run(
        "switch",
        ["nft", "-f", "-"],
        input=f"table netdev {port.replace('-', '_')} {{\nchain in {{\n"
        f'type filter hook ingress device "{port}" priority 0;\n{rules}\n}}\n}}\n',
    )


def undrop(lab: Lab, port: str) -> None:
    lab.run("switch", ["nft", "delete", "table", "netdev", port.replace("-", "_")])


def test_from_bare_hosts_to_a_running_system(site: Site) -> None:
    site.variables["dsr_vips"] += [WEB6, DNS]
    before = site.traces()
    bare = site.ok("preflight", "--check")
    assert set(bare.changed.values()) == {0}
    assert results(bare) == []
    assert site.traces() == before
    texts = {(check, what) for check, _hosts, _result, what in table(bare)}
    assert ("segment", "6 of 6 backends answer on eth0") in texts
    assert ("frames", "as the VIPs to client: pass") in texts and ("frames", "to the VIPs from lb: pass") in texts

    site.ok("site", dsr_verify=False)
    state = site.traces()
    running = site.ok("preflight")
    assert results(running) == []
    assert site.traces() == state
    assert site.served()["errors"] == {}

    # Without a client the load balancer listens, and the table says so. What a limit leaves out is not tested.
    alone = site.ok("preflight", "--limit", "!client,!b2")
    told = [row for row in table(alone) if row[2] != "ok"]
    assert [row[:3] for row in told] == [
        ("host", "b2, client", "not tested"),
        ("frames", "-", "not tested"),
    ]
    assert "load balancers listened in their place" in told[1][3]
    assert ("frames", "b1, b3", "ok", "as the VIPs to lb: pass") in table(alone)
    nobody = site.fails("preflight", "--limit", "client")
    assert "No host of dsr_load_balancers or dsr_backends takes part" in nobody.text


def test_everything_that_breaks_it(site: Site) -> None:
    """All at once, as a set-up takes longer than the checks."""
    lab = site.lab
    site.variables["dsr_vips"] = [
        {"name": "web", "address": "10.77.0.100", "ports": ["80"]},
        {"name": "api", "address": "10.77.0.101", "ports": ["81"]},
        {"name": "own", "address": "10.77.0.10", "ports": ["80"]},
        {"name": "web6", "address": "fd00:77::100", "ports": ["80"]},
        {"name": "far", "address": "10.77.0.102", "ports": ["80"], "backends": [{"address": "10.79.0.9"}]},
    ]
    # b1: the network lets nothing pass that it sends as a VIP. b2: nothing that comes to one of the VIPs.
    drop_at(lab, "b1-eth0", "ip saddr 10.77.0.100", "ip6 saddr fd00:77::100")
    drop_at(lab, "lb-eth0", "ether daddr 02:d5:00:00:00:16 ip daddr 10.77.0.101")
    # b1: the VIP on its NIC. b2: another MTU, strict rp_filter with the way back by another NIC. b3: all the rest.
    lab.ip("b1", "address add 10.77.0.100/32 dev eth0")
    lab.ip("b2", "link set eth0 mtu 9000")
    lab.add_segment("back")
    for number in (1, 2):  # who has several addresses and no default route has to say which one counts
        addresses = [f"10.77.0.2{number}", f"fd00:77::2{number}"]
        site.host_variables[f"b{number}"] = {"dsr_backend_address": addresses}
    lab.add_nic("b2", "eth1", "10.99.0.22", segment="back")
    lab.ip("b2", "route add 10.77.0.10/32 via 10.99.0.1 dev eth1")
    lab.run("b2", ["sysctl", "-qw", "net.ipv4.conf.eth0.rp_filter=1"])
    lab.write("b3", "/etc/sysctl.d/zz-theirs.conf", "net.ipv4.conf.all.arp_ignore = 0\n")
    lab.run(
        "b3",
        ["nft", "-f", "-"],
        input="table inet filter {\nchain input {\ntype filter hook input priority 0; policy drop;\n"
        'iifname "lo" accept\nct state established,related accept\nct state invalid drop\ntcp dport 80 accept\n}\n}\n',
    )
    aside = (
        "import socket, time; s = socket.create_server(('10.77.0.22', 81)); print('READY', flush=True); time.sleep(300)"
    )
    lab.popen("b2", ["/usr/bin/python3", "-c", aside]).wait_for("READY")
    before = site.traces()
    play = site.fails("preflight")
    assert site.traces() == before and set(play.changed.values()) == {0}

    def told(check: str, host: str, result: str, *words: str) -> None:
        texts = [row[3] for row in table(play) if row[:3] == (check, host, result)]
        assert any(all(word in text for word in words) for text in texts), (check, host, result, words, play.output)

    told("segment", "lb", "FAILED", "10.79.0.9 has no on-link route", "one broadcast domain")
    told(
        "address", "b1", "FAILED", "the VIP 10.77.0.100 is on the NIC eth0", "ip address delete 10.77.0.100/32 dev eth0"
    )
    told("address", "lb", "FAILED", "b1 (02:d5:00:00:00:15) answers ARP for the VIP 10.77.0.100")
    told("address", "lb", "FAILED", "client (02:d5:00:00:00:0a) answers ARP for the VIP 10.77.0.10")
    told("address", "client", "FAILED", "the VIP 10.77.0.10 is this host's own address (10.77.0.10/24 on eth0)")
    told("frames", "b1", "FAILED", "as the VIPs to client", "what is from 10.77.0.100,")
    told("frames", "b1", "FAILED", "what is from fd00:77::100,", "the same as above")
    told("frames", "b2", "FAILED", "to the VIPs from lb", "what is to 10.77.0.101,", *KNOBS)
    told(
        "mtu",
        "b2",
        "warning",
        "eth0 has 9000 and eth0 of lb only 1500, the dangerous way",
        "ip link set dev eth0 mtu 1500",
    )
    told("way back", "b2", "FAILED", "rp_filter of eth0 is strict", "10.77.0.10 is by eth1", "rp_filter=2")
    told("firewall", "b3", "warning", "the policy of the chain inet filter input drops 10.77.0.101 tcp 81")
    told("firewall", "b3", "warning", "the rule 'ct state invalid drop' of inet filter input (handle 4)")
    told("service", "b2", "FAILED", "tcp 81 is served at 10.77.0.22 (python3) only, not at the VIP 10.77.0.101")
    told("service", "b1, b3", "warning", "nobody listens at tcp 81 of 10.77.0.101")
    told("sysctl", "b3", "FAILED", "/etc/sysctl.d/zz-theirs.conf line 1 sets net.ipv4.conf.all.arp_ignore to 0")
    assert ("frames", "b2, b3", "ok", "as the VIPs to client: pass") in table(play)
    assert max(map(len, lines_of(play))) <= 120

    # What the page shows is what is printed, but for the network's addresses.
    shown = [row for block in BLOCKS for row in rows_of(block.splitlines())]
    assert len(shown) > 12
    printed = {row[:3]: [] for row in table(play)}  # type: dict[tuple[str, str, str], list[str]]
    for row in table(play):
        printed[row[:3]].append(row[3])
    for check, host, result, what in shown:
        if check not in SHOWN_ELSEWHERE:
            assert any(text.startswith(what.partition(" > ")[0]) for text in printed[check, host, result]), what

    # A role on its own refuses what is certain to break.
    site.variables["dsr_vips"] = [{"name": "web", "address": "10.77.0.100", "ports": ["80"]}]
    undrop(lab, "b1-eth0")
    undrop(lab, "lb-eth0")
    refused = site.fails("site")
    assert "address: the VIP 10.77.0.100 is on the NIC eth0, where this backend answers for it" in refused.text
    assert "sysctl: /etc/sysctl.d/zz-theirs.conf line 1 sets net.ipv4.conf.all.arp_ignore to 0" in refused.text
    assert site.traces() == before
