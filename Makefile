# Everything here does its own set-up: a machine needs Python >= 3.11 and make, nothing else.
#
#   PYTHON=python3.12   the Python that builds .venv (default: python3); to change it later,
#                       `make clean` first
#   ARGS="..."          passed on to `curiosity demo` or to pytest
#   WORKERS=4           processes that share the tests (default: 2)
#
# pip is used as it is configured on this machine (PIP_* variables, pip.conf).

PYTHON ?= python3
ARGS ?=
WORKERS ?= 2

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Each takes from the other's end what is left: neither waits long.
SHARED := -n $(WORKERS) --dist worksteal

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help venv demo catalogue queueserver test test-slow test-all lint format clean $(VENV)

help:  ## what there is
	@echo "usage: make TARGET [ARGS=\"...\"] [PYTHON=python3.12]"
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-11s %s\n", $$1, $$2 }' Makefile

$(STAMP): pyproject.toml constraints.txt
	@command -v "$(PYTHON)" >/dev/null 2>&1 || { \
	  echo "make: no '$(PYTHON)' on this machine; Python 3.11 or newer is needed." \
	    "Install it, or name one: make PYTHON=/path/to/python3.12 ..." >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "make: '$(PYTHON)' is $$("$(PYTHON)" -V 2>&1); Python 3.11 or newer is needed." \
	    "Name one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "Installing into $(VENV): some minutes, once."
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || "$(PYTHON)" -m venv --clear $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

$(VENV): $(STAMP)

venv: $(STAMP)  ## the environment alone (.venv)

demo: $(STAMP)  ## the main job on a recorded sample; ARGS go to `curiosity demo`
	@$(BIN)/curiosity demo $(ARGS)

catalogue: $(STAMP)  ## a shared catalogue to try, in ARGS or ./shared-catalogue; needs PostgreSQL
	@$(BIN)/python -m curiosity_bluesky.catalog.shared serve $(or $(ARGS),shared-catalogue)

# The tests start processes: each would compile the package anew where nothing is kept compiled.
test test-slow test-all: export PYTHONDONTWRITEBYTECODE :=

test: $(STAMP)  ## the tests, without the slow ones; ARGS go to pytest
	@$(BIN)/python -m pytest $(SHARED) $(ARGS)

test-slow: $(STAMP)  ## the slow tests alone
	@$(BIN)/python -m pytest $(SHARED) -m slow $(ARGS)

test-all: $(STAMP)  ## all tests
	@$(BIN)/python -m pytest $(SHARED) -m "slow or not slow" $(ARGS)

queueserver: $(STAMP)  ## Redis, Tiled and a Queue Server; ARGS go to `curiosity queue serve`
	@exec $(BIN)/curiosity queue serve $(ARGS)

lint: $(STAMP)  ## ruff, pyright and the rooms' import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

format: $(STAMP)  ## format the code, sort its imports
	$(BIN)/ruff check --fix-only --select I .
	$(BIN)/ruff format .

clean:  ## remove .venv, caches and builds; measured runs stay
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find curiosity_bluesky sim_devices tests profiles -name __pycache__ -type d -prune \
	  -exec rm -rf {} +
