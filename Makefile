# Everything a new machine needs is Python 3.11 (as $(PYTHON)), gcc, git and node.
PYTHON ?= python3
VENV := .venv
WORKER := .venv-worker
BIN := $(VENV)/bin
UV := $(BIN)/uv
PYTEST_WORKERS ?= 2
# The oldest and the newest patch release of Airflow 3.3; each has environments of its own under .matrix/.
AIRFLOW_VERSIONS ?= 3.3.0 3.3.2
MATRIX_TESTS ?= tests/executor tests/worker tests/provider tests/launch tests/contract/test_launching.py tests/e2e/test_main_line.py tests/e2e/test_executor_contract.py

.DEFAULT_GOAL := help
.PHONY: help setup demo up down test matrix check lint types contracts bench chaos soak docs constraints wheel clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(VENV)/.ready $(WORKER)/.ready ## make the two environments: .venv for development, .venv-worker as the sandboxes' image

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
	$(UV) pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable . --group dev
	@touch $@

# The image that sandboxes see in tests and in the demo: Airflow, and nothing of ours nor of Modal's.
$(WORKER)/.ready: $(VENV)/.ready constraints.txt
	$(UV) venv --quiet --clear --python $(BIN)/python $(WORKER)
	$(UV) pip install --quiet --python $(WORKER)/bin/python --constraint constraints.txt --compile-bytecode \
	  apache-airflow-core apache-airflow-task-sdk apache-airflow-providers-standard apache-airflow-providers-cncf-kubernetes asyncssh
	@touch $@

demo: setup ## run the example DAGs on the embedded emulator and print what Modal got
	$(BIN)/modalflow demo run --worker-python $(WORKER)/bin/python

up: setup ## start emulator and Airflow with the example DAGs and leave them running
	$(BIN)/modalflow demo up --worker-python $(WORKER)/bin/python

down: ## stop what `make up` started
	@if [ -x $(BIN)/modalflow ]; then $(BIN)/modalflow demo down; else echo "nothing is set up here"; fi

test: setup ## run the whole test suite
	$(BIN)/python -m pytest -n $(PYTEST_WORKERS) --dist worksteal

.PRECIOUS: .matrix/%/.ready
matrix: $(foreach version,$(AIRFLOW_VERSIONS),matrix-$(version)) ## run the tests that know Airflow on its oldest and newest 3.3

matrix-%: .matrix/%/.ready
	MODALFLOW_TEST_WORKER_PYTHON=$(CURDIR)/.matrix/$*/worker/bin/python .matrix/$*/dev/bin/python -m pytest -n $(PYTEST_WORKERS) \
	  --dist loadscope $(MATRIX_TESTS)

# Airflow and what it pins differ from constraints.txt; our own tools, modal and the providers are as there.
.matrix/%/.ready: $(VENV)/.ready constraints.txt
	@mkdir -p $(@D)
	grep -E '^(modal|pytest.*|hypothesis|apache-airflow-providers.*|kubernetes|grpclib|protobuf|rich|pyroute2|aiohttp|asyncssh|statsd)==' constraints.txt \
	  > $(@D)/constraints.txt
	$(UV) venv --quiet --clear --python $(BIN)/python $(@D)/dev
	$(UV) pip install --quiet --python $(@D)/dev/bin/python --constraint $(@D)/constraints.txt --editable . --group dev apache-airflow==$*
	$(UV) venv --quiet --clear --python $(BIN)/python $(@D)/worker
	$(UV) pip install --quiet --python $(@D)/worker/bin/python --constraint $(@D)/constraints.txt --compile-bytecode \
	  apache-airflow-core==$* apache-airflow-task-sdk==1.$(word 2,$(subst ., ,$*)).$(word 3,$(subst ., ,$*)) \
	  apache-airflow-providers-standard apache-airflow-providers-cncf-kubernetes asyncssh
	@touch $@

check: lint types contracts ## lint, types and import contracts

lint: setup ## ruff, rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup ## mypy, strict
	$(BIN)/mypy

contracts: setup ## import-linter: data flows one way
	$(BIN)/lint-imports

bench: setup ## run every benchmark: ours, peer or floor, ratio, goal
	$(BIN)/python -m benchmarks

SEEDS ?= 3
TASKS ?= 200
chaos: setup ## kill schedulers and emulators under SEEDS=3 x TASKS=200 tasks; CHAOS=--full, --postgres
	$(BIN)/python -m tests.chaos --seeds $(SEEDS) --tasks $(TASKS) $(CHAOS)

soak: setup ## 5,000 short tasks through one executor: memory, threads and descriptors stay flat
	$(BIN)/python -m tests.chaos.soak

docs: setup ## regenerate the reference pages that come from the code
	$(BIN)/python -m modalflow.provider.options_page > docs/reference/options.md
	$(BIN)/python -m modalflow.provider.metrics_page > docs/reference/metrics.md
	$(BIN)/python -m modalflow.emulator.coverage > docs/reference/emulator-coverage.md
	$(BIN)/python -m modalflow.translation.gpus.page > docs/reference/gpus.md
	$(BIN)/python -m modalflow.launch.failures_page > docs/reference/failures.md
	$(BIN)/python -m modalflow.launch.launching_page > docs/explanation/launching.md
	$(BIN)/python -m modalflow.cli.field_matrix > docs/reference/fields.md
	$(BIN)/python -m modalflow.cli.codes_pages docs/diagnostics
	$(BIN)/python -m modalflow.cli.predecessor_page docs/coming-from-modalflow-0.3.md
	$(BIN)/python -m modalflow.cli.console_blocks docs/coming-from-modalflow-0.3.md
	$(BIN)/python -m modalflow.translation.schema template > templates/modal-task.schema.json
	$(BIN)/python -m modalflow.translation.schema modal > templates/modal.schema.json
	$(BIN)/python -m modalflow.translation.schema executor-config > templates/executor-config.schema.json
	$(BIN)/python -m modalflow.cli.console_blocks docs/commands.md

constraints: setup ## write the exact versions of this environment to constraints.txt
	{ echo "# Exact versions for development and CI on Python 3.11. Refresh with: make constraints"; \
	  $(UV) pip freeze --quiet --python $(BIN)/python --exclude-editable; echo "uv==$$($(UV) self version --short)"; } > constraints.txt

wheel: setup ## build the wheel into dist/
	$(UV) build --quiet --wheel

clean: down ## remove environments and caches
	rm -rf $(VENV) $(WORKER) .matrix dist .modalflow .mypy_cache .ruff_cache .pytest_cache .hypothesis
