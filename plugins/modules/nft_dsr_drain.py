#!/usr/bin/python
# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nft_dsr_drain
short_description: Drain a backend of a Layer 2 DSR load balancer, or restore it
version_added: 0.1.0
description:
  - A drained backend keeps the flows that it has and gets no new ones, also none from clients that are to stay with it
    (see O(dsr.layer2.nft_dsr_vip#module:persistence_timeout)).
  - Draining is an operator's override. It is kept in C(/etc/nft-dsr/overrides.json), wins over the configured state
    V(up), and survives runs of M(dsr.layer2.nft_dsr_vips) and reboots until it is restored.
author:
  - dsr.layer2 authors (@dsr-layer2)
extends_documentation_fragment:
  - dsr.layer2.attributes
  - dsr.layer2.attributes.state_module
  - dsr.layer2.attributes.actiongroup
requirements:
  - nftables 1.0.2 or later and iproute2 on the load balancer
options:
  backend:
    description: The backend's address, IPv4 or IPv6, or its name.
    type: str
    required: true
  vip:
    description: The VIP on which the backend is drained; left out, every VIP that has it, later ones included.
    type: str
  state:
    description: V(drained) drains the backend, V(restored) ends that.
    type: str
    choices: [drained, restored]
    default: drained
seealso:
  - module: dsr.layer2.nft_dsr_vips
"""

EXAMPLES = r"""
- name: No new flows for web2
  dsr.layer2.nft_dsr_drain:
    backend: web2

- name: The web2 is back
  dsr.layer2.nft_dsr_drain:
    backend: web2
    state: restored
"""

RETURN = r"""
vips:
  description: The names of the VIPs that have the backend.
  returned: success
  type: list
  elements: str
ruleset:
  description: The nftables text of the whole table.
  returned: success
  type: str
commands:
  description: The nft commands of the transaction that was run, or in check mode would be run.
  returned: success
  type: list
  elements: str
"""

from ansible_collections.dsr.layer2.plugins.module_utils.common.errors import DsrError
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.arguments import VipModule, answer
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.engine import LoadBalancer


def main() -> None:
    module = VipModule(
        argument_spec={
            "backend": {"type": "str", "required": True},
            "vip": {"type": "str"},
            "state": {"type": "str", "choices": ["drained", "restored"], "default": "drained"},
        },
    )
    params = module.params
    try:
        result, vips = LoadBalancer().drain(
            params["backend"], params["vip"], params["state"] == "restored", module.check_mode
        )
    except DsrError as error:
        module.fail_json(msg=str(error))
    answer(module, result, vips=vips)


if __name__ == "__main__":
    main()
