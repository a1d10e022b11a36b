# Two commands on a machine with only python3 and make: `make run` and `make test`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNS := $(VENV)/runs
TESTS := $(VENV)/tests

.PHONY: run test coverage fault attack mutate lint bench clean

## run: the whole line once, on an embedded server with its data under ./var
run: $(RUNS)
	$(BIN)/eventstore demo

## test: the tests
test: $(TESTS)
	$(BIN)/pytest --numprocesses=4 --dist=worksteal

## coverage: the same, and which lines they leave out
coverage: $(TESTS)
	$(BIN)/pytest --numprocesses=4 --dist=worksteal --cov --cov-report=term

## fault: the faults that take chances, at length: some minutes
fault: $(TESTS)
	EVENTSTORE_FAULT=long $(BIN)/pytest tests/fault tests/unit/projections/test_nix_fold.py --no-cov

## attack: what users try beyond their rights, against a service with the shipped configuration
attack: $(TESTS)
	$(BIN)/python -m tests.attack

## mutate: a sample of single mutations of the core, and whether a test notices each; long
mutate: $(TESTS)
	$(BIN)/python -m tests.mutation $(MUTATE)

## lint: style, types
lint: $(TESTS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

## bench: what the README's figures come from
bench: $(TESTS)
	$(BIN)/python -m tests.bench

## clean: everything these commands made, but not ./var
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
