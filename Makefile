# Nothing is needed before `make run` or `make test` but make and python3 (3.11 to 3.13) with venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 8000

.PHONY: run test clean

run: $(VENV)/edge  ## count the demo smear, live page at http://127.0.0.1:8000
	$(BIN)/python -m edge.run --demo --port $(PORT) || test $$? -eq 130  # Ctrl-C

test: $(VENV)/dev  ## ruff, mypy, pytest
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest $(PYTEST_ARGUMENTS)

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# Each stamp is remade when the requirements change.
$(VENV)/edge: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[edge]'
	touch $@

# picamera2 comes without its dependencies (libcamera is not on the package index): the tests compare
# their stand-in with its source.
$(VENV)/dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[edge,training,dev]'
	$(BIN)/python -m pip install --quiet --no-deps picamera2==0.3.38
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
