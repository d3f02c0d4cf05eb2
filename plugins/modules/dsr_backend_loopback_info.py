#!/usr/bin/python
# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dsr_backend_loopback_info
short_description: Virtual IPs of a Layer 2 DSR backend, and whether it would answer for them
version_added: 0.1.0
description:
  - Tells which virtual IPs (VIPs) a backend holds, which ARP settings are in force on each NIC, what a boot would
    bring back, and for each VIP whether this host would answer ARP (for IPv6, neighbour solicitations) for it, and on
    which NIC.
  - RV(problems) is empty when Direct Server Return works with this host now and after a boot.
  - It judges by the rules of the kernel and sends nothing. To see who does answer on the wire, use
    M(dsr.layer2.dsr_neighbour_info) on another host.
author:
  - dsr.layer2 authors (@dsr-layer2)
extends_documentation_fragment:
  - dsr.layer2.attributes
  - dsr.layer2.attributes.info_module
  - dsr.layer2.attributes.actiongroup
requirements:
  - iproute2 on the backend
  - root on the backend
options:
  vips:
    description:
      - VIPs that this host should hold. One that is not there, or that a boot would not bring back, is a problem.
      - Every host address on an interface without neighbours, such as C(lo), is looked at in any case.
    type: list
    elements: str
  interface:
    description: The interface that should hold O(vips).
    type: str
    default: lo
  sysctl_file:
    description: The file that M(dsr.layer2.dsr_backend_loopback) keeps the ARP settings in.
    type: path
    default: /etc/sysctl.d/99-dsr.conf
  netplan_file:
    description: The file that M(dsr.layer2.dsr_backend_loopback) keeps the VIPs in where netplan manages the host.
    type: path
    default: /etc/netplan/99-dsr.yaml
seealso:
  - module: dsr.layer2.dsr_backend_loopback
"""

EXAMPLES = r"""
- name: Look at a backend
  dsr.layer2.dsr_backend_loopback_info:
    vips:
      - 192.0.2.100
  register: backend

- name: Stop if it would answer ARP for a virtual IP, or not serve one
  ansible.builtin.assert:
    that: backend.problems is falsy
    fail_msg: "{{ backend.problems | join('; ') }}"
"""

RETURN = r"""
vips:
  description: The VIPs that the host holds; one that is on two interfaces is there twice.
  returned: success
  type: list
  elements: dict
  contains:
    address:
      description: The VIP.
      returned: success
      type: str
      sample: 192.0.2.100
    interface:
      description: The interface that holds it.
      returned: success
      type: str
      sample: lo
sysctls:
  description:
    - The ARP settings in force, by the name of the interface, and under C(all) those for the whole host.
    - The effective value of an interface is the higher of its own and that of C(all). For a VIP on C(lo), that of the
      NIC which receives the request counts.
  returned: success
  type: dict
  sample:
    all:
      arp_ignore: 1
      arp_announce: 2
    eth0:
      arp_ignore: 0
      arp_announce: 0
      effective_arp_ignore: 1
      effective_arp_announce: 2
persisted:
  description: What a boot would bring back.
  returned: success
  type: dict
  contains:
    manager:
      description:
        - What has VIPs of O(interface) in a file of this collection; V(netplan), V(networkd), V(networkmanager),
          V(ifupdown), V(systemd) or V(none).
      returned: success
      type: str
      sample: netplan
    vips:
      description: The VIPs in those files.
      returned: success
      type: list
      elements: str
      sample:
        - 192.0.2.100
    sysctl_file:
      description: The file with the ARP settings, and what it says.
      returned: success
      type: dict
      contains:
        path:
          description: O(sysctl_file).
          returned: success
          type: str
          sample: /etc/sysctl.d/99-dsr.conf
        exists:
          description: Whether it is there.
          returned: success
          type: bool
        managed:
          description: Whether this collection wrote it.
          returned: success
          type: bool
        arp_ignore:
          description: Its value for C(net.ipv4.conf.all.arp_ignore), or null.
          returned: success
          type: int
          sample: 1
        arp_announce:
          description: Its value for C(net.ipv4.conf.all.arp_announce), or null.
          returned: success
          type: int
          sample: 2
    netplan_file:
      description: The file with the VIPs for netplan, and what it says.
      returned: success
      type: dict
      contains:
        path:
          description: O(netplan_file).
          returned: success
          type: str
          sample: /etc/netplan/99-dsr.yaml
        exists:
          description: Whether it is there.
          returned: success
          type: bool
        managed:
          description: Whether this collection wrote it.
          returned: success
          type: bool
        addresses:
          description: The addresses in it, by netplan's name of the interface. Only if this collection wrote it.
          returned: success
          type: dict
          sample:
            lo:
              - 192.0.2.100
    networkd_files:
      description: The files of this collection for systemd-networkd.
      returned: success
      type: list
      elements: str
      sample: []
    at_boot:
      description: What all files of C(sysctl.d) together come to for C(net.ipv4.conf.all).
      returned: success
      type: dict
      contains:
        arp_ignore:
          description: The value of C(arp_ignore).
          returned: success
          type: int
          sample: 1
        arp_announce:
          description: The value of C(arp_announce).
          returned: success
          type: int
          sample: 2
answers_arp:
  description: For each VIP, whether this host would answer ARP (or IPv6 neighbour solicitations) for it.
  returned: success
  type: list
  elements: dict
  contains:
    address:
      description: The VIP.
      returned: success
      type: str
      sample: 192.0.2.100
    answers:
      description: Whether it would.
      returned: success
      type: bool
      sample: false
    interfaces:
      description: The NICs on which it would.
      returned: success
      type: list
      elements: str
      sample: []
problems:
  description: What keeps Direct Server Return from working with this host, now or after a boot, in sentences.
  returned: success
  type: list
  elements: str
  sample: []
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.dsr.layer2.plugins.module_utils.common.errors import DsrError
from ansible_collections.dsr.layer2.plugins.module_utils.loopback import info
from ansible_collections.dsr.layer2.plugins.module_utils.loopback.host import Host
from ansible_collections.dsr.layer2.plugins.module_utils.loopback.persisted import NETPLAN_FILE, SYSCTL_FILE


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "vips": {"type": "list", "elements": "str"},
            "interface": {"type": "str", "default": "lo"},
            "sysctl_file": {"type": "path", "default": SYSCTL_FILE},
            "netplan_file": {"type": "path", "default": NETPLAN_FILE},
        },
        supports_check_mode=True,
    )
    try:
        result = info.look(Host(), module.params)
    except DsrError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
