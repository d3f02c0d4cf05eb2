#!/usr/bin/python
# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dsr_preflight_info
version_added: 0.1.0
short_description: Find what is in the way of Layer 2 DSR on one host
description:
  - Makes the checks that one host can make of itself, and gathers what is compared with other hosts. It changes
    nothing, and needs nothing of this collection on the host; on a running system it finds what came in the way.
  - On a load balancer, whether nft and the kernel can do what is needed, whether the backends answer on its
    segment, who else answers for the VIPs, and large receive offload (LRO).
  - On a backend, VIPs on its NIC, the way back to clients and C(rp_filter), sysctl files that undo what the role sets,
    a firewall that drops the VIPs' packets, and services that do not listen at the VIPs.
  - The playbook C(dsr.layer2.preflight) asks all hosts, sends frames between them, and shows one table.
author:
  - dsr.layer2 authors (@dsr-layer2)
extends_documentation_fragment:
  - dsr.layer2.attributes
  - dsr.layer2.attributes.info_module
  - dsr.layer2.attributes.actiongroup
requirements:
  - iproute2
options:
  end:
    description:
      - Which end of the way this host is.
    type: str
    choices: [load_balancer, backend, client]
    required: true
  pools:
    description:
      - VIPs, together with those that have the same backends. P(dsr.layer2.preflight_pools#filter) makes it of VIPs.
    type: list
    elements: dict
    default: []
    suboptions:
      vips:
        description:
          - The VIPs.
        type: list
        elements: dict
        required: true
        suboptions:
          name:
            description:
              - The name of the VIP, its address by default.
            type: str
          address:
            description:
              - Its address.
            type: str
            required: true
          protocol:
            description:
              - Its protocol.
            type: str
            default: tcp
          ports:
            description:
              - Its ports and ranges of ports, all by default.
            type: list
            elements: str
      backends:
        description:
          - Their backends; on a backend, itself.
        type: list
        elements: dict
        suboptions:
          address:
            description:
              - The address of the backend.
            type: str
            required: true
          name:
            description:
              - Its name.
            type: str
          mac:
            description:
              - Its MAC address, where that is pinned.
            type: str
          in_service:
            description:
              - Whether it gets new clients. What is wrong with one that does not is a warning at most.
            type: bool
            default: true
      interface:
        description:
          - The NIC where the VIPs' traffic arrives, if it is given.
        type: str
      backend_interface:
        description:
          - The NIC behind which the backends are, if it is given.
        type: str
  clients:
    description:
      - Addresses of clients, to which a backend has to have a way back.
    type: list
    elements: str
    default: []
  ask:
    description:
      - Whether a load balancer asks its segment for the MAC addresses of backends and for other holders of the VIPs.
      - With V(false) the check C(segment) is left out.
    type: bool
    default: true
  timeout:
    description:
      - How many seconds to wait for answers before asking the silent ones again.
    type: float
    default: 1.0
  sysctl_file:
    description:
      - The file in which M(dsr.layer2.dsr_backend_loopback) keeps the ARP settings.
    type: path
    default: /etc/sysctl.d/99-dsr.conf
  installs:
    description:
      - Whether a missing C(nft) or C(ip) may be installed later, and so is no failure.
    type: bool
    default: true
  warn:
    description:
      - Whether what is doubtful is given as warnings of Ansible as well.
    type: bool
    default: false
notes:
  - Needs root.
seealso:
  - module: dsr.layer2.dsr_vip_frames
  - module: dsr.layer2.dsr_backend_loopback_info
"""

EXAMPLES = r"""
- name: Look at a load balancer
  dsr.layer2.dsr_preflight_info:
    end: load_balancer
    pools: "{{ dsr_vips | dsr.layer2.preflight_pools }}"
  register: seen

- name: Stop if something is certain to break
  ansible.builtin.assert:
    that: seen.problems | length == 0
    fail_msg: "{{ seen.problems }}"

- name: Look at a backend
  dsr.layer2.dsr_preflight_info:
    end: backend
    pools:
      - vips:
          - address: 192.0.2.100
            ports: ["80"]
        backends:
          - address: 192.0.2.21
"""

RETURN = r"""
findings:
  description: What the checks found.
  returned: success
  type: list
  elements: dict
  contains:
    check:
      description: The check.
      type: str
      sample: way back
    result:
      description: V(ok), V(warning), V(FAILED) or V(not tested).
      type: str
      sample: ok
    what:
      description: What was seen.
      type: str
      sample: by eth0; rp_filter off
    do:
      description: What to do about it.
      type: str
      sample: ""
problems:
  description: What failed, in sentences.
  returned: success
  type: list
  elements: str
  sample: []
facts:
  description: What is compared with other hosts; most of it depends on O(end).
  returned: success
  type: dict
  contains:
    nics:
      description: By the name of each NIC its C(mac) and C(mtu).
      type: dict
    sources:
      description: By address asked about, the address from which this host speaks to it.
      type: dict
    holds:
      description: The VIPs that this host holds as it should.
      type: list
      elements: str
    pools:
      description: Of a load balancer. For each of O(pools) the C(interface) and C(backend_interface) found.
      type: list
      elements: dict
    answers:
      description: Of a load balancer. By VIP the MAC addresses of others that answer for it.
      type: dict
    backends:
      description: Of a load balancer. By address of each backend its C(interface), C(mac) and C(in_service).
      type: dict
    interface:
      description: Of a backend. The NIC on which frames for it come in, or an empty text.
      type: str
    forwards:
      description: Of a backend. The IP versions in which it forwards packets.
      type: list
      elements: int
    in_service:
      description: Of a backend. Whether it gets new clients for any VIP.
      type: bool
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.dsr.layer2.plugins.module_utils.common.errors import DsrError
from ansible_collections.dsr.layer2.plugins.module_utils.loopback.persisted import SYSCTL_FILE
from ansible_collections.dsr.layer2.plugins.module_utils.preflight import finding, look, request

_VIP = {
    "name": {"type": "str"},
    "address": {"type": "str", "required": True},
    "protocol": {"type": "str", "default": "tcp"},
    "ports": {"type": "list", "elements": "str"},
}
_BACKEND = {
    "address": {"type": "str", "required": True},
    "name": {"type": "str"},
    "mac": {"type": "str"},
    "in_service": {"type": "bool", "default": True},
}
_POOL = {
    "vips": {"type": "list", "elements": "dict", "required": True, "options": _VIP},
    "backends": {"type": "list", "elements": "dict", "options": _BACKEND},
    "interface": {"type": "str"},
    "backend_interface": {"type": "str"},
}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "end": {"type": "str", "choices": ["load_balancer", "backend", "client"], "required": True},
            "pools": {"type": "list", "elements": "dict", "default": [], "options": _POOL},
            "clients": {"type": "list", "elements": "str", "default": []},
            "ask": {"type": "bool", "default": True},
            "timeout": {"type": "float", "default": 1.0},
            "sysctl_file": {"type": "path", "default": SYSCTL_FILE},
            "installs": {"type": "bool", "default": True},
            "warn": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    try:
        taken = look.Look(request.parse(module.params))
        taken.take()
    except DsrError as error:
        module.fail_json(msg=str(error))
    problems = []
    for one in taken.findings:
        text = f"{one.check}: {one.what}" + (f"; {one.do}" if one.do else "")
        if one.result == finding.FAILED:
            problems.append(text)
        elif module.params["warn"] and one.result == finding.WARNING:
            module.warn(text)
    module.exit_json(
        changed=False, findings=[one.row() for one in taken.findings], problems=problems, facts=taken.facts
    )


if __name__ == "__main__":
    main()
