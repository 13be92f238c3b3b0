# make demo | test | test-all | coverage | lint | bench: each sets up .venv by itself and needs python3 >= 3.10 and the package index.
# Another Python: make PYTHON=python3.12 test      More for pip (an index, say): make PIP_ARGS="--index-url URL" test
PYTHON ?= python3
PIP_ARGS ?=
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt $(PIP_ARGS)

.PHONY: help demo test test-all coverage lint bench clean

help:
	@sed -n '1,2s/^# //p' Makefile

demo: .venv/.installed
	$(BIN)/srgan3d demo --out demo

test: .venv/.installed-test
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -m "not slow"

test-all: .venv/.installed-test
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest

# The share of the library's lines that `make test` runs; what worker processes run is not counted.
coverage: .venv/.installed-test
	@$(INSTALL) --no-build-isolation -e '.[coverage]'
	$(BIN)/python -m pytest -m "not slow" --cov=SRGAN3DLib --cov-report=term

lint: .venv/.installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: .venv/.installed-bench
	$(BIN)/python benchmarks/bench_inference.py
	$(BIN)/python benchmarks/bench_memory.py
	$(BIN)/python benchmarks/bench_training.py

# Takes what was installed or built; leaves demo/ and runs/ alone.
clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "make: '$(PYTHON)' is absent or older than Python 3.10; name another, as in: make PYTHON=python3.12 demo" >&2; exit 1; }
	@$(PYTHON) -m venv .venv || \
	  { rm -rf .venv; echo "make: '$(PYTHON) -m venv' failed; on Debian and Ubuntu it is the package python3-venv" >&2; exit 1; }

# setuptools comes first, so that the build needs no environment of its own, which constraints.txt would not reach.
.venv/.installed: pyproject.toml constraints.txt | .venv/bin/python
	@echo "Installing into .venv, once; this takes some minutes."
	@$(INSTALL) setuptools
	@$(INSTALL) --no-build-isolation -e .
	@touch $@

# The panel's tests draw with Qt and VTK, which on a bare Linux miss a few system libraries.
QT_LIBRARIES := libegl1 libgl1 libxkbcommon0 libfontconfig1 libdbus-1-3 libglib2.0-0
QT_WORKS := $(BIN)/python -c 'import PySide6.QtWidgets, vtk' 2>/dev/null
.venv/.installed-test: .venv/.installed
	@$(INSTALL) --no-build-isolation -e '.[test,lint]'
	@$(QT_WORKS) || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	  echo "Installing $(QT_LIBRARIES) for the panel's tests" && apt-get update -qq && apt-get install -qq --yes $(QT_LIBRARIES) >/dev/null; }; \
	  $(QT_WORKS) || { echo "make: Qt or VTK cannot be loaded; on Debian and Ubuntu install: $(QT_LIBRARIES)" >&2; exit 1; }
	@touch $@

.venv/.installed-bench: .venv/.installed
	@$(INSTALL) --no-build-isolation -e '.[bench]'
	@touch $@
