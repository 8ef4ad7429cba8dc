# Each target makes the virtual environment that it needs. PYTHON=python3.12 takes another one.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# More than there are cores, as many tests wait most of the time.
PYTEST_WORKERS ?= 4
NPM_INSTALL = npm install --no-package-lock --no-audit --no-fund --silent

# A virtual environment with the compiled core.
COMPILED ?= .venv-compiled

.PHONY: serve test test-python test-pythons test-compiled wheels test-js test-angular test-go test-rust test-chat lint faces docs dist helm conformance conformance-compiled fuzz fuzz-compiled bench bench-compiled soak soak-nodes attacks check-all clean

serve: $(VENV)/run.stamp
	$(BIN)/kps serve

test: test-python test-js

test-python: $(VENV)/dev.stamp
	$(BIN)/pytest -rs -n $(PYTEST_WORKERS) $(PYTEST_ARGS)

# The Python tests on the compiled core, which takes minutes to make. They run beside the checkout's
# kps and not in it, so that they, and the programs that they start, import what is installed.
test-compiled: $(COMPILED)/run.stamp
	cd $(COMPILED)/checkout && BUILD_UNDER_TEST=compiled ../bin/pytest -n $(PYTEST_WORKERS) $(PYTEST_ARGS)

# All Python tests on each other CPython that is here.
test-pythons:
	$(PYTHON) tools/wheels.py --others | while read -r minor python; do \
		$(MAKE) test-python VENV="$(VENV)-$$minor" PYTHON="$$python" </dev/null || exit 1; \
	done

# The wheels, pure and compiled, for each CPython that is here: made, and tried in an empty folder.
# PYTHONS="python3.12" is some of them.
wheels:
	$(PYTHON) tools/wheels.py $(PYTHONS)

# The JavaScript client, and in a browser the console and what the documentation tells about front
# ends. Without Node they are left out.
test-js: $(VENV)/dev.stamp
ifeq ($(shell command -v npm),)
	@echo "no npm here: the tests of the JavaScript client and of the console were skipped"
else
	cd clients/js && $(NPM_INSTALL) && KPS_PYTHON=$(abspath $(BIN))/python npm test
	cd tests/web && $(NPM_INSTALL) && KPS_PYTHON=$(abspath $(BIN))/python npm test
endif

# What the documentation tells about Angular. Apart from the others, as its tools weigh 280 MB.
test-angular: $(VENV)/dev.stamp
ifeq ($(shell command -v npm),)
	@echo "no npm here: the test of the page about Angular was skipped"
else
	cd tests/web && $(NPM_INSTALL)
	cd tests/web/angular && $(NPM_INSTALL) && KPS_PYTHON=$(abspath $(BIN))/python npm test
endif

# The Go client. Where there is no Go it is left out, and what needs a server is judged with ours.
test-go: $(VENV)/dev.stamp
ifeq ($(shell command -v go),)
	@echo "no go here: the tests of the Go client were skipped"
else
	cd clients/go && KPS_PYTHON=$(abspath $(BIN))/python go test -race -vet=all ./...
endif

# The Rust client, and its C and C++ interface with the examples.
test-rust: $(VENV)/dev.stamp
ifeq ($(shell command -v cargo),)
	@echo "no cargo here: the tests of the Rust, C and C++ clients were skipped"
else
	KPS_PYTHON=$(abspath $(BIN))/python clients/rust/test.sh
endif

# The same chat in all languages, as far as they are built, in one room.
test-chat: $(VENV)/dev.stamp
	$(BIN)/pytest -rs tests/interop/test_chat_in_every_language.py

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# The blocking client and server, from the asyncio ones. A test fails when this was forgotten.
faces: $(VENV)/dev.stamp
	$(BIN)/python tools/unasync.py

# The documentation's site, in dist/docs. A link that leads nowhere is an error.
docs: $(VENV)/docs.stamp
	$(BIN)/python docs/make_site.py

# The wheel and the sdist, in dist, as an index would take them.
dist: $(VENV)/dev.stamp
	rm -f dist/*.whl dist/*.tar.gz
	$(BIN)/python -m hatchling build
	$(BIN)/twine check --strict dist/*.whl dist/*.tar.gz

# helm, with which the tests judge the chart; without it they leave that out. To build it takes many minutes.
HELM_VERSION ?= v3.22.0
helm: $(VENV)/dev.stamp
ifeq ($(shell command -v go),)
	@echo "no go here: helm cannot be built"
else
	GOBIN=$(abspath $(BIN)) go install helm.sh/helm/v3/cmd/helm@$(HELM_VERSION)
endif

# The WebSocket under the Autobahn suite, which needs a Python 2.7. CASES=full is all of it.
CASES ?= core
conformance: $(VENV)/run.stamp
	$(BIN)/python -m tests.autobahn.run $(CASES)

conformance-compiled: $(COMPILED)/run.stamp
	cd $(COMPILED)/checkout && ../bin/python -m tests.autobahn.run $(CASES)

# Looks for inputs on which the core fails, so long for each harness.
FUZZ_SECONDS ?= 30
fuzz: $(VENV)/fuzz.stamp
	$(BIN)/python -m tests.fuzz.run $(FUZZ_SECONDS)

fuzz-compiled: $(COMPILED)/run.stamp
	cd $(COMPILED)/checkout && ../bin/python -m tests.fuzz.run $(FUZZ_SECONDS)

# KPS beside its peers, about 20 minutes. Debian's redis-server and mosquitto are among them if
# they are installed. Servers of several processes, and what is around the bus (frameworks, HTTP,
# MQTT), are parts of their own: run.py --only nodes, --only edges.
bench: $(VENV)/bench.stamp
	$(BIN)/python benchmarks/run.py --write

# The compiled core beside the pure one, about 15 minutes.
bench-compiled: $(VENV)/bench.stamp $(COMPILED)/bench.stamp
	KPS_COMPILED=$(abspath $(COMPILED))/kps $(BIN)/python benchmarks/run.py --only compiled --write

# Mixed traffic for an hour, every message of which must be accounted for. DRIVER=threads is the
# threaded server.
MINUTES ?= 60
DRIVER ?= asyncio
soak: $(VENV)/bench.stamp
	$(BIN)/python benchmarks/soak.py --minutes $(MINUTES) --driver $(DRIVER) --write

# The same of workers, and of nodes over NATS, which are struck meanwhile: minutes for each.
soak-nodes: $(VENV)/bench.stamp
	$(BIN)/python benchmarks/soak_nodes.py --minutes $(MINUTES) --write

# What attacks do to honest clients. ATTACKS="fragments zeros-20" is some of them.
ATTACKS ?= --all
attacks: $(VENV)/bench.stamp
	$(BIN)/python benchmarks/attacks.py $(ATTACKS) --driver $(DRIVER)

# Everything, also what takes too long for each change: some hours on two cores.
check-all: test lint
	$(MAKE) test-pythons
	$(MAKE) test-compiled
	$(MAKE) wheels
	$(MAKE) test-angular test-go test-rust
	$(MAKE) test-chat
	$(MAKE) conformance CASES=full
	$(MAKE) conformance-compiled
	$(MAKE) fuzz FUZZ_SECONDS=720
	$(MAKE) fuzz-compiled FUZZ_SECONDS=720
	$(MAKE) $(VENV)/bench.stamp
	$(BIN)/python benchmarks/soak.py --minutes 5 --driver asyncio
	$(BIN)/python benchmarks/soak.py --minutes 5 --driver threads
	$(BIN)/python benchmarks/soak_nodes.py --minutes 4
	$(BIN)/python benchmarks/run.py --quick
	$(BIN)/python benchmarks/run.py --only nodes --quick
	$(BIN)/python benchmarks/run.py --only edges --quick
	$(MAKE) $(COMPILED)/bench.stamp
	KPS_COMPILED=$(abspath $(COMPILED))/kps $(BIN)/python benchmarks/run.py --only compiled --quick

clean:
	rm -rf $(VENV) $(VENV)-* $(COMPILED)

$(VENV)/run.stamp: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable .
	touch $@

$(VENV)/dev.stamp: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@ $(VENV)/run.stamp

$(VENV)/docs.stamp: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[docs]'
	touch $@ $(VENV)/run.stamp

$(COMPILED)/run.stamp: pyproject.toml tools/compile_core.py $(shell find kps -name '*.py')
	$(PYTHON) -m venv $(COMPILED)
	rm -rf $(COMPILED)/wheels
	$(PYTHON) tools/wheels.py --to $(COMPILED)/wheels $(PYTHON)
	$(COMPILED)/bin/pip uninstall --quiet --yes kps
	$(COMPILED)/bin/pip install --quiet "$$(echo $(COMPILED)/wheels/kps-*-cp3*.whl)[fuzz]"
	mkdir -p $(COMPILED)/checkout
	for each in *; do [ "$$each" = kps ] || ln -sfn "$(CURDIR)/$$each" $(COMPILED)/checkout; done
	touch $@

# What is compiled, for the benchmarks, which have an environment of their own.
$(COMPILED)/bench.stamp: $(COMPILED)/run.stamp
	rm -rf $(COMPILED)/kps
	mkdir $(COMPILED)/kps
	cp -r $(COMPILED)/lib/python*/site-packages/kps* $(COMPILED)/kps
	touch $@

$(VENV)/fuzz.stamp: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[fuzz]'
	touch $@ $(VENV)/run.stamp

$(VENV)/bench.stamp: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[bench]'
	touch $@ $(VENV)/run.stamp
