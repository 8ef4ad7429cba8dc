# Each target makes the virtual environment that it needs. PYTHON=python3.12 takes another one.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
NPM_INSTALL = npm install --no-package-lock --no-audit --no-fund --silent

.PHONY: serve test test-python test-js lint conformance bench clean

serve: $(VENV)/run.stamp
	$(BIN)/kps serve

test: test-python test-js

test-python: $(VENV)/dev.stamp
	$(BIN)/pytest

# The JavaScript client, and the console in a browser. Without Node they are left out.
test-js: $(VENV)/dev.stamp
ifeq ($(shell command -v npm),)
	@echo "no npm here: the tests of the JavaScript client and of the console were skipped"
else
	cd clients/js && $(NPM_INSTALL) && KPS_PYTHON=$(abspath $(BIN))/python npm test
	cd tests/web && $(NPM_INSTALL) && KPS_PYTHON=$(abspath $(BIN))/python npm test
endif

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# The WebSocket under the Autobahn suite, which needs a Python 2.7. CASES=full is all of it.
CASES ?= core
conformance: $(VENV)/run.stamp
	$(BIN)/python -m tests.autobahn.run $(CASES)

bench: $(VENV)/bench.stamp
	$(BIN)/python benchmarks/run.py --write

clean:
	rm -rf $(VENV)

$(VENV)/run.stamp: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable .
	touch $@

$(VENV)/dev.stamp: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@ $(VENV)/run.stamp

$(VENV)/bench.stamp: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[bench]'
	touch $@ $(VENV)/run.stamp
