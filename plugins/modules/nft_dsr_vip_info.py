#!/usr/bin/python
# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nft_dsr_vip_info
short_description: The virtual IPs of a Layer 2 DSR load balancer and their figures
version_added: 0.1.0
description:
  - Reads the virtual IPs (VIPs) that a load balancer is to serve, whether its kernel serves them so, and what it
    counted.
  - What an operator drained is shown as drained.
author:
  - dsr.layer2 authors (@dsr-layer2)
extends_documentation_fragment:
  - dsr.layer2.attributes
  - dsr.layer2.attributes.info_module
  - dsr.layer2.attributes.actiongroup
requirements:
  - nftables 1.0.2 or later and iproute2 on the load balancer
options:
  name:
    description: The VIP to tell about; left out, all of them.
    type: str
seealso:
  - module: dsr.layer2.nft_dsr_vips
"""

EXAMPLES = r"""
- name: What does the load balancer do?
  dsr.layer2.nft_dsr_vip_info:
  register: dsr

- name: The kernel has what it should have
  ansible.builtin.assert:
    that: dsr.vips | rejectattr('in_sync') | length == 0
"""

RETURN = r"""
present:
  description: Whether the kernel has the table C(netdev nft_dsr) at all.
  returned: success
  type: bool
vips:
  description:
    - The VIPs, each with the options of M(dsr.layer2.nft_dsr_vip), defaults filled in, and the keys below. Options that
      are not in use are V(null).
  returned: success
  type: list
  elements: dict
  contains:
    in_sync:
      description: Whether the kernel has exactly what the configuration asks for.
      returned: success
      type: bool
    differences:
      description: What differs, in words.
      returned: success
      type: list
      elements: str
    health_ignored:
      description:
        - Whether too few of the pool are healthy, by C(health_check.min_healthy), and therefore all serve. V(null)
          where nothing is checked.
      returned: success
      type: bool
    packets:
      description: Packets that clients sent to the VIP.
      returned: success
      type: int
    bytes:
      description: Bytes that clients sent to the VIP.
      returned: success
      type: int
    backends:
      description:
        - The backends with their options, C(state) as it is now (what an operator drained is C(drain)), C(mac), the
          C(packets) and C(bytes) sent to each, C(flows), the tracked flows that are honoured now, and C(healthy), what
          the agent found out (null where nothing is checked).
        - C(cause) says why a backend fails its check, and C(since) from when on, in UTC. They are V(null) where it does
          not, and are also there while C(health_ignored) lets it serve.
      returned: success
      type: list
      elements: dict
      sample:
        - address: 192.0.2.21
          name: web1
          mac: "02:00:00:00:00:21"
          weight: 1
          state: up
          backup: false
          packets: 1200
          bytes: 96000
          flows: 0
          healthy: false
          cause: connection refused
          since: "2026-01-31T12:00:00Z"
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.dsr.layer2.plugins.module_utils.common.errors import DsrError
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.engine import LoadBalancer


def main() -> None:
    module = AnsibleModule(argument_spec={"name": {"type": "str"}}, supports_check_mode=True)
    try:
        present, vips = LoadBalancer().info(module.params["name"])
    except DsrError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, present=present, vips=vips)


if __name__ == "__main__":
    main()
