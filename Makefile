# Everything lives in .venv, made by plain venv and pip from hash-checked lock files.
PYTHON ?= python3
SHELL := /bin/bash
BIN := .venv/bin
PYTEST_ARGS ?=
.DEFAULT_GOAL := help
.NOTPARALLEL:
# Dozens of programs are started by the tests: each would compile all sources for itself.
unexport PYTHONDONTWRITEBYTECODE
.PHONY: help setup dev demo test test-all check lint types layers format docs dist lowest extras audit lock clean

# Names each package as it comes, so that a slow network does not look like a hang.
define install
@echo "installing $(1) ..."
@set -o pipefail; $(BIN)/python -m pip install --disable-pip-version-check --no-input --progress-bar off $(2) \
  | while read -r verb what _; do case "$$verb" in Collecting) echo "  $${what%%==*}";; Installing) echo "  unpacking ...";; esac; done
endef

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 16

setup: .venv/.marline ## install marline and what it needs into .venv (PYTHON=python3.12 picks another Python)
	@echo "ready: $(BIN)/marline"

dev: .venv/.marline .venv/.dev ## setup, and the tools for working on marline

demo: setup ## run marline's demonstration
	@$(BIN)/marline demo

test: check ## lint, types, layers, then all tests but the slow ones (PYTEST_ARGS="-k name" narrows them)
	@$(BIN)/python -m pytest -q -n auto --maxprocesses 8 --dist worksteal --durations=15 $(PYTEST_ARGS)

test-all: ## the same, and the slow tests
	@$(MAKE) --no-print-directory test PYTEST_ARGS="-m '' $(PYTEST_ARGS)"

check: lint types layers ## everything but the tests

lint: dev ## style and formatting
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: dev ## type-check everything that is Python
	@$(BIN)/basedpyright --pythonpath $(BIN)/python

layers: dev ## check that no layer imports a higher one
	@$(BIN)/lint-imports --no-logo

format: dev ## mend style and formatting
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

docs: .venv/.marline .venv/.docs ## build the pages as a site, build/docs/docs/index.html, without a network; a link that leads nowhere is an error
	@$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet -c docs . build/docs
	@echo "built: build/docs/docs/index.html"

dist: setup ## build the wheel and the source archive into dist/
	@rm -rf dist
	@$(BIN)/python -m hatchling build

LOWEST := .venv-lowest/bin/python
lowest: ## try the oldest versions that pyproject.toml allows, in .venv-lowest (needs uv)
	$(need_uv)
	@$(PYTHON) -m venv --clear .venv-lowest
	uv pip install --python $(LOWEST) --resolution lowest-direct --only-binary :all: --no-binary marline --editable '.[dev]'
	$(LOWEST) -m pytest -q $(LOWEST_TESTS) $(PYTEST_ARGS)
# a test of each package that marline needs, or what an extra needs
LOWEST_TESTS := tests/ops tests/algorithms/test_td3_bc.py tests/data/test_dataset.py tests/export/test_policies.py \
  tests/data/formats/test_tables.py tests/data/formats/test_minari.py tests/data/formats/test_vault.py \
  tests/envs/test_mujoco.py tests/envs/test_parallel.py tests/envs/test_traffic.py tests/cli/test_entry.py \
  tests/report/test_report_page.py tests/report/test_report_tracking.py tests/study/test_study.py

EXTRAS := .venv-extras/bin/python
extras: ## try the extras that make dev leaves out, in .venv-extras (needs uv)
	$(need_uv)
	@$(PYTHON) -m venv --clear .venv-extras
	uv pip install --python $(EXTRAS) --only-binary :all: --no-binary marline --editable '.[dev,docs,mlflow,smac,wandb]'
	$(EXTRAS) -m pytest -q -m '' tests/behaviour/test_site.py tests/envs/test_smax.py tests/report/test_report_tracking.py $(PYTEST_ARGS)

AUDIT := .venv-audit/bin
audit: ## ask whether anything in the locks has a known vulnerability, with pip-audit in .venv-audit (needs a network)
	@test -x $(AUDIT)/pip-audit || { $(PYTHON) -m venv --clear .venv-audit && $(AUDIT)/python -m pip install --quiet 'pip-audit>=2.9'; }
	@for lock in requirements*.lock; do echo "$$lock:"; \
	  $(AUDIT)/pip-audit --strict --disable-pip --require-hashes --requirement $$lock || exit 1; done

lock: ## resolve the lock files afresh (needs uv)
	$(need_uv)
	$(call compile,requirements.lock,)
	$(call compile,requirements-dev.lock,--extra dev --constraint requirements.lock)
	$(call compile,requirements-docs.lock,--extra docs --constraint requirements-dev.lock)

need_uv = @command -v uv >/dev/null || { echo "this needs uv: pip install uv"; exit 1; }

clean: ## remove .venv, builds and caches; never runs or data
	rm -rf .venv .venv-lowest .venv-extras .venv-audit dist build .pytest_cache .ruff_cache .import_linter_cache .hypothesis .coverage
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

COMPILE := uv pip compile --universal --generate-hashes --python-version 3.11 --no-header --no-annotate --group build
define compile
@echo "resolving $(1) ..."
@$(COMPILE) --quiet pyproject.toml $(2) --output-file $(1).new
@{ echo "# made by: $(strip $(COMPILE) $(2) pyproject.toml)"; cat $(1).new; } > $(1); rm $(1).new
endef

# Stamps: each step runs again only when what it depends on has changed.
.venv/.python:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) was not found: install Python 3.11 or newer, or say where: make setup PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo "marline needs Python 3.11 or newer and $(PYTHON) is not: try make setup PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "$(PYTHON) has no venv: install it (Debian, Ubuntu: apt install python3-venv)"; exit 1; }
	@echo "making .venv with $$($(PYTHON) -V) ..."
	@$(PYTHON) -m venv --clear .venv
	@touch $@

# --only-binary: a wheel or nothing, so no package runs a build script here.
.venv/.core: requirements.lock .venv/.python
	$(call install,what marline needs (about 160 MB the first time),--only-binary :all: --require-hashes -r requirements.lock)
	@touch $@

.venv/.marline: pyproject.toml .venv/.core
	$(call install,marline,--no-deps --no-build-isolation --editable .)
	@touch $@

.venv/.dev: requirements-dev.lock .venv/.core
	$(call install,the tools for working on marline,--only-binary :all: --require-hashes -r requirements-dev.lock)
	@touch $@

.venv/.docs: requirements-docs.lock .venv/.dev
	$(call install,what builds the pages,--only-binary :all: --require-hashes -r requirements-docs.lock)
	@touch $@
