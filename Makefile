# Two commands: `make demo` sets up and runs the main job, `make test` sets up and passes every test.
# Everything lands in .venv; once set up, neither command needs the network.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WHEELS := $(VENV)/wheels

.PHONY: demo test test-long check crash chaos operations soak lint types bench setup setup-dev browser lock clean

demo: setup
	$(BIN)/systemprompt-cloud demo

test: setup-dev browser check
	$(BIN)/python -m pytest tests --numprocesses auto --dist loadfile

# The same and more: every search at its full length, every mutant hunted, every crash point met. About an hour.
test-long: setup-dev browser check
	$(BIN)/python -m pytest tests --long --numprocesses auto --dist loadfile

check: lint types

lint: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup-dev
	$(BIN)/basedpyright --pythonpath $(BIN)/python

# Every table of benchmarks/, ours beside its peers: about half an hour on an idle machine.
bench: $(VENV)/.bench
	$(VENV)/bench/bin/python -m benchmarks

# Every crash point of every flow, and eight processes against each other; the long forms of what `make test` shortens.
crash: setup-dev
	$(BIN)/python -m tests.faults.crash

chaos: setup-dev
	$(BIN)/python -m tests.faults.chaos --seconds 60

# 20,000 random histories of operations on several engines, each checked against a specification: about seven minutes.
operations: setup-dev
	$(BIN)/python -m tests.faults.operations --histories 20000

# 200 flows for ten minutes, while streams break, calls fail and both the worker and the cloud are killed.
soak: setup-dev
	$(BIN)/python -m tests.faults.soak --flows 200 --minutes 10

setup: $(VENV)/.runtime
setup-dev: $(VENV)/.dev

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "systemprompt-cloud needs Python 3.11 or newer; name one with: make PYTHON=python3.12 demo")'
	$(PYTHON) -m venv $(VENV)

# The wheels are kept, so the packaging test can fill an empty environment without the network.
$(VENV)/.runtime: requirements.lock pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip download -q --disable-pip-version-check --require-hashes --only-binary :all: -d $(WHEELS) -r requirements.lock
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-index --find-links $(WHEELS) --require-hashes -r requirements.lock
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-index --no-deps --no-build-isolation -e .
	mkdir -p $(VENV)/typing && ln -sfn ../.. $(VENV)/typing/systemprompt_cloud
	touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.runtime
	$(BIN)/python -m pip install -q --disable-pip-version-check --only-binary :all: --require-hashes -r requirements-dev.lock
	touch $@

# The peers live in an environment of their own, so that nothing of theirs can reach the tests or the type checker.
$(VENV)/.bench: requirements-bench.lock pyproject.toml | $(BIN)/python
	$(BIN)/python -m venv $(VENV)/bench
	$(VENV)/bench/bin/python -m pip install -q --disable-pip-version-check --only-binary :all: --require-hashes -r requirements-bench.lock
	$(VENV)/bench/bin/python -m pip install -q --disable-pip-version-check --no-index --no-deps --no-build-isolation -e .
	touch $@

# What the tests need besides Python (a browser, a terminal, a keyring, man); installed where it can be (Debian, as root), named where it cannot.
browser:
	@sh .ci/install-browser

# Pins and hashes of every dependency; names no index. Needs uv.
lock:
	uv pip compile pyproject.toml --group build --universal --python-version 3.11 --generate-hashes --no-header --no-annotate -q -o requirements.lock
	uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes --no-header --no-annotate -q -o requirements-dev.lock
	uv pip compile pyproject.toml --group bench --universal --python-version 3.11 --generate-hashes --no-header --no-annotate -q -o requirements-bench.lock

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
