PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Both cores are used by running two things at a time: threads inside each would only get in the way.
export OMP_NUM_THREADS ?= 1

.PHONY: demo test install clean

demo: $(VENV)/.installed  ## pre-train, fine-tune and compare on phantoms made on the spot
	$(BIN)/python -m medssl demo --output demo

test: $(VENV)/.installed-dev  ## linters, types, tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2

install: $(VENV)/.installed  ## the package in a virtual environment of its own

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: setup.cfg pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

clean:  ## forget the environment and the demo
	rm -rf $(VENV) demo
