# Thin names for what README.md says. `make` alone lists them.
#
#   make setup PYTHON=python3.12     another interpreter (3.11, 3.12 or 3.13)
#   make test T=tests/catalog        a part of the tests; ARGS="-x -k gap" goes to pytest as it is

PYTHON ?=
VENV   ?= .venv
BIN    := $(VENV)/bin
T      ?=
ARGS   ?=
# How many times as many examples `make test-deep` draws; and what `make test-dates` runs, all by default.
EXAMPLES ?= 20
DATES  ?=
# Two workers use both cores of a small machine; tests of one file share what that file sets up.
WORKERS ?= 2

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo up test test-dates test-deep lint format bench drill lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

setup: $(VENV)/.ready-dev ## Make .venv with everything that running, testing and linting need
	@echo "setup: $(VENV) is ready"

demo: $(VENV)/.ready ## Simulate a bank, build everything, print what is late
	@$(BIN)/duemark demo

up: $(VENV)/.ready ## Run the web interface and the daemon until Ctrl-C
	@$(BIN)/duemark up

# Files go to the workers in the order of the tree: by their number of tests, the one long test of the bench were last.
test: $(VENV)/.ready-dev ## Run the whole test suite
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS) $(T)

test-dates: $(VENV)/.ready-dev ## Run the suite on days on which dates go wrong, by a moved clock; hours
	$(BIN)/python -m tests.dates.run $(DATES) -- $(ARGS) $(T)

test-deep: $(VENV)/.ready-dev ## Run what takes long, and the property tests with many more examples; hours
	DUEMARK_TEST_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest -m "hypothesis or deep" -n $(WORKERS) --dist loadfile $(ARGS) $(T)

lint: $(VENV)/.ready-dev ## Check style, types and SQL
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/sqlfmt --check --quiet dbt_project
	eval "$$($(BIN)/duemark dbt-env)" && $(BIN)/dbt parse --quiet --project-dir dbt_project --profiles-dir dbt_project
	$(BIN)/dbt-bouncer run --config-file dbt-bouncer.yml

format: $(VENV)/.ready-dev ## Rewrite Python and SQL in the house style
	$(BIN)/ruff check --fix --quiet . || true
	$(BIN)/ruff format .
	$(BIN)/sqlfmt --quiet dbt_project

bench: $(VENV)/.ready-dev ## Measure speed against plain SQL and COPY, in one table
	$(BIN)/python -m bench.run $(ARGS)

drill: $(VENV)/.ready-dev ## Break the running system on purpose and see that someone is told
	$(BIN)/python -m tests.drills.run $(ARGS)

lock: $(VENV)/.ready-dev ## Choose the newest allowed versions anew and write constraints.txt
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --upgrade --universal --fork-strategy fewest --python-version 3.11 \
	  --all-extras --no-emit-index-url --no-header --no-annotate --output-file constraints.txt pyproject.toml

clean: ## Remove .venv, caches and what dbt wrote; data in .duemark stays
	rm -rf $(VENV) .cache .hypothesis build *.egg-info dbt_project/target dbt_project/logs logs
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

# pip runs when pyproject.toml or constraints.txt are newer than the stamp, and only then.
$(VENV)/.ready: pyproject.toml constraints.txt
	@sh deploy/venv.sh $(VENV) . "$(PYTHON)"
	@touch $@

$(VENV)/.ready-dev: pyproject.toml constraints.txt
	@sh deploy/venv.sh $(VENV) '.[dev]' "$(PYTHON)"
	@touch $(VENV)/.ready $@
