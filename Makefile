PYTHON ?= python3
# Half of the tests wait for commands that they start.
PYTEST = $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal --durations 15
SLOW = slow or long
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow docs bench gpu-check lint format clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */  make \1\t/' | expand -t 20

setup: $(STAMP)  ## Create .venv and install the project with its development tools

# Installs again only when pyproject.toml is newer than the last successful install.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "Python 3.10 or newer is needed; name one with: make $(MAKECMDGOALS) PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

demo: $(STAMP)  ## Train SOFT on real handwritten digits (about two minutes on two cores)
	$(BIN)/python src/train.py

test: $(STAMP)  ## Run the tests
	$(PYTEST)

test-slow: $(STAMP)  ## Run the tests that `make test` leaves out
	$(PYTEST) -m "$(SLOW)"

docs: $(STAMP)  ## Build the documentation as a site, in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "Open site/index.html in a browser."

bench: $(STAMP)  ## Measure speed and memory against the plain formulation (a few minutes)
	$(BIN)/python src/benchmark.py

gpu-check: $(STAMP)  ## Check numbers, waits, speed and memory on a GPU (at most eight minutes)
	$(BIN)/python src/benchmark.py benchmark=gpu_check

lint: $(STAMP)  ## Check style, formatting and the rules of this code base
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@! grep -rn --include='*.py' '\.cuda(' src/ || { echo "take the device from the inputs instead of .cuda("; exit 1; }

format: $(STAMP)  ## Rewrite the code in the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## Remove the environment and caches, keep outputs/
	rm -rf $(VENV) .pytest_cache .ruff_cache site
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
