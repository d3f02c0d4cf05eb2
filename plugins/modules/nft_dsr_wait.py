#!/usr/bin/python
# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nft_dsr_wait
short_description: Wait on a Layer 2 DSR load balancer until a backend gets nothing any more, or serves
version_added: 0.1.0
description:
  - Runs on the load balancer, looks again and again, and tells what is not yet so when the time is over.
  - That is no failure of the task. Look at RV(reached).
author:
  - dsr.layer2 authors (@dsr-layer2)
extends_documentation_fragment:
  - dsr.layer2.attributes
  - dsr.layer2.attributes.info_module
  - dsr.layer2.attributes.actiongroup
requirements:
  - nftables 1.0.2 or later and iproute2 on the load balancer
attributes:
  check_mode:
    support: full
    details:
      - It changes nothing, so in check mode it does the same. That means that it asks backends in check mode too.
options:
  backend:
    description: The backend's address, IPv4 or IPv6, or its name.
    type: str
    required: true
  until:
    description:
      - V(quiet) waits until the load balancer has sent the backend no packet for O(quiet) seconds. Only VIPs that are
        not TCP count; the connections of the others the backend itself knows
        (M(dsr.layer2.dsr_backend_connections_info)). It takes O(quiet) seconds at the least, whatever O(timeout) is.
      - V(serving) waits until the backend passes the health check of each of its VIPs, carried out now, and the agent
        has it as healthy too. Where there is no health check, it has to take a TCP connection to the first port, sent
        through its MAC address. VIPs with neither are not tried. It may drain meanwhile.
    type: str
    choices: [quiet, serving]
    required: true
  timeout:
    description: For how many seconds to wait, up to 86400. V(0) looks once.
    type: float
    default: 0
  quiet:
    description: With O(until=quiet), for how many seconds no packet may have been sent.
    type: float
    default: 5
seealso:
  - module: dsr.layer2.nft_dsr_drain
  - module: dsr.layer2.dsr_backend_connections_info
"""

EXAMPLES = r"""
- name: Wait until web2 serves again
  dsr.layer2.nft_dsr_wait:
    backend: web2
    until: serving
    timeout: 60
  register: waited
  failed_when: not waited.reached
"""

RETURN = r"""
reached:
  description: Whether it is so.
  returned: success
  type: bool
left:
  description: What is not yet so, in words.
  returned: success
  type: list
  elements: str
  sample:
    - "the VIP web: connection refused"
waited:
  description: After how many seconds that was so.
  returned: success
  type: float
  sample: 1.3
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.dsr.layer2.plugins.module_utils.common.errors import DsrError
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.engine import LoadBalancer
from ansible_collections.dsr.layer2.plugins.module_utils.rolling.balancing import QUIET, SERVING, look


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "backend": {"type": "str", "required": True},
            "until": {"type": "str", "choices": [QUIET, SERVING], "required": True},
            "timeout": {"type": "float", "default": 0},
            "quiet": {"type": "float", "default": 5},
        },
        supports_check_mode=True,
    )
    try:
        result = look(module.params, LoadBalancer())
    except DsrError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
