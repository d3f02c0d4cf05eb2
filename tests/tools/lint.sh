#!/usr/bin/env bash
# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Every checker that needs no machine to test on. All of them run, then the failed ones are named.

set -euo pipefail
cd "$(dirname "$0")/../.."
readonly root=$PWD dist=$PWD/.cache/dist
export PATH=$root/.venv/bin:$PATH
export NO_COLOR=1 ANSIBLE_NOCOLOR=1
failed=()

check() {
    local name=$1 start=$SECONDS
    shift
    if "$@"; then
        printf -- '--- %s: ok (%d s)\n' "$name" $((SECONDS - start))
    else
        printf -- '--- %s: FAILED\n' "$name"
        failed+=("$name")
    fi
}

types() {
    local collection=ansible_collections.dsr.layer2 places
    places=(--package "$collection.plugins" --package "$collection.molecule.resources" --package lab --package benchmark --package tools)
    mypy "${places[@]}"
}

shell_scripts() {
    local file
    while IFS= read -r -d '' file; do
        if [ -f "$file" ] && [[ "$(head -n 1 -- "$file" | tr -d '\0')" =~ ^\#!.*[/\ ](ba|da)?sh( |$) ]]; then
            printf '%s\0' "$file"
        fi
    done < <(git ls-files -z --cached --others --exclude-standard) | xargs --null --no-run-if-empty shellcheck
}

builds() {
    rm -rf "$dist" && ansible-galaxy collection build --output-path "$dist" >/dev/null
}

# A registry's importer passes with complaints; here a complaint fails.
importer() {
    local log=$dist/importer.log archives=("$dist"/dsr-layer2-*.tar.gz)
    if (cd "$dist" && GALAXY_IMPORTER_CONFIG=$root/tests/tools/galaxy-importer.cfg \
        python -m galaxy_importer.main "${archives[0]}") >"$log" 2>&1 && ! grep --quiet --extended-regexp '^(WARNING|ERROR)' "$log"; then
        return
    fi
    cat "$log" >&2
    return 1
}

check "ruff" ruff check --quiet
check "ruff format" ruff format --quiet --check
check "mypy" types
check "shellcheck" shell_scripts
check "yamllint" yamllint --strict .

# The rest looks at the collection as a whole, and gets a copy of the working tree under the name that it expects.
export ANSIBLE_COLLECTIONS_PATH=$root/.cache/checkout ANSIBLE_HOME=$root/.cache/ansible
cd "$(python tests/tools/checkout.py)"
check "ansible-lint" ansible-lint --offline --strict -q
check "antsibull-docs" antsibull-docs lint-collection-docs \
    --plugin-docs --validate-collection-refs=self --disallow-unknown-collection-refs .
check "antsibull-changelog" antsibull-changelog lint
check "collection build" builds
check "galaxy-importer" importer

if [ "${#failed[@]}" != 0 ]; then
    printf 'lint failed: %s\n' "${failed[*]}" >&2
    exit 1
fi
