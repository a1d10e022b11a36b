# Two commands on a machine with only python3 and make: `make run` and `make test`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed

.PHONY: run test lint bench clean

## run: the whole line once, on an embedded server with its data under ./var
run: $(INSTALLED)
	$(BIN)/eventstore demo

## test: the tests, with coverage
test: $(INSTALLED)
	$(BIN)/pytest --cov --cov-report=term

## lint: style, types
lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

## bench: what the README's figures come from
bench: $(INSTALLED)
	$(BIN)/python -m tests.bench

## clean: everything these commands made, but not ./var
clean:
	rm -rf $(VENV) build dist .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(INSTALLED): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[embedded,uvloop,dev]'
	touch $@
