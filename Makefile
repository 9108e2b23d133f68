# Two commands: `make demo` shows the main job, `make test` runs everything.
# Needed: python3 >= 3.11 with venv, and make. All else is installed into .venv from pinned versions.

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
PYTEST := $(PY) -m pytest

export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Also in force while pip builds our own package, so that the build tool is the pinned one.
export PIP_CONSTRAINT := constraints.txt

.PHONY: demo test lint types format suspend bench crash suites clean help
.DEFAULT_GOAL := help

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile | expand -t 16

demo: $(STAMP)  ## run the quickstart notebook, kill it half-way, resume it, write build/demo.html
	@$(PY) notebooks/demo.py

test: $(STAMP)  ## every test, a real browser included where there is one
	@scripts/ensure_chromium.sh
	@$(PY) scripts/side_kernels.py
	@$(PYTEST) -n 2 --dist loadgroup -m "not crash" $(ARGS)

lint: $(STAMP)  ## style, format and the floors
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/lint-imports --no-logo

types: $(STAMP)  ## mypy, strict
	@$(PY) -m mypy flowbook tests $(wildcard benchmarks/*.py notebooks/*.py scripts/*.py migrations/*.py)

format: $(STAMP)  ## rewrite the code in the house format
	@$(VENV)/bin/ruff check --fix-only --quiet .
	@$(VENV)/bin/ruff format .

crash: $(STAMP)  ## the long suite that kills things
	@$(PYTEST) -m crash --timeout 900 tests/crash $(ARGS)

suspend: $(STAMP)  ## every test with runs that are folded anew after each of their steps
	@$(PYTEST) -n 2 --dist loadgroup -m "not crash and not browser" --always-suspend $(ARGS)

bench: $(STAMP)  ## measure; prints a table
	@$(PY) benchmarks/run.py $(ARGS)

suites: $(STAMP)  ## papermill's and nbclient's own tests, papermill's with flowbook as its engine
	@$(PY) scripts/suites.py $(ARGS)

clean:  ## forget .venv, caches and what was built
	@rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is written last: an installation that broke off is taken up again by the next make.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "flowbook needs Python 3.11 or newer, and '$(PYTHON)' is not ($$($(PYTHON) -V 2>&1))."; \
	  echo "Name another one: make PYTHON=python3.12 ..."; exit 1; }
	@test -x $(PY) || $(PYTHON) -m venv $(VENV) || { \
	  echo "'$(PYTHON) -m venv' failed; on Debian and Ubuntu it is the package python3-venv."; exit 1; }
	@echo "installing into $(VENV) (once; a minute or two) ..."
	@$(PY) -m pip install --quiet -e '.[dev]' || { \
	  echo "pip could not install what constraints.txt names; its words are above."; exit 1; }
	@touch $@
