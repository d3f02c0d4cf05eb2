#!/usr/bin/env bash
# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Puts in place what the demo and the tests need; what is there already costs no time.
#   setup.sh packages FILE...   Debian packages listed in FILEs, by apt-get (needs root only if one is missing)
#   setup.sh venv FILE          .venv from a Python that ansible-core supports, with the pinned packages of FILE
#   setup.sh newest             .cache/newest: the newest ansible-core that a Python of this machine can have
#   setup.sh pins               renew requirements/constraints.txt from what the registry has now
#   setup.sh link               the path under which Python and Ansible import the working tree as dsr.layer2

set -euo pipefail
cd "$(dirname "$0")/../.."

# What the pinned ansible-core runs on.
readonly NEWEST=13 OLDEST=11

fail() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}

installed() {
    [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

apt_updated=no
apt_update() {
    [ "$apt_updated" = no ] || return 0
    apt-get update --quiet=2 || echo "setup: apt-get update had problems; trying with what it has" >&2
    apt_updated=yes
}

available() {
    apt-cache policy "$1" 2>/dev/null | grep --quiet 'Candidate: [^(]'
}

install_packages() {
    command -v apt-get >/dev/null || fail "this set-up knows apt-get alone; install yourself: $*"
    [ "$(id -u)" = 0 ] || fail "root is needed to install packages; as root: apt-get install $*"
    apt_update
    echo "setup: installing $*"
    DEBIAN_FRONTEND=noninteractive apt-get install --quiet=2 --yes --no-install-recommends "$@" >.cache/apt.log 2>&1 || {
        cat .cache/apt.log >&2
        fail "apt-get install failed"
    }
}

# The program is wanted, and no service that runs on this machine from now on.
without_service() {
    local unit=/etc/systemd/system/$1.service
    [ "$(id -u)" = 0 ] && [ -d "${unit%/*}" ] && [ ! -e "$unit" ] && [ ! -L "$unit" ] || return 0
    ln -s /dev/null "$unit"
}

packages() {
    local name missing=()
    command -v dpkg-query >/dev/null || fail "this set-up knows Debian and Ubuntu alone; the lists are in requirements/"
    while read -r name; do
        if [ "${name#!}" != "$name" ]; then
            name=${name#!}
            installed "$name" || without_service "$name"
        fi
        if [ "${name#\?}" != "$name" ]; then
            name=${name#\?}
            installed "$name" && continue
            [ "$(id -u)" = 0 ] && apt_update
            available "$name" || continue
        fi
        installed "$name" || missing+=("$name")
    done < <(sed -e 's/#.*//' -e '/^[[:space:]]*$/d' "$@")
    [ "${#missing[@]}" = 0 ] || install_packages "${missing[@]}"
}

# Whether $1 is a Python that the pinned ansible-core supports. A broken pyenv shim is not.
supported() {
    "$1" -c "import sys; sys.exit(not (3, $OLDEST) <= sys.version_info[:2] <= (3, $NEWEST))" >/dev/null 2>&1
}

find_python() {
    local python candidates=("${PYTHON:-python3}" python3 /usr/bin/python3) minor
    for ((minor = NEWEST; minor >= OLDEST; minor--)); do
        candidates+=("python3.$minor" "/usr/bin/python3.$minor")
    done
    for python in "${candidates[@]}"; do
        if supported "$python"; then
            "$python" -c 'import sys; print(sys.executable)'
            return
        fi
    done
    return 1
}

# Where the distribution's default Python is too old it may still offer a newer one beside it.
install_python() {
    local minor
    [ "$(id -u)" = 0 ] && apt_update
    for ((minor = NEWEST; minor >= OLDEST; minor--)); do
        if available "python3.$minor-venv"; then
            install_packages "python3.$minor" "python3.$minor-venv"
            return
        fi
    done
    fail "no Python 3.$OLDEST to 3.$NEWEST here ($(python3 --version 2>&1 || echo 'no python3')) and the" \
        "distribution offers none; install one and name it: make PYTHON=/path/to/python3.$OLDEST …"
}

venv() {
    local python version
    if ! supported .venv/bin/python; then
        rm -rf .venv
        find_python >/dev/null || install_python
        python=$(find_python) || fail "the Python that was just installed does not run"
        if ! "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
            # Debian keeps these two modules in a package of their own.
            version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
            install_packages "python$version-venv"
        fi
        echo "setup: .venv from $python"
        "$python" -m venv .venv
    fi
    echo "setup: Python packages of $1"
    .venv/bin/python -m pip install --quiet --quiet --disable-pip-version-check \
        --requirement "$1" --constraint requirements/constraints.txt
}

newest() {
    local minor python
    for ((minor = NEWEST; minor >= OLDEST; minor--)); do
        for python in "python3.$minor" "${PYENV_ROOT:-/nonexistent}/versions/3.$minor".*/bin/python3; do
            supported "$python" && break 2
        done
    done
    supported "$python" || fail "no Python 3.$OLDEST to 3.$NEWEST here"
    "$python" -m venv --clear .cache/newest
    .cache/newest/bin/python -m pip install --quiet --quiet --disable-pip-version-check ansible-core
    echo "setup: .cache/newest has ansible-core of $(.cache/newest/bin/python -c 'import ansible; print(ansible.__version__)')"
}

link() {
    local place=.cache/collections/ansible_collections/dsr
    mkdir -p "$place"
    ln -sfn ../../../.. "$place/layer2"
}

pins() {
    local python work constraints=requirements/constraints.txt
    python=$(find_python) || fail "no Python 3.$OLDEST to 3.$NEWEST here"
    work=$(mktemp -d)
    # shellcheck disable=SC2064 # the name as it is now
    trap "rm -rf '$work'" EXIT
    "$python" -m venv "$work"
    "$work/bin/python" -m pip install --quiet --quiet --disable-pip-version-check --requirement requirements/test.txt
    {
        sed '/^[^#]/,$d' "$constraints"
        "$work/bin/python" -m pip freeze
    } >"$work/constraints.txt"
    mv "$work/constraints.txt" "$constraints"
}

mkdir -p .cache
case ${1-} in
packages) shift && packages "$@" ;;
venv) venv "$2" ;;
newest) newest ;;
pins) pins ;;
link) link ;;
*) fail "say: packages FILE..., venv FILE, newest, pins or link" ;;
esac
