# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules

# The working tree is imported from where "setup" links it, never from a person's own collections.
export ANSIBLE_COLLECTIONS_PATH := $(CURDIR)/.cache/collections
export ANSIBLE_HOME := $(CURDIR)/.cache/ansible
unexport PYTHONPATH

VENV := .venv/bin
STAMPS := .cache/stamps
TOOLS := tests/tools
# Tests whose packets are timed run one after the other unless JOBS says how many at once, those of playbooks two at a time, and
# those of pure logic on all processors.
PYTEST = $(VENV)/pytest --numprocesses $(or $(JOBS),$(1)) --dist worksteal
PARTS := setup lint unit browser sanity archive dataplane playbooks molecule

##@ See it work

.PHONY: help
help: ## This list
	@awk -F ':.*## ' '/^##@/ { printf "\n%s\n", substr($$0, 5) } /^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile
	@printf '\nParts take more arguments in ARGS, such as: make unit ARGS="-k schedule"; JOBS=2 runs two tests with packets at once\n'

.PHONY: demo
demo: $(STAMPS)/packages-demo $(STAMPS)/venv-demo $(STAMPS)/link ## Raise the lab in namespaces and show Direct Server Return in it (root)
	@$(VENV)/python demo/demo.py $(ARGS)

.PHONY: demo-down
demo-down: ## Take the lab of the demo away
	@if [ -x $(VENV)/python ]; then $(VENV)/python demo/demo.py --down; else echo "There is no lab: nothing was set up."; fi

##@ Test

.PHONY: test
test: ## Every part below, in this order; stops at the first that fails
	@$(or $(PYTHON),python3) $(TOOLS)/run_parts.py $(PARTS)

.PHONY: setup
setup: $(STAMPS)/packages-test $(STAMPS)/venv-test $(STAMPS)/link ## What the tests need: Debian packages, .venv, the import path

.PHONY: lint
lint: setup ## Formatting, types, YAML, shell, documentation, changelog, and the archive as a registry would judge it
	$(TOOLS)/lint.sh

.PHONY: unit
unit: setup ## Logic without a kernel: no root, no network
	$(VENV)/pytest --numprocesses auto tests/unit $(ARGS)

.PHONY: browser
browser: setup ## The page of the playbook report in Chromium: light and dark, a desk and a phone, no script, print
	$(VENV)/pytest tests/browser $(ARGS)

.PHONY: sanity
sanity: setup ## ansible-test sanity, with no ignore list
	$(TOOLS)/sanity.sh $(ARGS)

.PHONY: dataplane
dataplane: setup require-root ## Real packets through real rules, in network namespaces (root)
	$(call PYTEST,0) tests/dataplane $(ARGS)

.PHONY: playbooks
playbooks: setup require-root ## The playbooks, on machines made of namespaces (root)
	$(call PYTEST,2) tests/playbooks $(ARGS)

.PHONY: molecule
molecule: setup require-root ## Roles and playbooks on systemd machines in containers, with a reboot (root)
	PATH=$(CURDIR)/$(VENV):$$PATH MOLECULE_GLOB='molecule/*/molecule.yml' $(VENV)/molecule test --all --no-command-borders $(ARGS)

##@ Work on it

.PHONY: format
format: $(STAMPS)/venv-test ## Let ruff put the Python files in form
	$(VENV)/ruff check --fix
	$(VENV)/ruff format

.PHONY: bench
bench: require-root $(STAMPS)/packages-bench $(STAMPS)/venv-demo $(STAMPS)/link ## What it costs, beside others: writes docs/benchmarks (root, about ten minutes)
	@$(VENV)/python tests/benchmark/run.py $(ARGS)

.PHONY: bench-checks
bench-checks: require-root $(STAMPS)/venv-demo $(STAMPS)/link ## What health checks cost: 200 backends, each once in a second (root, three minutes)
	@$(VENV)/python tests/benchmark/checks.py $(ARGS)

.PHONY: bench-steering
bench-steering: require-root $(STAMPS)/venv-demo $(STAMPS)/link ## What least connections cost: up to 100,000 flows (root, six minutes)
	@$(VENV)/python tests/benchmark/steering.py $(ARGS)

.PHONY: build
build: $(STAMPS)/packages-demo $(STAMPS)/venv-demo $(STAMPS)/link ## The archive to publish, in .cache/dist
	rm -rf .cache/dist
	cd "$$($(VENV)/python $(TOOLS)/checkout.py)" && $(CURDIR)/$(VENV)/ansible-galaxy collection build --force --output-path $(CURDIR)/.cache/dist

.PHONY: archive
archive: export ANSIBLE_COLLECTIONS_PATH := $(CURDIR)/.cache/installed
archive: require-root build ## Install the archive into an empty folder, see that it is whole, and run the demo from there (root)
	rm -rf .cache/installed
	$(VENV)/ansible-galaxy collection install .cache/dist/dsr-layer2-*.tar.gz
	$(VENV)/ansible-galaxy collection verify --offline dsr.layer2
	$(VENV)/python demo/demo.py --collections .cache/installed
	$(VENV)/python demo/demo.py --down

.PHONY: sanity-newest
sanity-newest: setup ## ansible-test sanity with the newest ansible-core that this machine's Pythons can have
	$(TOOLS)/setup.sh newest
	SANITY_VENV=.cache/newest $(TOOLS)/sanity.sh $(ARGS)

.PHONY: pins
pins: ## Renew requirements/constraints.txt from what the registry has now
	$(TOOLS)/setup.sh pins

.PHONY: clean
clean: ## Remove .venv and .cache, all but the lab's image
	rm -rf .venv .cache .ansible .mypy_cache .pytest_cache .ruff_cache .hypothesis

.PHONY: require-root
require-root:
	@[ "$$(id -u)" = 0 ] || { echo "This part makes network namespaces and mounts: it needs root." >&2; exit 1; }

# Each stamp is as old as the last time that its set-up was done with these lists.
$(STAMPS):
	mkdir -p $@

$(STAMPS)/packages-demo: requirements/packages-demo.txt | $(STAMPS)
	$(TOOLS)/setup.sh packages $^
	@touch $@

$(STAMPS)/packages-test: requirements/packages-demo.txt requirements/packages-test.txt | $(STAMPS)
	$(TOOLS)/setup.sh packages $^
	@touch $@

$(STAMPS)/packages-bench: requirements/packages-demo.txt requirements/packages-bench.txt | $(STAMPS)
	$(TOOLS)/setup.sh packages $^
	@touch $@

$(STAMPS)/venv-demo: requirements/demo.txt requirements/constraints.txt | $(STAMPS)
	$(TOOLS)/setup.sh venv $<
	@touch $@

$(STAMPS)/venv-test: requirements/test.txt requirements/demo.txt meta/ee-requirements.txt requirements/constraints.txt | $(STAMPS)
	$(TOOLS)/setup.sh venv $<
	@touch $@

$(STAMPS)/link: $(TOOLS)/setup.sh | $(STAMPS)
	$(TOOLS)/setup.sh link
	@touch $@
