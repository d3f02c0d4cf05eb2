#!/usr/bin/env bash
# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# ansible-test sanity on a copy of the working tree. Arguments go to ansible-test.
#   SANITY_VENV    the virtual environment whose ansible-core does it; default: .venv

set -euo pipefail
cd "$(dirname "$0")/../.."
readonly root=$PWD
readonly state=$root/.cache/sanity
venv=$(realpath "${SANITY_VENV:-$root/.venv}")

# ansible-test keeps what it fetches in the home directory; ours stays in .cache, without hiding the person's pip settings.
export XDG_CONFIG_HOME=${XDG_CONFIG_HOME:-$HOME/.config}
export HOME=$state/home
mkdir -p "$HOME/.ansible/test/cache" "$state/bin"

# The pip of its virtual environments comes from a script on a host that not every network reaches. One that installs
# the same pip from a wheel serves as well, and is found first.
core_util=$("$venv/bin/python" -c 'import ansible_test, os; print(os.path.dirname(ansible_test.__file__))')
pip_version=$(sed -n "s/^ *pip='\([0-9.]*\)',.*/\1/p" "$core_util/_internal/python_requirements.py" | head -n 1)
[ -n "$pip_version" ] || { echo "sanity: this ansible-core does not say which pip it wants" >&2; exit 1; }
bootstrap=$HOME/.ansible/test/cache/get_pip_${pip_version//./_}.py
if [ ! -e "$bootstrap" ]; then
    "$root/.venv/bin/python" -m pip download --quiet --quiet --disable-pip-version-check --no-deps --dest "$state/wheels" "pip==$pip_version"
    cat >"$bootstrap" <<PYTHON
import sys

wheel = "$state/wheels/pip-$pip_version-py3-none-any.whl"
sys.path.insert(0, wheel)
from pip._internal.cli.main import main

# --no-setuptools and --no-wheel are get-pip's own; packages are named in full, pip among them.
arguments = [argument for argument in sys.argv[1:] if argument not in ("--no-setuptools", "--no-wheel")]
sys.exit(main(["install", *arguments]))
PYTHON
fi

# The controller's Python, and 3.9 where there is one: the oldest that a managed host may have. Shims of version
# managers name Pythons that may not run, so they are left out of the search path.
path=
IFS=: read -r -a places <<<"$PATH"
for place in "${places[@]}"; do
    case $place in */shims) ;; *) path=$path:$place ;; esac
done
for python in "$(command -v python3.9 || true)" "${PYENV_ROOT:-/nonexistent}"/versions/3.9.*/bin/python3.9; do
    if [ -x "$python" ] && "$python" -c '' 2>/dev/null; then
        ln -sfn "$python" "$state/bin/python3.9"
        break
    fi
done
export PATH=$venv/bin:$state/bin$path

cd "$("$root/.venv/bin/python" tests/tools/checkout.py)"
exec ansible-test sanity --color no --venv "$@"
