# JobMaster for Python. `make demo` shows it at work, `make test` proves it; both need only Python >= 3.11 and make.
#
#   make demo [DIR=folder] [ARGS=--once]    real jobs on a SQLite file: makes .venv on first use
#   make test [JOBS=3] [TESTS=tests/unit]   lint, types, import contracts, the whole test suite; JOBS tests at a time
#   make test-all                           the suite on every supported Python that this machine has
#   make simulate [SEEDS=200] [SEED=0]      the engine under simulated faults; SEED= replays from that seed on
#   make faults [ROWS=A9,C4] [N=5] [STORES=sqlite] [CAMPAIGNS=all]   fault tests with the default lease, and a scoreboard
#   make measure [ARGS=--json=FILE]         the figures that the project promises, on this machine
#   make bench [ONLY=drain,latency] [PEERS=pgqueuer]   JobMaster beside six other queues, in one run (20 to 30 minutes)
#   make lint | typecheck | format | public-names | constraints | clean
#
#   PYTHON=/path/to/python3  which Python makes .venv          APT=1  lets the build call apt-get (CI=true does, too)

SHELL   := /bin/sh
VENV    := .venv
BIN     := $(VENV)/bin
PYTHON  ?=
DIR     ?=
ARGS    ?=
SEEDS   ?= 200
SEED    ?= 0
TESTS   ?=
JOBS    ?= 3
ONLY    ?=
PEERS   ?=
ROUNDS  ?= 3
ROWS    ?=
N       ?= 1
STORES  ?= sqlite,postgresql
CAMPAIGNS ?=
VERSIONS := 3.11 3.12 3.13

export PYTHON DIR

.NOTPARALLEL:
.PHONY: demo test test-all pytest simulate faults measure bench bench-docs lint typecheck format public-names constraints clean venv-run venv-dev

demo: venv-run
	@$(BIN)/jobmaster demo $(if $(DIR),--dir "$$DIR") $(ARGS)

# The tests come last: their closing lines (backends, then pytest's own summary) are the last thing printed.
test: lint typecheck pytest

# Many tests wait for processes, leases and servers: two processors do three at a time. TESTS are run one after another.
pytest: venv-dev
	@$(BIN)/python -m pytest $(if $(TESTS),$(TESTS),-n $(JOBS) --dist worksteal)

test-all: lint typecheck
	@tools/test_all.sh $(VERSIONS)

simulate: venv-dev
	@$(BIN)/python -m tests.simulation --seeds $(SEEDS) --seed $(SEED)

# docs/faults.md has the rows; ROWS=none CAMPAIGNS=all runs the long campaigns alone (hours), CAMPAIGNS=kills,outage two.
faults: venv-dev
	@$(BIN)/python -m tests.faults.scoreboard --rows "$(ROWS)" --times $(N) --stores "$(STORES)" --campaigns "$(CAMPAIGNS)" $(ARGS)

measure: venv-dev
	@$(BIN)/python benchmarks/promises.py $(ARGS)

# An environment of its own: other people's queues have no place in .venv.
bench:
	@tools/bench_env.sh
	@PYTHONPATH=.:benchmarks .venv-bench/bin/python -m compare --only "$(ONLY)" --peers "$(PEERS)" --rounds $(ROUNDS)

# Writes the tables of docs/performance.md anew from the last complete run.
bench-docs:
	@PYTHONPATH=.:benchmarks .venv-bench/bin/python -m compare.publish docs/performance.md benchmarks/results/latest.json

lint: venv-dev
	@$(BIN)/ruff check .
	@$(BIN)/lint-imports --no-logo --no-cache

typecheck: venv-dev
	@$(BIN)/mypy

format: venv-dev
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format .

# Writes the list of public names anew, after a wanted change; read the difference before you commit it.
public-names: venv-dev
	@$(BIN)/python -m tests.architecture.public_names --write

# Pins what .venv holds now, after an upgrade that passed `make test`.
constraints: venv-dev
	@tools/constraints.sh $(BIN)/python

clean:
	rm -rf .venv .venv-3.* .venv-bench build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

venv-run:
	@tools/venv.sh run $(VENV)

venv-dev:
	@tools/venv.sh dev $(VENV)
