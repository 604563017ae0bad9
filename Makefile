# make demo   installs and shows everything on one page: demo/index.html
# make test   installs what the tests need and runs them
# make lint   ruff and mypy
# make parity compares live with PyTorch and torchvision
# make bench  times every row beside PyTorch
# make tpu    compiles every train step and prediction for a TPU, without one

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PINS := -c constraints.txt

.PHONY: demo test lint parity bench tpu clean
.DELETE_ON_ERROR:

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "vision_jax needs Python 3.11 or newer; try: make PYTHON=python3.11 $(MAKECMDGOALS)")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(BIN)/python pyproject.toml constraints.txt
	@echo "Installing vision_jax into $(VENV) (about a minute) ..."
	$(PIP) $(PINS) -e .
	@touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(PIP) $(PINS) -e '.[test]'
	@touch $@

$(VENV)/installed-lint: $(VENV)/installed
	$(PIP) $(PINS) -e '.[lint]'
	@touch $@

# torchvision is installed without its dependencies: torch is pinned above it,
# and its compiled operators are not needed (tests/parity/torchvision_shim.py).
$(VENV)/installed-torch: $(VENV)/installed-test
	$(PIP) torch==2.13.0
	$(PIP) --no-deps torchvision==0.28.0
	@touch $@

demo: $(VENV)/installed
	$(BIN)/vision-jax demo --out demo

test: $(VENV)/installed-test
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

lint: $(VENV)/installed-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

parity: $(VENV)/installed-torch
	XLA_FLAGS="$$XLA_FLAGS" OMP_NUM_THREADS=1 $(BIN)/python -m pytest \
	  --override-ini addopts= -q -n 2 tests/parity $(ARGS)

bench: $(VENV)/installed-torch
	$(BIN)/python -m experiments.benchmarks.run $(ARGS)

# Not in the environment itself: every process that finds libtpu looks for chips.
$(VENV)/installed-tpu: $(VENV)/installed-test
	$(PIP) --no-deps --target $(VENV)/tpu libtpu && touch $@ || \
	  { rm -rf $(VENV)/tpu; echo "libtpu is not to be had here: skipped"; }

tpu: $(VENV)/installed-tpu
	$(BIN)/python -m pytest -rs tests/experiments/test_scaling.py $(ARGS)

clean:
	rm -rf $(VENV) demo runs .pytest_cache .ruff_cache .mypy_cache
