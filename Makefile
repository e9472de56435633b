# The two commands a newcomer needs are `make run` and `make test`; both set up .venv from the lock file by themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: setup run test test-kafka check kill lock clean

setup: $(VENV)/.ready

$(VENV)/.ready: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Knit needs Python 3.11 or newer; set PYTHON=/path/to/python3.11") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

run: setup
	$(BIN)/knit run examples/quickstart

test: setup
	$(BIN)/python -m tests.check

check: test

# What needs a real Kafka: fetched from Maven Central once, started and stopped by the tests.
test-kafka: setup
	TEST_KAFKA=1 $(BIN)/python -m pytest -q -k kafka tests/contract tests/integration

# kill -9 the parent, a worker or all of them, 200 times under load, and write what became of every event.
kill: setup
	$(BIN)/python -m tests.chaos.kill --rounds 200 --report tests/chaos/results.md

lock:
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --extra dev pyproject.toml -o requirements.lock

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
