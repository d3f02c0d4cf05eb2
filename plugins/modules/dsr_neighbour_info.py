#!/usr/bin/python
# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dsr_neighbour_info
version_added: 0.1.0
short_description: Tell who answers ARP or neighbour solicitations for addresses on the segment
description:
  - Asks for each address, all of them at once, and returns every MAC address that answered. IPv4 addresses are asked
    for by ARP, IPv6 addresses by neighbour solicitations.
  - For a VIP there is to be one answer, the load balancer's. A second one comes from a backend
    on which ARP is not suppressed, or from another holder of the address.
  - The host does not answer itself, so on the load balancer there is to be no answer for its own VIPs.
  - The kernel's neighbour table is neither used nor changed.
author:
  - dsr.layer2 authors (@dsr-layer2)
extends_documentation_fragment:
  - dsr.layer2.attributes
  - dsr.layer2.attributes.info_module
  - dsr.layer2.attributes.actiongroup
requirements:
  - iproute2
attributes:
  check_mode:
    support: full
    details:
      - It changes nothing, so in check mode it does the same. That means that it asks in check mode too.
options:
  addresses:
    description:
      - The addresses to ask for, IPv4 or IPv6.
      - A link-local IPv6 address needs O(interface).
    type: list
    elements: str
    required: true
  interface:
    description:
      - The network interface to ask on.
      - By default, for each address, the one with the on-link route to it, or the one that holds it.
    type: str
  timeout:
    description:
      - How many seconds to wait for answers before asking the silent ones again.
    type: float
    default: 1.0
  attempts:
    description:
      - How many times to ask, from 1 to 100. For addresses that nobody is expected to have, V(1) saves time.
    type: int
    default: 3
  settle:
    description:
      - How many seconds to go on listening after every address has got an answer, to hear of a
        second host that has the same address. V(0) returns at once.
    type: float
    default: 0.3
notes:
  - Needs root, or the capability C(CAP_NET_RAW).
  - To ask for IPv6 addresses the NIC needs one of its own, which may be its link-local one. ARP does without.
seealso:
  - module: dsr.layer2.dsr_probe
"""

EXAMPLES = r"""
- name: Ask who answers for the VIP
  dsr.layer2.dsr_neighbour_info:
    addresses:
      - 192.0.2.100
      - 2001:db8::100
  register: neighbours

- name: Nobody but the load balancer may answer
  ansible.builtin.assert:
    that: neighbours.answers | map(attribute='macs') | unique == [['52:54:00:00:00:02']]

- name: On the load balancer, look for backends that answer for its VIPs
  dsr.layer2.dsr_neighbour_info:
    addresses:
      - 192.0.2.100
      - 192.0.2.101
    interface: eth0
    attempts: 1
  register: others
  failed_when: others.answers | map(attribute='macs') | flatten | length > 0
"""

RETURN = r"""
answers:
  description: One entry for each address, in the order of O(addresses).
  returned: success
  type: list
  elements: dict
  contains:
    address:
      description: The address that was asked for.
      type: str
    interface:
      description: The network interface that it was asked on.
      type: str
    macs:
      description: Every MAC that answered, sorted; empty if nobody did.
      type: list
      elements: str
  sample:
    - address: 192.0.2.100
      interface: eth0
      macs: ["52:54:00:00:00:02"]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.dsr.layer2.plugins.module_utils.common.errors import DsrError
from ansible_collections.dsr.layer2.plugins.module_utils.probe.neighbours import neighbour_info


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "addresses": {"type": "list", "elements": "str", "required": True},
            "interface": {"type": "str"},
            "timeout": {"type": "float", "default": 1.0},
            "attempts": {"type": "int", "default": 3},
            "settle": {"type": "float", "default": 0.3},
        },
        supports_check_mode=True,
    )
    try:
        answers = neighbour_info(module.params)
    except DsrError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, answers=answers)


if __name__ == "__main__":
    main()
