# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """What every module of this collection says about itself.

    ``dsr.layer2.attributes`` explains the attributes; a module states its support of each, or takes that from
    ``dsr.layer2.attributes.info_module`` as well when it only reads. ``dsr.layer2.attributes.actiongroup`` names
    the group for ``module_defaults``.
    """

    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
  diff_mode:
    description: Will return details on what has changed (or would change in C(check_mode)), when in diff mode.
  idempotent:
    description:
      - When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
      - This assumes that nothing else changes the host in between.
  platform:
    description: Target OS/families that can be operated against.
"""

    # For modules that read only. Use it together with the standard fragment.
    INFO_MODULE = r"""
options: {}
attributes:
  check_mode:
    support: full
    details:
      - This action does not modify state.
  diff_mode:
    support: N/A
    details:
      - This action does not modify state.
  idempotent:
    support: full
    details:
      - This action does not modify state.
  platform:
    support: full
    platforms: linux
"""

    # For modules that compare the host with what is asked for, and change the difference. Use it together with the
    # standard fragment.
    STATE_MODULE = r"""
options: {}
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
  platform:
    support: full
    platforms: linux
"""

    ACTIONGROUP = r"""
options: {}
attributes:
  action_group:
    description: Use C(group/dsr.layer2.dsr) in C(module_defaults) to set defaults for this module.
    support: full
    membership:
      - dsr.layer2.dsr
"""
