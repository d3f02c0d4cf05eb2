#!/usr/bin/python
# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nft_dsr_vip
short_description: One virtual IP of a Layer 2 DSR load balancer
version_added: 0.1.0
description:
  - Adds, changes or removes one virtual IP (VIP) of a load balancer in one nftables transaction; the others stay as
    they are.
  - The load balancer's kernel sends each packet for the VIP to one of its backends by rewriting the frame's
    destination MAC address. The packet itself is not touched, and the backend replies straight to the client.
  - State is compared with the kernel's own listing, so drift is seen in check mode and repaired by a run.
  - For many VIPs M(dsr.layer2.nft_dsr_vips) does it in one call.
  - This module does not put the VIP on a NIC; see M(dsr.layer2.dsr_vip_address).
author:
  - dsr.layer2 authors (@dsr-layer2)
extends_documentation_fragment:
  - dsr.layer2.attributes
  - dsr.layer2.attributes.state_module
  - dsr.layer2.attributes.actiongroup
requirements:
  - nftables 1.0.2 or later and iproute2 on the load balancer
options:
  name:
    description: The identity of the VIP; 1 to 31 lower-case letters, digits, C(-) and C(_), a letter or digit first.
    type: str
    required: true
  state:
    description: Whether the VIP is served.
    type: str
    choices: [present, absent]
    default: present
  address:
    description:
      - The IPv4 or IPv6 address that clients send to, without a prefix length.
      - Required with O(state=present).
    type: str
  interface:
    description:
      - The NIC where the VIP's traffic arrives.
      - Defaults to the NIC that reaches the backends.
    type: str
  backend_interface:
    description:
      - The NIC that reaches the backends.
      - Defaults to the one with an on-link route to all of them; none or more than one is an error, as Layer 2 DSR
        needs one broadcast domain.
      - Required with backends that have link-local IPv6 addresses.
    type: str
  protocol:
    description:
      - The protocol of the VIP's packets.
      - V(any) takes every IP protocol but ICMP, and has no ports; O(ports) and O(scheduler=connection_hash) are refused
        with it. It may stand beside VIPs of the same address with other protocols and takes what they leave.
    type: str
    choices: [tcp, udp, sctp, any]
    default: tcp
  ports:
    description:
      - Ports and ranges of ports, such as V(80) and V(8000-8100).
      - Left out, the VIP takes all ports of its protocol.
    type: list
    elements: str
  scheduler:
    description:
      - How new flows are spread.
      - V(source_hash) chooses by the client's address, V(connection_hash) by its address and port. Both need no state,
        and two load balancers choose alike.
      - V(round_robin) gives each backend its turn, V(weighted_round_robin) as many turns as its weight says. Both track
        flows in the kernel, so that a flow stays on its backend.
      - V(least_connections) sends a new flow where the fewest are open, V(weighted_least_connections) where the
        fewest are for the weight. The agent of the role P(dsr.layer2.load_balancer#role) counts flows and steers, and
        a backend that joins comes to its share in 30 seconds. Without the agent new flows come in turns, by weight,
        with a warning.
    type: str
    choices:
      - source_hash
      - connection_hash
      - round_robin
      - weighted_round_robin
      - least_connections
      - weighted_least_connections
    default: source_hash
  persistence_timeout:
    description:
      - For how many seconds after its last packet a client stays with its backend, at most a week (604800).
      - Flows are tracked then, whatever the scheduler; it chooses for clients that are not remembered. A client is its
        address, on all ports of the VIP.
      - A backend that drains or is not available gets no new flows from its clients either; they move to another one
        and stay there.
      - V(0) remembers nobody.
    type: int
    default: 0
  flow_table:
    description:
      - How flows are tracked.
      - With a hash scheduler without O(persistence_timeout) it takes effect while a backend drains.
    type: dict
    suboptions:
      size:
        description:
          - How many flows are tracked, 1 to 16777216; 1048576 by default. O(persistence_timeout) remembers as many
            clients.
          - Flows that find the table full are sent by the hash of their addresses and ports, and are whole all the
            same.
          - A change keeps the flows where the kernel can resize a table. One that cannot makes it anew and forgets what
            it held; connections that live then go by the hash, which sends some of them elsewhere.
        type: int
      timeouts:
        description:
          - For how many seconds a flow is remembered after its last packet, at most a week (604800).
          - A life time that the protocol of the VIP does not know is refused.
          - A change takes effect with the next packet of a flow.
        type: dict
        suboptions:
          syn:
            description:
              - Of a TCP or SCTP connection that has not gone beyond its first packet; 60 by default.
            type: int
          established:
            description:
              - Of a TCP or SCTP connection; 900 by default.
            type: int
          closing:
            description:
              - Of a TCP or SCTP connection after a packet that ends it; 60 by default. What is half closed lives as
                long as packets come.
            type: int
          udp:
            description:
              - Of a flow of UDP, or of a client with O(protocol=any); 120 by default.
            type: int
  health_check:
    description:
      - How the agent on the load balancer finds out whether a backend serves. One that does not gets no packets, and
        what flows it had move at once; when it is back, it has its share again.
      - Needs the agent, which the role P(dsr.layer2.load_balancer#role) installs with C(load_balancer_agent=true).
        While none runs, nobody checks, all backends count as healthy, and the module warns.
      - An option that has no effect on the check's type is refused.
    type: dict
    suboptions:
      type:
        description:
          - What is asked. V(tcp) connects, V(http) and V(https) get a page, V(dns) asks for a name by UDP, V(icmp)
            pings, V(exec) runs a command on the load balancer.
        type: str
        required: true
        choices: [tcp, http, https, dns, icmp, exec]
      port:
        description:
          - Where it is asked. By default the port of the VIP, if that has one alone and its protocol is the check's.
          - Has no effect on V(icmp).
        type: int
      path:
        description: The page to get, with V(http) and V(https); V(/) by default.
        type: str
      host:
        description: The C(Host) header, with V(http) and V(https); by default the address that is asked.
        type: str
      sni:
        description: The name that is asked for in TLS, with V(https); by default O(health_check.host).
        type: str
      verify_tls:
        description:
          - Whether a certificate has to be valid, with V(https); off by default, as a certificate that expires would
            take away all backends at once. Needs O(health_check.sni) or O(health_check.host).
        type: bool
      status:
        description: HTTP statuses that are fine, such as V(200) and V(200-204); V(200-399) by default.
        type: list
        elements: str
      body:
        description:
          - A regular expression (of Python) that has to be found in the first 64 KiB of the page, with V(http) and
            V(https).
          - Keep it simple. One that takes long to search holds up all other checks.
        type: str
      expect:
        description:
          - With V(tcp), what the server has to send first; with V(dns), an address that has to be in the answer.
        type: str
      query:
        description:
          - The name to ask for, with V(dns), such as V(www.example.com) or V(example.com/MX). Required there.
        type: str
      command:
        description:
          - Program and arguments, with V(exec); no shell is involved. Exit status 0 means healthy. The environment
            has C(DSR_VIP), C(DSR_BACKEND) and C(DSR_PORT). Required there.
        type: list
        elements: str
      interval:
        description: Seconds from one check to the next, 0.1 to 3600; 2 by default.
        type: float
      timeout:
        description:
          - Seconds that an answer may take, at most O(health_check.interval); 1 by default, or the interval if that
            is less. No more than fall / (fall + 1) of the interval is waited, so that O(health_check.fall) failures
            take no longer than as many intervals.
        type: float
      rise:
        description:
          - How many answers in a row make a backend healthy; 2 by default. One that comes and goes has to be well
            for longer.
        type: int
      fall:
        description:
          - How many failures in a row make it unhealthy; 3 by default. That takes O(health_check.interval) times
            O(health_check.fall) at most.
        type: int
      jitter:
        description:
          - By what share of the interval checks may come earlier, so that they do not come together; 0 to 0.5, 0.1
            by default.
        type: float
      min_healthy:
        description:
          - Under this share of the pool, such as V(0.5) or V(50%), health is ignored and all backends serve. If
            nearly all fail, the check is wrong more often than the pool is gone.
          - V(0), the default, ignores nothing.
        type: raw
      via:
        description:
          - V(vip) addresses the check to the VIP, by the backend's MAC address, and takes only that backend's answer.
            So one that lost the VIP is unhealthy although its own address answers. Needs Linux 5.16.
          - V(backend) asks the backend's own address.
          - Has no effect on V(exec). V(vip) is the default.
        type: str
        choices: [vip, backend]
  backends:
    description:
      - The whole pool of the VIP.
      - Required with O(state=present), with at least one that is no backup.
    type: list
    elements: dict
    suboptions:
      address:
        description:
          - The backend's own address, on the load balancer's segment, of the same family as the VIP.
        type: str
        required: true
      name:
        description:
          - A name for people; it can be used to drain the backend.
        type: str
      mac:
        description:
          - The backend's MAC address, pinned.
          - Left out, it is asked for at every run, by ARP or by neighbour solicitation, and the agent follows it if it
            changes.
        type: str
      weight:
        description:
          - The backend's share of new flows beside the others', 0 to 65535. Backups have shares beside each other.
          - V(0) drains the backend, as O(backends[].state=drain) does. With a hash scheduler the backend then keeps the
            slots of weight 1, so V(0) is refused where the weights differ.
          - V(round_robin) and V(least_connections) know V(0) and V(1) only.
        type: int
        default: 1
      state:
        description:
          - V(up) gets new flows.
          - V(drain) keeps the flows that it has and gets no new ones. With a hash scheduler, flows are tracked while a
            backend drains.
          - V(down) gets no packet any more; its flows move to others at once.
        type: str
        choices: [up, drain, down]
        default: up
      backup:
        description:
          - Whether the backend serves only while no other one of the pool can take new flows.
          - Adding a backup moves no flow. Backends that drain keep theirs while backups serve.
        type: bool
        default: false
  require_mac:
    description:
      - Whether a backend whose MAC address is not known fails the whole call.
      - With V(false) such a backend is left out of service with a warning, and comes in when the agent or a later run
        finds it.
    type: bool
    default: true
  on_empty:
    description:
      - What packets get when no backend is left.
      - V(drop) drops them. V(reject) refuses them, TCP by a reset and other protocols by a port unreachable. V(local)
        leaves them to the load balancer's own stack, which may have a page that says sorry.
    type: str
    choices: [drop, reject, local]
    default: drop
  allow_sources:
    description:
      - Networks and addresses of clients that may come; the packets of all others are dropped, also those of flows that
        live.
      - Left out, everybody may come. An empty list is refused, as are networks of the other IP version. At most 4096.
    type: list
    elements: str
  deny_sources:
    description:
      - Networks and addresses of clients whose packets are dropped, also those that O(allow_sources) has.
      - Networks of the other IP version are refused. At most 4096.
    type: list
    elements: str
  new_flows_per_source:
    description:
      - How many new flows a client may begin, such as V(100/second), V(500/minute), V(1000/hour) or V(5000/day), 1 to
        1000000; those above it are dropped. As many may come at once.
      - Counted are the packets that begin TCP and SCTP connections, and other flows where they are tracked. With
        O(protocol=udp) or O(protocol=any), a hash scheduler and no O(persistence_timeout) nobody knows which packet
        begins a flow, so it is refused there.
    type: str
seealso:
  - module: dsr.layer2.nft_dsr_vips
  - module: dsr.layer2.nft_dsr_vip_info
  - module: dsr.layer2.dsr_vip_address
"""

EXAMPLES = r"""
- name: A web service on two backends
  dsr.layer2.nft_dsr_vip:
    name: web
    address: 192.0.2.100
    ports: ["80", "443"]
    scheduler: weighted_round_robin
    backends:
      - address: 192.0.2.21
        name: web1
        weight: 3
      - address: 192.0.2.22
        name: web2

- name: See what taking web2 out of service would do
  dsr.layer2.nft_dsr_vip:
    name: web
    address: 192.0.2.100
    ports: ["80", "443"]
    scheduler: weighted_round_robin
    backends:
      - address: 192.0.2.21
        name: web1
        weight: 3
      - address: 192.0.2.22
        name: web2
        state: drain
  check_mode: true
  diff: true

- name: A web service in IPv6 with a backup, for clients of some networks
  dsr.layer2.nft_dsr_vip:
    name: web6
    address: 2001:db8::100
    ports: ["80", "443"]
    persistence_timeout: 600
    allow_sources: [2001:db8::/32]
    new_flows_per_source: 100/second
    on_empty: reject
    backends:
      - address: 2001:db8::21
      - address: 2001:db8::22
      - address: 2001:db8::29
        backup: true

- name: Whatever else comes to the address goes to one place
  dsr.layer2.nft_dsr_vip:
    name: rest
    address: 192.0.2.100
    protocol: any
    backends:
      - address: 192.0.2.29

- name: The VIP is served no longer
  dsr.layer2.nft_dsr_vip:
    name: web
    state: absent
"""

RETURN = r"""
vip:
  description: The VIP with defaults, NICs and MAC addresses filled in; empty with O(state=absent).
  returned: success
  type: dict
  sample:
    name: web
    address: 192.0.2.100
    interface: eth0
    backend_interface: eth0
    protocol: tcp
    ports: ["80", "443"]
    scheduler: weighted_round_robin
    persistence_timeout: 0
    flow_table:
      size: 1048576
      timeouts:
        syn: 60
        established: 900
        closing: 60
    backends:
      - address: 192.0.2.21
        name: web1
        mac: "02:00:00:00:00:21"
        weight: 3
        state: up
        backup: false
    require_mac: true
    on_empty: drop
    allow_sources: null
    deny_sources: null
    new_flows_per_source: null
    health_check: null
ruleset:
  description: The nftables text of the whole table; empty when no VIP is left.
  returned: success
  type: str
commands:
  description: The nft commands of the transaction that was run, or in check mode would be run.
  returned: success
  type: list
  elements: str
"""

from ansible_collections.dsr.layer2.plugins.module_utils.common.errors import DsrError
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr import model
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.arguments import (
    VipModule,
    answer,
    vip_arguments,
    vip_options,
)
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.engine import LoadBalancer


def main() -> None:
    module = VipModule(
        # Without "present" most options may be missing, and Ansible says best what is wrong.
        check=lambda params: params.get("state", "present") == "present" and model.parse_vip(vip_options(params), ""),
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "address": {"type": "str"},
            **vip_arguments(),
        },
        required_if=[("state", "present", ("address", "backends"))],
    )
    params = module.params
    try:
        if params["state"] == "absent":
            result = LoadBalancer().remove_vip(params["name"], module.check_mode)
        else:
            result = LoadBalancer().set_vip(vip_options(params), module.check_mode)
    except DsrError as error:
        module.fail_json(msg=str(error))
    answer(module, result, vip=next((vip for vip in result.vips if vip["name"] == params["name"]), {}))


if __name__ == "__main__":
    main()
