# Every target makes .venv by itself, once, and again only when pyproject.toml changes.
# ARGS reaches the command: make faults ARGS=--all   make test ARGS="-m 'not slow'"   make demo ARGS=--full

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)
BIN := .venv/bin
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help env demo test chapters notebooks lint format bench faults clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

env: .venv/.ready-test  ## make or update .venv
	@echo "minigrad is installed in .venv; to use it: source $(BIN)/activate"

demo: .venv/.ready-test  ## train the deep autoencoder by five methods, leave one figure (3 minutes)
	@$(BIN)/python -m minigrad run deep-autoencoder $(ARGS)

test: lint  ## lint, then all tests (under 10 minutes on 2 cores)
	@echo "Style and format are right. Running the tests, under 10 minutes on 2 cores ..."
	@$(BIN)/python -m pytest $(ARGS)

chapters: .venv/.ready-chapters  ## open the book in JupyterLab
	@cd chapters && ../$(BIN)/jupyter lab $(ARGS)

notebooks: .venv/.ready-test  ## execute the chapters, write their .ipynb (2 minutes a chapter at most)
	@$(BIN)/python tools/notebooks.py $(ARGS)

lint: .venv/.ready-test  ## check style and format
	@$(BIN)/ruff check --quiet --output-format concise .
	@$(BIN)/ruff format --check --quiet . || { echo "Some files are not formatted: run make format." >&2; exit 1; }

format: .venv/.ready-test  ## format, and mend what can be mended
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: .venv/.ready-test  ## time minigrad, and PyTorch and JAX where installed (minutes)
	@$(BIN)/python -m benchmarks $(ARGS)

faults: .venv/.ready-test  ## plant faults in the derivation code, see that tests notice (10 to 20 minutes)
	@$(BIN)/python tools/faults.py $(ARGS)

clean:  ## remove .venv, caches and build output
	@rm -rf .venv .pytest_cache .ruff_cache .hypothesis build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.ready-test: pyproject.toml
	@test -n "$(PYTHON)" && "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "minigrad needs Python 3.11 or newer; found none. Name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "Setting up .venv with $(PYTHON): one or two minutes, this once ..."
	@"$(PYTHON)" -m venv .venv
	@$(PIP) install --editable '.[test]'
	@touch $@

.venv/.ready-chapters: .venv/.ready-test
	@echo "Adding JupyterLab to .venv: about a minute, this once ..."
	@$(PIP) install --editable '.[chapters]'
	@touch $@
