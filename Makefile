PYTHON ?= python3
VENV ?= .venv
# Of the annotation server, which needs other packages.
LABEL_VENV ?= .venv-label
BIN := $(VENV)/bin
# Both cores are used by running two things at a time: threads inside each would only get in the way.
export OMP_NUM_THREADS ?= 1

.PHONY: demo test install clean label told test-label

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

label: told $(LABEL_VENV)/.installed  ## serve STUDIES, a folder of scans, to 3D Slicer: LABELS=liver,spleen MODALITY=CT
	$(LABEL_VENV)/bin/python -m medssl.label.server "$(STUDIES)" --labels "$(LABELS)" --modality "$(MODALITY)" \
		--pattern "$(or $(PATTERN),{subject})" --port "$(or $(PORT),8000)"

told:
	@test -n "$(STUDIES)" -a -n "$(LABELS)" -a -n "$(MODALITY)" || \
		{ echo "say what to serve: make label STUDIES=/path/of/scans LABELS=liver,spleen MODALITY=CT"; exit 2; }
	@test -d "$(STUDIES)" || { echo "there is no folder $(STUDIES)"; exit 2; }

test-label: $(LABEL_VENV)/.installed  ## drive the annotation server over HTTP, from the first scan to a trained network
	$(LABEL_VENV)/bin/python -m pytest -W ignore tests/label/server

$(LABEL_VENV)/.installed: setup.cfg requirements/label.txt constraints.txt
	$(PYTHON) -m venv $(LABEL_VENV)
	$(LABEL_VENV)/bin/python -m pip install --quiet -c constraints.txt torch
	$(LABEL_VENV)/bin/python -m pip install --quiet -c constraints.txt -r requirements/label.txt
	$(LABEL_VENV)/bin/python -m pip install --quiet --no-deps monailabel==0.8.5 pydicom-seg==0.4.1
	$(LABEL_VENV)/bin/python -m pip install --quiet --no-deps -e .
	touch $@

clean:  ## forget the environment and the demo
	rm -rf $(VENV) $(LABEL_VENV) demo
