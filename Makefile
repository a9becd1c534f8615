# Nothing is needed before `make run` or `make test` but make and python3 (3.11 to 3.13) with venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 8000

.PHONY: run test test-slow clean

run: $(VENV)/edge  ## count the demo smear, live page at http://127.0.0.1:8000
	@trap : INT; $(BIN)/python -m edge.run --demo --port $(PORT) || test $$? -eq 130  # Ctrl-C

test: $(VENV)/dev .venv-peers/ready  ## ruff, mypy, pytest
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest $(PYTEST_ARGUMENTS)

test-slow: $(VENV)/dev  ## the tests that `make test` leaves out: training with JAX, on one device and on two
	$(BIN)/python -m pytest -m slow $(PYTEST_ARGUMENTS)

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# Each stamp is remade when the requirements change.
$(VENV)/edge: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --editable '.[edge]'
	touch $@

# Some come without their dependencies: the tests compare their stand-in for the Pi's camera with picamera2's
# source, and read a model file's metadata with the schema of tflite-support (whose wheels end with 3.11); the
# trackers that ours is measured against ask for an older numpy and for OpenCV with windows, and need neither.
$(VENV)/dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --editable '.[edge,training,dev]'
	$(BIN)/python -m pip install --no-deps picamera2==0.3.38 'tflite-support==0.4.4; python_version < "3.12"'
	$(BIN)/python -m pip install --no-deps supervision==0.26.1 norfair==2.3.0 filterpy==1.4.5
	touch $@

# A receiver of others for the LIS tests, in an environment of its own: its forty dependencies stay out of ours.
.venv-peers/ready:
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install labmcp-astm-lis==0.1.3
	touch $@

clean:
	rm -rf $(VENV) .venv-peers build *.egg-info
