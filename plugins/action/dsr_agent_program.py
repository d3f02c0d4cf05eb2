# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the agent's program on the controller, and leaves all else to the action that copies files."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tempfile
import zipfile
from typing import Any, Optional

from ansible import constants as C
from ansible.plugins.action import ActionBase

from ansible_collections.dsr.layer2.plugins.plugin_utils.agent_archive import INTERPRETER, build

# What a diff of a file has if it says nothing of the content
_UNSAID = {"src_binary", "dst_binary", "src_larger", "dst_larger"}


class ActionModule(ActionBase):  # type: ignore[misc]  # Ansible has no types of its own
    """``copy``, of a file that is made on the way."""

    TRANSFERS_FILES = True

    def run(self, tmp: Any = None, task_vars: Optional[dict[str, Any]] = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        _unused, options = self.validate_argument_spec(
            argument_spec={
                "dest": {"type": "path", "required": True},
                "interpreter": {"type": "path", "default": INTERPRETER},
                "owner": {"type": "str"},
                "group": {"type": "str"},
                "mode": {"type": "raw", "default": "0755"},
            }
        )
        program = build(options.pop("interpreter"))
        folder = tempfile.mkdtemp(dir=C.DEFAULT_LOCAL_TMP)
        try:
            source = os.path.join(folder, os.path.basename(options["dest"]) or "program")
            with open(source, "wb") as handle:
                handle.write(program)
            result = self._copy(
                {**{key: value for key, value in options.items() if value is not None}, "src": source}, task_vars
            )
        finally:
            shutil.rmtree(folder)
            self._remove_tmp_path(self._connection._shell.tmpdir)
        if "diff" in result:
            result["diff"] = readable(result["diff"], options["dest"], program)
        return result

    def _copy(self, arguments: dict[str, Any], task_vars: Optional[dict[str, Any]]) -> dict[str, Any]:
        task = self._task.copy()
        task.args = arguments
        copying = self._shared_loader_obj.action_loader.get(
            "ansible.legacy.copy",
            task=task,
            connection=self._connection,
            play_context=self._play_context,
            loader=self._loader,
            templar=self._templar,
            shared_loader_obj=self._shared_loader_obj,
        )
        done: dict[str, Any] = copying.run(task_vars=task_vars)
        return done


def readable(diff: Any, dest: str, program: bytes) -> list[dict[str, Any]]:
    """A diff in which the program is named, where copy says only that it shows none."""
    with zipfile.ZipFile(io.BytesIO(program)) as archive:
        files = len(archive.namelist())
    digest = hashlib.sha256(program).hexdigest()[:12]
    named = {"prepared": f"{dest}: a program of {files} files, {len(program)} bytes, sha256 {digest}...\n"}
    rows = diff if isinstance(diff, list) else [diff]
    return [named if _UNSAID & set(row) else row for row in rows]
