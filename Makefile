# Every target makes its own environment in .venv from nothing but Python.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO_OUT ?= runs/demo
WORKERS ?= -n 2 --dist loadfile --no-loadscope-reorder  # processes that share the test files; empty for one
# Empty CONSTRAINTS installs the newest versions that setup.py allows.
CONSTRAINTS ?= --constraint constraints.txt
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS)
export TF_CPP_MIN_LOG_LEVEL ?= 2

.PHONY: demo test test-all lint format benchmark docs clean

$(VENV)/.installed: setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(INSTALL) -e '.[dev]'
	touch $@

demo: $(VENV)/.installed
	$(BIN)/python -m recipes.simclr --preset=shapes --out=$(DEMO_OUT)

test: lint
	$(BIN)/python -m pytest $(WORKERS) -m "not slow"

test-all: lint
	$(BIN)/python -m pytest $(WORKERS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

benchmark: $(VENV)/.installed-dev
	$(BIN)/python -m benchmarks.throughput

docs: $(VENV)/.installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --config-file docs/mkdocs.yml

clean:
	rm -rf $(VENV) runs build site *.egg-info
