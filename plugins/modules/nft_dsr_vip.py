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
      - The IPv4 address that clients send to, without a prefix length.
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
    type: str
  protocol:
    description: The protocol of the VIP's packets.
    type: str
    choices: [tcp, udp]
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
      - V(source_hash) chooses by the client's address, V(connection_hash) by its address and port. Both need no
        state, and two load balancers choose alike.
      - V(round_robin) gives each backend its turn, V(weighted_round_robin) as many turns as its weight says. Both
        track flows in the kernel, so that a flow stays on its backend.
    type: str
    choices: [source_hash, connection_hash, round_robin, weighted_round_robin]
    default: source_hash
  backends:
    description:
      - The whole pool of the VIP.
      - Required with O(state=present), with at least one backend.
    type: list
    elements: dict
    suboptions:
      address:
        description: The backend's own IPv4 address, on the load balancer's segment.
        type: str
        required: true
      name:
        description: A name for people; it can be used to drain the backend.
        type: str
      mac:
        description:
          - The backend's MAC address, pinned.
          - Left out, it is asked for by ARP at every run.
        type: str
      weight:
        description:
          - The backend's share of new flows beside the others', 0 to 65535.
          - V(0) drains the backend, as O(backends[].state=drain) does. With a hash scheduler the backend then keeps
            the slots of weight 1, so V(0) is refused where the weights differ.
          - V(round_robin) knows V(0) and V(1) only.
        type: int
        default: 1
      state:
        description:
          - V(up) gets new flows.
          - V(drain) keeps the flows that it has and gets no new ones. With a hash scheduler, flows are tracked while
            a backend drains.
          - V(down) gets no packet any more; its flows move to others at once.
        type: str
        choices: [up, drain, down]
        default: up
  require_mac:
    description:
      - Whether a backend whose MAC address is not known fails the whole call.
      - With V(false) such a backend is left out of service with a warning, and comes in with a later run that finds
        it.
    type: bool
    default: true
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
    require_mac: true
    backends:
      - address: 192.0.2.21
        name: web1
        mac: "02:00:00:00:00:21"
        weight: 3
        state: up
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
