#!/usr/bin/python
# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dsr_backend_connections_info
short_description: Connections that a Layer 2 DSR backend has at virtual IPs
version_added: 0.1.0
description:
  - Counts the TCP connections that this backend has at virtual IPs (VIPs), and tells who has the most of them.
  - A load balancer that goes by a hash keeps no record of connections, so the backend is the only one who knows those
    from before a drain.
  - With O(wait) it waits until there are none, and tells what is left when the time is over.
  - What is over for the application is none, C(TIME_WAIT) above all. Connections of services in a network namespace of
    their own are not seen.
author:
  - dsr.layer2 authors (@dsr-layer2)
extends_documentation_fragment:
  - dsr.layer2.attributes
  - dsr.layer2.attributes.info_module
  - dsr.layer2.attributes.actiongroup
options:
  vips:
    description: The addresses of the VIPs, IPv4 or IPv6.
    type: list
    elements: str
    required: true
  wait:
    description: For how many seconds to wait until there are no connections, up to 86400. V(0) looks once.
    type: float
    default: 0
  ignore:
    description: Addresses of clients that do not count, such as those of load balancers, which check the service.
    type: list
    elements: str
seealso:
  - module: dsr.layer2.nft_dsr_drain
  - module: dsr.layer2.nft_dsr_wait
"""

EXAMPLES = r"""
- name: No new connections for web2
  dsr.layer2.nft_dsr_drain:
    backend: web2
  delegate_to: lb1

- name: Wait until those that it has are gone
  dsr.layer2.dsr_backend_connections_info:
    vips:
      - 192.0.2.100
    wait: 300
  register: at_vips
  failed_when: at_vips.connections > 0
"""

RETURN = r"""
connections:
  description: How many there are.
  returned: success
  type: int
  sample: 3
vips:
  description: The VIPs, in the order of O(vips).
  returned: success
  type: list
  elements: dict
  contains:
    address:
      description: The VIP.
      type: str
    connections:
      description: How many there are to it.
      type: int
    clients:
      description: The five clients that have the most of them.
      type: list
      elements: dict
  sample:
    - address: 192.0.2.100
      connections: 3
      clients:
        - address: 198.51.100.7
          connections: 3
left:
  description: The same for people, of each VIP that has any.
  returned: success
  type: list
  elements: str
  sample:
    - 3 connections to 192.0.2.100, from 198.51.100.7 (3)
waited:
  description: After how many seconds that was so.
  returned: success
  type: float
  sample: 12.3
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.dsr.layer2.plugins.module_utils.common.errors import DsrError
from ansible_collections.dsr.layer2.plugins.module_utils.rolling.leaving import look


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "vips": {"type": "list", "elements": "str", "required": True},
            "wait": {"type": "float", "default": 0},
            "ignore": {"type": "list", "elements": "str"},
        },
        supports_check_mode=True,
    )
    try:
        result = look(module.params)
    except DsrError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
