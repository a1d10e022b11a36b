# Two commands on a machine with only python3 and make: `make run` and `make test`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNS := $(VENV)/runs
TESTS := $(VENV)/tests

.PHONY: run test coverage fault attack mutate lint bench bench-compare clean

## run: import sample lock files, with an embedded server and its data in ./var
run: $(RUNS)
	$(BIN)/eventstore demo

## test: the tests
test: $(TESTS)
	$(BIN)/pytest --numprocesses=4 --dist=worksteal

## coverage: the tests, with line and branch coverage
coverage: $(TESTS)
	$(BIN)/pytest --numprocesses=4 --dist=worksteal --cov --cov-report=term

## fault: long fault injection with random crashes: some minutes
fault: $(TESTS)
	FAULT=long $(BIN)/pytest tests/fault tests/unit/projections/test_nix_fold.py --no-cov

## attack: attempts of each role to exceed its permissions, with the shipped configuration
attack: $(TESTS)
	$(BIN)/python -m tests.attack

## mutate: mutation testing of a sample of the core; long
mutate: $(TESTS)
	$(BIN)/python -m tests.mutation $(MUTATE)

## lint: style, types
lint: $(TESTS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

## bench: rates and latencies, each beside what bare nats-py takes
bench: $(TESTS)
	$(BIN)/python -m tests.bench

## bench-compare: commands here and at another revision, in alternation: make bench-compare REV=main
bench-compare: $(TESTS)
	$(BIN)/python -m tests.bench.compare $(REV)

## clean: remove what these commands created, except ./var
clean:
	rm -rf $(VENV) build dist .coverage .coverage.* .mutation .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(RUNS): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[embedded,uvloop]'
	touch $@

$(TESTS): $(RUNS)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[embedded,uvloop,dev]'
	touch $@
