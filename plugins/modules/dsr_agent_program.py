#!/usr/bin/python
# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# All of it is done by the action plugin of the same name, on the controller.

from __future__ import annotations

DOCUMENTATION = r"""
module: dsr_agent_program
short_description: Place the program of a load balancer's agent
version_added: 0.1.0
description:
  - Makes one file of the collection's own code, a zip archive that Python runs, and copies it to the host.
  - The program is the command C(nft-dsr), and what the unit C(nft-dsr-agent.service) runs. The role
    P(dsr.layer2.load_balancer#role) places both.
  - It is made on the controller. The same release of the collection always makes the same bytes.
author:
  - dsr.layer2 authors (@dsr-layer2)
extends_documentation_fragment:
  - dsr.layer2.attributes
  - dsr.layer2.attributes.state_module
  - dsr.layer2.attributes.actiongroup
attributes:
  action:
    description: Has an action plugin of the same name, which runs on the controller.
    support: full
  diff_mode:
    details:
      - Of the program's content, the number of files, the size and a checksum are shown.
requirements:
  - Python 3.9 or later on the host, to run the program; its standard library will do
options:
  dest:
    description: Where on the host the program is placed. The folder has to be there.
    type: path
    required: true
  interpreter:
    description: The Python that runs the program when it is called by its name.
    type: path
    default: /usr/bin/python3
  owner:
    description: Who owns the file. By default it stays as it is, and a new file is owned by who runs the task.
    type: str
  group:
    description: The group that owns the file, likewise.
    type: str
  mode:
    description: The permissions of the file, as C(ansible.builtin.copy) takes them.
    type: raw
    default: "0755"
"""

EXAMPLES = r"""
- name: Place the program
  dsr.layer2.dsr_agent_program:
    dest: /usr/local/lib/nft-dsr/nft-dsr.pyz
    owner: root
    group: root
"""

RETURN = r"""
dest:
  description: Where the program is.
  returned: success
  type: str
  sample: /usr/local/lib/nft-dsr/nft-dsr.pyz
checksum:
  description: The SHA1 of the program.
  returned: success
  type: str
  sample: 6e642bb8dd5c2e027bf21dd923337cbb4214f827
"""
