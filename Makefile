# The two that matter: make run, make test.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

BENCH := .venv-bench
BENCH_READY := $(BENCH)/.ready
BENCH_NEEDS := tests/benchmarks/contenders/requirements.txt

.PHONY: help env run test test-long up down audit bench bench-env lint format clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

env: $(READY) ## the environment alone, in .venv

$(READY): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

run: env ## the main job: compress MiniLM on Rotten Tomatoes and show what was gained
	$(BIN)/secateur run

test: env ## every check that CI makes of the code's behaviour
	$(BIN)/pytest --numprocesses 2 --dist worksteal

test-long: env ## whole pipelines: killed and resumed, by dvc alone, the real model on few rows; then the audit
	$(BIN)/pytest -m long
	$(MAKE) audit

up: env ## PostgreSQL, S3, MLflow, Prefect and its workers on this machine, on loopback, with passwords; twice is fine
	$(BIN)/python -m infra up

down: env ## stops them; what they stored stays in .secateur/services
	$(BIN)/python -m infra down

audit: env ## known weaknesses of the packages (pip-audit), and the list of them (audit/sbom.json, CycloneDX); asks the index
	@test -x .venv-audit/bin/pip-audit || $(PYTHON) -m venv .venv-audit
	.venv-audit/bin/python -m pip install --quiet --requirement infra/audit.txt
	@mkdir -p audit
	.venv-audit/bin/cyclonedx-py environment $(BIN)/python --pyproject pyproject.toml --output-reproducible --output-file audit/sbom.json
	$(BIN)/python -m pip freeze --exclude-editable | sed -n 's/\(==[^+]*\).*/\1/p' > audit/packages.txt
	.venv-audit/bin/pip-audit --strict --no-deps --disable-pip --requirement audit/packages.txt

bench: env bench-env ## the tables of tests/benchmarks: hours on a quiet machine; goes on where it stopped
	$(BIN)/python tests/benchmarks/compare.py
	$(BIN)/python tests/benchmarks/criteria.py
	PYTHONPATH=. $(BENCH)/bin/python tests/benchmarks/criteria_torch_pruning.py
	for name in scoring growth overhead search xlnet generators squad smollm2 decode; do $(BIN)/python tests/benchmarks/$$name.py || exit; done

bench-env: $(BENCH_READY) ## the environment of the tools that Secateur is compared with, in .venv-bench

$(BENCH_READY): $(BENCH_NEEDS) constraints.txt
	@test -x $(BENCH)/bin/python || $(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip install --quiet --constraint constraints.txt --requirement $(BENCH_NEEDS)
	@touch $@

lint: env ## style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: env ## put the code in its usual form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## everything that was made: environment, outs, caches of this workspace
	rm -rf $(VENV) $(BENCH) .venv-audit audit .secateur .mypy_cache .ruff_cache *.egg-info data models dvc.lock
