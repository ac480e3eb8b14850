# Everything sets itself up; a second run is quick and needs no network. `make help` lists the targets.
PYTHON ?= python3
BIN := .venv/bin

# What a developer's shell may still carry from another checkout must not decide which code runs here.
unexport PYTHONPATH PYTHONHOME PYTHONSAFEPATH PYTHONSTARTUP VIRTUAL_ENV
unexport PIP_USER PIP_TARGET PIP_PREFIX PIP_CONSTRAINT PIP_REQUIREMENT PIP_REQUIRE_VIRTUALENV
unexport GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE COVERAGE_FILE COVERAGE_PROCESS_START COVERAGE_RCFILE
unexport PYTEST_ADDOPTS PYTEST_PLUGINS MYPYPATH $(filter BACKENDKIT_%,$(.VARIABLES))

.DEFAULT_GOAL := help
.PHONY: help demo test test-all bench docs lint format lock clean environment redis

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1: /p' $(MAKEFILE_LIST) | column -t -s: -l 2

demo: ## start the example application behind FastAPI and Flask and talk to both
	$(PYTHON) .ci/setup.py demo
	.venv-demo/bin/python examples/demo.py

test: environment redis ## the whole suite against the built wheel, under the coverage gate
	.ci/suite .venv $(ARGS)

test-all: redis ## the whole suite on every supported Python
	$(PYTHON) .ci/every_python.py

bench: redis ## measure, beside the libraries that one would use instead
	$(PYTHON) .ci/setup.py bench
	.venv-bench/bin/python -m tests.benchmarks $(ARGS)

docs: environment ## build the pages into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

lint: environment ## formatting, rules, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy $(wildcard src tests examples .ci)
	$(BIN)/basedpyright

format: environment ## bring the tree into the house's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: environment ## pin the newest versions that pyproject.toml allows
	.ci/lock $(BIN)/uv

clean: ## remove whatever the targets above made
	rm -rf .venv .venv-* build dist site htmlcov .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

environment:
	@$(PYTHON) .ci/setup.py dev

redis:
	@$(PYTHON) .ci/redis_server.py
