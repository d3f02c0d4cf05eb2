# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on part of the hosts, by choice or by misfortune: no pool gets smaller by it, and nothing is forgotten."""

from __future__ import annotations

from .conftest import Site

POOL = ["10.77.0.21", "10.77.0.22", "10.77.0.23"]
API = {"name": "api", "address": "10.77.0.101", "ports": ["8080"]}


def test_a_limit_to_one_load_balancer(twin_site: Site) -> None:
    site = twin_site
    site.variables["dsr_verify"] = False
    # As many inventories have it. Who asks on behalf of another host must not ask itself.
    site.host_variables = {
        name: {"ansible_host": f"{{{{ inventory_hostname }}}}.{site.lab.name}"} for name in site.lab.hosts
    }
    site.ok("site", "--limit", "lb2")
    assert site.vips("lb2") == {"web": POOL}
    assert site.vips("lb") == {}
    assert site.addresses("b1", "lo") == set()

    # A backend that can't be asked is missed by name, and nothing is done.
    site.lab.remove_host("b3")
    site.host_variables["b3"] = {"ansible_host": f"b3.{site.lab.name}"}
    site.groups = {"dsr_load_balancers": ["lb", "lb2"], "dsr_backends": ["b1", "b2", "b3"]}
    state = site.traces()
    lost = site.fails("site", "--limit", "lb2")
    assert "the host b3 of dsr_backends: its IPv4 address is not known" in lost.text
    assert "Set dsr_backend_address" in lost.text
    assert site.traces() == state
    # With its address known the pool is whole, and its MAC is the one of before.
    site.host_variables["b3"]["dsr_backend_address"] = "10.77.0.23"
    again = site.ok("site", "--limit", "lb2")
    assert "WARNING" in again.output and "10.77.0.23" in again.text
    assert again.changed == {"lb2": 0}
    assert site.vips("lb2") == {"web": POOL}


def test_backends_keep_what_a_load_balancer_may_still_send(twin_site: Site) -> None:
    site = twin_site
    site.variables["dsr_verify"] = False
    site.ok("site")
    site.variables["dsr_vips"] = [API]
    part = site.ok("site", "--limit", "lb:dsr_backends")
    assert "Backends keep the VIPs that they have, as lb2 may still send to them" in part.text
    assert site.addresses("b1", "lo") == {"10.77.0.100", "10.77.0.101"}
    assert set(site.vips("lb")) == {"api"}
    assert set(site.vips("lb2")) == {"web"}

    refused = site.fails("remove", "--limit", "lb:dsr_backends")
    assert "lb2 may still send to the backends" in refused.text
    assert site.vips("lb") == {}
    assert site.addresses("b1", "lo") == {"10.77.0.100", "10.77.0.101"}

    site.ok("site")
    assert site.addresses("b1", "lo") == {"10.77.0.101"}
    assert set(site.vips("lb")) == set(site.vips("lb2")) == {"api"}


def test_a_dead_backend_stands_in_nobodys_way(site: Site) -> None:
    site.variables.update(dsr_verify=False, dsr_vips=[{"name": "web", "address": "10.77.0.100", "ports": ["80"]}, API])
    site.ok("site")
    site.groups = {"dsr_load_balancers": ["lb"], "dsr_backends": ["b1", "b2", "b3"]}
    site.lab.remove_host("b3")
    site.host_variables["b3"] = {
        "ansible_host": f"b3.{site.lab.name}",
        "dsr_backend_address": "10.77.0.23",
    }
    # Another one is taken out of service and a VIP is removed, on a Friday.
    site.variables["dsr_vips"] = [{**API, "backends": [{"address": POOL[0]}, {"address": POOL[2]}]}]
    play = site("site")
    assert play.status == 4, play.output  # an unreachable host is always told
    assert site.vips() == {"api": [POOL[0], POOL[2]]}
    assert site.addresses("b1", "lo") == {"10.77.0.101"}
    assert site.addresses("b2", "lo") == set()


def test_a_backend_that_can_not_take_a_vip_on_stops_the_run(site: Site) -> None:
    site.variables["dsr_verify"] = False
    # What somebody else wrote is not overwritten.
    site.lab.write("b2", "/etc/sysctl.d/99-dsr.conf", "net.ipv4.ip_forward = 0\n")
    before = site.traces()
    play = site.fails("site")
    assert "/etc/sysctl.d/99-dsr.conf" in play.text
    after = site.traces()
    assert after["lb"] == before["lb"]  # nothing is sent to a backend that would not take it
    assert after["b2"] == before["b2"]


def test_load_balancers_one_after_the_other_standby_first(twin_site: Site) -> None:
    site = twin_site
    site.variables["dsr_verify"] = False
    site.lab.ip("lb", "address add 10.77.0.100/32 dev eth0")
    play = site.ok("site")
    works = play.output[play.output.index("PLAY [Load balancers are brought to dsr_vips]") :]
    standby, active, *_rest = works.split("PLAY [")[1:]
    assert "[lb2]" in standby and "[lb]" not in standby
    assert "[lb]" in active and "[lb2]" not in active

    # What fails on the standby ends the run, and the active one is as it was.
    site.variables["dsr_vips"] = [API]
    site.lab.run("lb2", ["rm", "-r", "/etc/nft-dsr"])
    site.lab.write("lb2", "/etc/nft-dsr", "in the way\n")
    before = site.traces()
    site.fails("site")
    assert site.traces()["lb"] == before["lb"]
    assert set(site.vips("lb")) == {"web"}
