# `make demo` and `make test` need only Python 3.11 or newer: each sets up its tools once.
# To use another Python than python3:  make test PYTHON=/path/to/python3.12
# scripts/setup defines the set-up steps. A stamp file records a finished step. A changed list makes the step run again.

PYTHON ?= python3
PYTEST_WORKERS ?= 2
SEEDS ?= 1000

VENV := .venv
RUNTIME_VENV := .venv-runtime
CHECKOV_VENV := .venv-checkov
BIN := $(VENV)/bin
PACKAGES := $(VENV)/.packages
NODE_PACKAGES := simulator/node/node_modules/.packages
CHECKOV := $(CHECKOV_VENV)/.packages
SETUP := PYTHON="$(PYTHON)" sh scripts/setup

# Node for Azurite and the Kusto language service: scripts/setup links it here, whatever its source.
export NODE := $(CURDIR)/$(BIN)/node

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test lint format setup unit runtime soak mutants drain fuzz package clean

help:
	@echo "make demo    run Image Patcher on a simulated Azure, on this machine"
	@echo "make test    run every check: style, types, all tests"
	@echo "make lint    check style and types only;  make format  corrects the style"
	@echo "make soak    simulate faults over SEEDS=1000 seeds, on all cores;  make mutants  removes guards one by one"
	@echo "make drain   simulate 5,000 machines under one quota (minutes)"
	@echo "make fuzz    test malformed answers and input: EXAMPLES=1000 of each kind"
	@echo "make crash   kill hosts that run on a real Azurite: ROUNDS=50 (minutes)"
	@echo "make package build the deployed zip, its checksum and SBOM in dist (Python 3.13)"
	@echo "make setup   install what demo and test need;  make clean  removes it"

demo: setup
	@$(BIN)/python -m simulator.demo

test: lint unit runtime

setup: $(PACKAGES) $(NODE_PACKAGES)

# The scanner of the deployments has a hundred packages of its own. Neither the demo nor the other tests need them.
checkov: $(CHECKOV)

lint: $(PACKAGES)
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet . || { echo "error: these files need 'make format':"; \
		$(BIN)/ruff format --check . | grep '^Would'; exit 1; } >&2
	@$(BIN)/mypy

format: $(PACKAGES)
	@$(BIN)/ruff check --quiet --fix .
	@$(BIN)/ruff format .

# Each test file stays in one process, so that it has its own Azurite and hosts.
unit: setup checkov
	@$(BIN)/python -m pytest -q -n $(PYTEST_WORKERS) --dist loadfile

# Deterministic simulation under seeded faults, on all cores: make soak SEEDS=10000 (docs/reliability.md).
soak: setup
	@$(BIN)/python -m tests.simulation --seeds $(SEEDS)

# Removes guards one by one: a seed must notice each.
mutants: setup
	@$(BIN)/python -m tests.simulation.mutants

# Installs 5,000 machines under one quota in simulated time. Takes minutes, so it is not part of the tests.
drain: setup
	@IMAGE_PATCHER_SOAK=1 $(BIN)/python -m pytest -q -s -k "five_thousand_machines_drain" tests/scenario

# Malformed answers and input: EXAMPLES of each kind, other ones than in the tests.
EXAMPLES ?= 1000
fuzz: setup
	@FUZZ_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest -q -n $(PYTEST_WORKERS) tests/fuzz

# Kills host processes at random moments while a fleet is created and patched. The tests include a short run.
ROUNDS ?= 50
crash: setup
	@$(BIN)/python -m tests.crash --rounds $(ROUNDS)

# Microsoft's own worker code, which needs Python 3.13. Without it one line says so.
runtime:
	@$(SETUP) runtime $(RUNTIME_VENV)
	@if [ -x $(RUNTIME_VENV)/bin/python ]; then $(RUNTIME_VENV)/bin/python -m pytest -q tests/worker; fi

# Only the deployed Python version reads its bytecode, so it builds: PYTHON313, pyenv's, or the one on the PATH.
package:
	@$(firstword $(PYTHON313) $(wildcard $(HOME)/.pyenv/versions/3.13*/bin/python) python3.13) scripts/package.py

clean:
	rm -rf dist $(VENV) $(RUNTIME_VENV) $(CHECKOV_VENV) simulator/node/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(PACKAGES): requirements.txt requirements-dev.txt scripts/setup
	@$(SETUP) packages $(VENV)
	@touch $@

$(BIN)/node: | $(PACKAGES)
	@$(SETUP) node $(VENV)

$(NODE_PACKAGES): simulator/node/package.json simulator/node/package-lock.json simulator/node/.npmrc | $(BIN)/node
	@$(SETUP) node-packages $(VENV)
	@touch $@

$(CHECKOV): tests/infra/requirements.txt scripts/setup
	@$(SETUP) checkov $(CHECKOV_VENV)
	@touch $@
