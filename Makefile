# `make demo` and `make test` need Python 3.11 or newer and nothing else: each sets up what it uses, once.
# Another Python than python3:  make test PYTHON=/path/to/python3.12
# What a step does stands in scripts/setup. A stamp file says that it was done; it is done again when its list changes.

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

# Node for Azurite and the Kusto language service: scripts/setup links it here, wherever it came from.
export NODE := $(CURDIR)/$(BIN)/node

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test lint format setup unit runtime soak mutants drain fuzz package clean

help:
	@echo "make demo    Image Patcher at work on a simulated Azure, on this machine"
	@echo "make test    every check: style, types, all tests"
	@echo "make lint    style and types only;  make format  puts the style right"
	@echo "make soak    SEEDS=1000 seeded histories of faults, on all cores;  make mutants  takes guards away"
	@echo "make drain   5,000 machines through one quota (minutes)"
	@echo "make fuzz    odd answers and odd input by the thousand: EXAMPLES=1000"
	@echo "make crash   hosts killed over a real Azurite: ROUNDS=50 (minutes)"
	@echo "make package the zip that is deployed, its checksum and SBOM, into dist (Python 3.13)"
	@echo "make setup   only what demo and test need;  make clean  takes it away again"

demo: setup
	@$(BIN)/python -m simulator.demo

test: lint unit runtime

setup: $(PACKAGES) $(NODE_PACKAGES)

# What scans the deployments has a hundred packages of its own, which the demo needs no more than the other tests do.
checkov: $(CHECKOV)

lint: $(PACKAGES)
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet . || { echo "error: these files need 'make format':"; \
		$(BIN)/ruff format --check . | grep '^Would'; exit 1; } >&2
	@$(BIN)/mypy

format: $(PACKAGES)
	@$(BIN)/ruff check --quiet --fix .
	@$(BIN)/ruff format .

# One file of tests stays in one process, so that its Azurite and its hosts are its own.
unit: setup checkov
	@$(BIN)/python -m pytest -q -n $(PYTEST_WORKERS) --dist loadfile

# Seeded histories of everything that can go wrong, on all cores: make soak SEEDS=10000 (docs/reliability.md).
soak: setup
	@$(BIN)/python -m tests.simulation --seeds $(SEEDS)

# Guards taken away one by one: a seed must notice each.
mutants: setup
	@$(BIN)/python -m tests.simulation.mutants

# 5,000 machines drained through one quota in simulated time, and the like: minutes, so not part of the tests.
drain: setup
	@IMAGE_PATCHER_SOAK=1 $(BIN)/python -m pytest -q -s -k "five_thousand_machines_drain" tests/scenario

# Odd answers and odd input, EXAMPLES of each kind and not the same ones as in the tests.
EXAMPLES ?= 1000
fuzz: setup
	@FUZZ_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest -q -n $(PYTEST_WORKERS) tests/fuzz

# Host processes killed at random moments while a fleet is created and patched; the tests have a short run of it.
ROUNDS ?= 50
crash: setup
	@$(BIN)/python -m tests.crash --rounds $(ROUNDS)

# Microsoft's own worker code, which needs Python 3.13: where there is none, one line says so.
runtime:
	@$(SETUP) runtime $(RUNTIME_VENV)
	@if [ -x $(RUNTIME_VENV)/bin/python ]; then $(RUNTIME_VENV)/bin/python -m pytest -q tests/worker; fi

# Bytecode is read by the Python that is deployed only, so that one builds: named by PYTHON313, pyenv's, or on the PATH.
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
