# `make demo` and `make test` need Python 3.11 or newer and nothing else: each sets up what it uses, once.
# Another Python than python3:  make test PYTHON=/path/to/python3.12
# scripts/setup has the steps. A stamp file records that one is done; a lock file that changes repeats it.

PYTHON ?= python3
# The Python that is deployed: pyenv's, or on the PATH. Bytecode is read by that version only.
PYTHON313 ?= $(firstword $(wildcard $(HOME)/.pyenv/versions/3.13*/bin/python) python3.13)
# One more than two cores have: it works while another one waits for a real clock.
PYTEST_WORKERS ?= 3
SEEDS ?= 1000
EXAMPLES ?= 1000
ROUNDS ?= 50
DAYS ?= 180
UPGRADE ?=
ROWS ?=
SHORT ?=
SCALE ?=
CUSTODIAN ?=

VENV := .venv
BIN := $(VENV)/bin
STAMP := .packages
NODE_PACKAGES := simulator/node/node_modules/$(STAMP)
SETUP := PYTHON="$(PYTHON)" sh scripts/setup
PYTEST := -m pytest -q -n $(PYTEST_WORKERS)

# Node for Azurite and the Kusto language service: scripts/setup links it here, whatever its source.
export NODE := $(CURDIR)/$(BIN)/node
# Hosts, deployed copies and test processes import the SDK: without kept bytecode each compiles it again, for seconds.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test setup lint format unit worker coverage soak mutants calendars drain bench fuzz crash package lock clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1|/p' Makefile | while IFS='|' read -r target text; do \
		printf 'make %-10s%s\n' "$$target" "$$text"; done

demo: setup ## Image Patcher at work on a simulated Azure, on this machine
	@$(BIN)/python -m simulator.demo

test: lint unit worker ## every check: style, types, all tests

setup: $(VENV)/$(STAMP) $(NODE_PACKAGES) ## only what demo and test need

lint: $(VENV)/$(STAMP) ## style and types
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet . || { echo "error: these files need 'make format':"; \
		$(BIN)/ruff format --check . | grep '^Would'; exit 1; } >&2
	@$(BIN)/mypy

format: $(VENV)/$(STAMP) ## corrects the style
	@$(BIN)/ruff check --quiet --fix .
	@$(BIN)/ruff format .

unit: setup .venv-scan/$(STAMP) ## every tier of the tests but worker
	@$(BIN)/python $(PYTEST)

worker: ## the tier that runs Microsoft's worker, where there is a Python 3.13: PYTHON313=/path/to/python
	@if $(PYTHON313) -c 'import sys; sys.exit(sys.version_info < (3, 13))' 2>/dev/null; then \
		$(MAKE) --no-print-directory .venv-worker/$(STAMP) PYTHON="$(PYTHON313)" && \
		.venv-worker/bin/python -m pytest -q tests/worker; \
	else echo "tests/worker: not run, as '$(PYTHON313)' is not a Python 3.13 or newer (PYTHON313=/path/to/python3.13)"; fi

coverage: setup ## how much of each room of functions/ the tests run: lines and branches
	@$(BIN)/coverage erase
	@$(BIN)/coverage run $(PYTEST) tests/unit tests/contract tests/scenario tests/fuzz
	@$(BIN)/coverage combine --quiet
	@for room in functions/[a-z]*/ functions/[a-z]*.py function_app.py; do \
		part=$$($(BIN)/coverage report --format=total --include="$$room*,$$room*/*") && \
		printf '%-24s%4s %%\n' "$$room" "$$part"; done

soak: setup ## SEEDS=1000 seeded histories of faults, on all cores
	@$(BIN)/python -m tests.simulation --seeds $(SEEDS)

mutants: setup ## takes guards away one by one: a seed must notice each
	@$(BIN)/python -m tests.simulation.mutants

calendars: setup ## operators' calendars over DAYS=180: how late patches were, and whether forecasts held (minutes)
	@$(BIN)/python -m tests.calendars --days $(DAYS)

drain: setup ## 5,000 machines through one quota, in simulated time (minutes)
	@IMAGE_PATCHER_SOAK=1 $(BIN)/python -m pytest -q -s -k "five_thousand_machines_drain" tests/scenario

bench: setup $(if $(CUSTODIAN),.venv-custodian/$(STAMP)) ## processor time and memory against the floor and peers; ROWS="…", SHORT=1, SCALE=1, CUSTODIAN=1
	@$(BIN)/python -m benchmarks $(if $(SHORT),--size short) $(if $(SCALE),--scale) \
		$(if $(CUSTODIAN),--custodian .venv-custodian/bin/python) $(ROWS)

fuzz: setup ## malformed answers and input: EXAMPLES=1000 of each kind, others than in the tests
	@FUZZ_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest -q -n $(PYTEST_WORKERS) tests/fuzz

crash: setup ## hosts killed over a real Azurite: ROUNDS=50 (minutes)
	@$(BIN)/python -m tests.crash --rounds $(ROUNDS)

package: ## the zip that is deployed, its checksum and SBOM, into dist (Python 3.13)
	@$(PYTHON313) scripts/package.py

lock: .venv-tools/$(STAMP) ## the lock files from pyproject.toml; UPGRADE=1 renews indirect dependencies too
	@sh scripts/lock .venv-tools $(if $(UPGRADE),--upgrade)

clean: ## takes away everything that was set up or built
	rm -rf dist bench.json .venv .venv-worker .venv-scan .venv-tools .venv-custodian simulator/node/node_modules
	rm -rf .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/$(STAMP): locks/dev.txt locks/node.txt scripts/setup
	@$(SETUP) venv $(VENV) $<
	@touch $@

.venv-%/$(STAMP): locks/%.txt scripts/setup
	@$(SETUP) venv .venv-$* $<
	@touch $@

.venv-custodian/$(STAMP): # a peer to compare with, from its own release; nothing of ours uses it
	@$(PYTHON) -m venv .venv-custodian
	@.venv-custodian/bin/pip install --quiet --disable-pip-version-check c7n_azure==0.7.52
	@touch $@

$(BIN)/node: | $(VENV)/$(STAMP)
	@$(SETUP) node $(VENV)

$(NODE_PACKAGES): simulator/node/package.json simulator/node/package-lock.json simulator/node/.npmrc | $(BIN)/node
	@$(SETUP) node-packages $(VENV)
	@touch $@
