# Two commands on a machine with only python3 and make: `make run` and `make test`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNS := $(VENV)/runs
TESTS := $(VENV)/tests
PEERS := $(VENV)/peers
SITE := $(VENV)/site
CONSOLE := $(VENV)/console
DEBIAN := $(VENV)/debian

.PHONY: run test test-fault test-console debian pictures coverage fault appends soak fuzz attack compat mutate lint docs bench bench-compare scale cold durability clean

## run: import sample lock files, with an embedded server and its data in ./var
run: $(RUNS)
	$(BIN)/eventstore demo

## test: the tests, except those of tests/fault
test: $(TESTS)
	$(BIN)/pytest --numprocesses=5 --dist=worksteal --ignore=tests/fault

## test-fault: the short form of the tests that kill processes and servers: a minute
test-fault: $(TESTS)
	$(BIN)/pytest --numprocesses=5 --dist=worksteal tests/fault

## test-console: the console in Debian's chromium, which is installed if that is possible
test-console: $(CONSOLE)
	@command -v chromium >/dev/null || test -n "$$CHROMIUM" || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get update -qq && apt-get install -yqq chromium; } || { echo 'install chromium (apt-get install chromium), or set CHROMIUM=/path/to/it'; exit 2; }
	BROWSER=1 $(BIN)/pytest tests/browser --numprocesses=2 --dist=worksteal

## debian: promtool and libfaketime from Debian's packages, for `make test` and `make fault`, which
## do without them what they can; nothing is installed but in .venv
debian: $(RUNS)
	-apt-get update -qq
	rm -rf $(DEBIAN) && mkdir $(DEBIAN)
	cd $(DEBIAN) && apt-get download -qq prometheus libfaketime && for each in *.deb; do dpkg -x $$each .; done

## pictures: those of the console's pages and of the command line, into docs/pictures
pictures: $(CONSOLE)
	$(BIN)/python -m tests.browser.pictures $(PICTURES)
	$(BIN)/python -m tests.terminal_pictures

## coverage: the tests, with line and branch coverage
coverage: $(TESTS)
	$(BIN)/pytest --numprocesses=5 --dist=worksteal --cov --cov-report=term

## fault: long fault injection: the tests' long form, then the checker on one server and on three, and
## a log that went back: half an hour; of the checker alone: `make fault FAULTS='--seed 7 --minutes 10
## --servers 3'`
fault: $(TESTS)
ifdef FAULTS
	$(BIN)/python -m tests.fault.checker $(FAULTS)
else
	FAULT=long $(BIN)/pytest tests/fault tests/unit/projections/test_nix_fold.py --no-cov
	$(BIN)/python -m tests.fault.checker --servers 1 --processes 2
	$(BIN)/python -m tests.fault.checker --servers 3
	$(BIN)/python -m tests.fault.checker --went-back
endif

## appends: appends at random from several processes that lose acknowledgements, on one server and
## on three; `make appends APPENDS='--seed 7 --seconds 300 --servers 3'`
appends: $(TESTS)
ifdef APPENDS
	$(BIN)/python -m tests.fault.appends $(APPENDS)
else
	$(BIN)/python -m tests.fault.appends --servers 1
	$(BIN)/python -m tests.fault.appends --servers 3
endif

## soak: an hour at half the top rate with faults; memory and descriptors must stay flat; shorter:
## `make soak SOAK='--minutes 10'`
soak: $(TESTS)
	$(BIN)/python -m tests.fault.soak $(SOAK)

## fuzz: 100,000 hostile messages, and files and settings; `make fuzz FUZZ='--messages 5000 --seed 7'`
fuzz: $(TESTS)
	$(BIN)/python -m tests.fuzz $(FUZZ)

## attack: attempts of each role to exceed its permissions, with the shipped configuration
attack: $(TESTS)
	$(BIN)/python -m tests.attack

## compat: on each other Python of this machine, the quickstart from the wheel and the tests; these
## with the lowest dependencies, too: some twenty minutes; a short form: `make compat COMPAT=--short`;
## some of it: `make compat COMPAT='3.13 wheel'`
compat: $(TESTS)
	$(BIN)/python -m tests.compat $(COMPAT)

## mutate: mutation testing of a sample of the core; long
mutate: $(TESTS)
	$(BIN)/python -m tests.mutation $(MUTATE)

## lint: style, types
lint: $(TESTS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

## docs: the documentation, in docs/_build/html; a warning is an error, and links are checked
docs: $(SITE)
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going docs docs/_build/html

## bench: rates, latencies and CPU, beside bare nats-py and peers, into docs/ and the README's
## table: some ten minutes on an idle machine; a quick look: `make bench SMALL=1`; some of it:
## `make bench BENCH='service store'`
bench: $(PEERS)
	$(BIN)/python -m tests.bench $(BENCH)

## bench-compare: commands, reading, read models and the service of another revision, in turns with those here:
## `make bench-compare REV=main`
bench-compare: $(TESTS)
	@test -n '$(REV)' || { echo 'name a revision: make bench-compare REV=main'; exit 2; }
	$(BIN)/python -m tests.bench.compare $(if $(SMALL),--count 500 --slices 4) $(REV)
	$(BIN)/python -m tests.bench.reading $(REV)
	$(BIN)/python -m tests.bench.projections $(REV)
	$(BIN)/python -m tests.bench.queries $(REV)
	$(BIN)/python -m tests.bench.service $(REV)

## scale: whether figures stay the same from 10,000 to 5,000,000 events: long;
## `make scale SCALE='--events 300000'`; `SCALE='--directory DIR'` keeps the logs for the next run
scale: $(TESTS)
	$(BIN)/python -m tests.bench.scale $(SCALE)

## cold: what smaller blocks, a warm cache and GOMEMLIMIT change: some ten minutes
cold: $(TESTS)
	$(BIN)/python -m tests.bench.cold $(COLD)

## durability: appends at one and three replicas, flushed at once or later: some minutes;
## `make durability DURABILITY='--directory DIR'` on another disk
durability: $(TESTS)
	$(BIN)/python -m tests.bench.durability $(DURABILITY)

## clean: remove what these commands created, except ./var
clean:
	rm -rf $(VENV) build dist docs/_build docs/reference/generated .bench .coverage .coverage.* .mutation .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(RUNS): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[embedded,uvloop]'
	touch $@

$(TESTS): $(RUNS)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[embedded,uvloop,dev]'
	touch $@

$(CONSOLE): $(TESTS)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[console,console-tests]'
	touch $@

$(PEERS): $(TESTS)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[bench]'
	touch $@

$(SITE): $(RUNS)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[docs,console]'
	touch $@
