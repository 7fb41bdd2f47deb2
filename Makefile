# The front door. Each target makes the virtual environment itself where it is missing.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo compare-demo test pytest full check lint types bench clean

help: ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=23.2'
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

setup: $(STAMP) ## make .venv with the tested versions

demo: $(STAMP) ## train on the phantom and show what came out (under 10 minutes on 2 cores)
	$(BIN)/attnseg train experiment=demo
	$(BIN)/attnseg evaluate checkpoint=runs/demo split=test

compare-demo: $(STAMP) ## the demo beside the failing baseline: one page, one table, one picture
	$(BIN)/attnseg train experiment=demo
	$(BIN)/attnseg train experiment=demo attention=drr schedule=none run.dir=runs/demo-baseline
	$(BIN)/attnseg compare runs/demo runs/demo-baseline split=test baseline=schedule=none n_cases=4 \
	  "labels=['anatomical attention, two-phase schedule','DRR attention, no supervision']" \
	  output_dir=runs/demo-compare
	cp runs/demo-compare/compare.csv experiments/demo/results.csv
	cp runs/demo-compare/comparison.png experiments/demo/comparison.png

test: check ## lint, types and tests: what CI runs

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo

types: $(STAMP)
	$(BIN)/mypy

pytest: $(STAMP) ## the tests alone
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 8

full: $(STAMP) ## the long test matrices, which `make test` leaves out
	$(BIN)/python -m pytest -m full --numprocesses auto --maxprocesses 8

check: lint types pytest ## ruff, mypy --strict and the tests

bench: $(STAMP) ## the benchmarks; each prints ratios measured in one run
	$(BIN)/python benchmarks/step_cost.py
	$(BIN)/python benchmarks/first_step.py
	$(BIN)/python benchmarks/framework_overhead.py
	$(BIN)/python benchmarks/step_options.py --repeats 3 --options plain channels_last bf16 'fused AdamW'
	$(BIN)/python benchmarks/memory_reuse.py --repeats 1 --steps 3
	$(BIN)/python benchmarks/metrics_cost.py --cases 200
	$(BIN)/python benchmarks/loader_speed.py --cases 8 --repeats 2 --waiting
	$(BIN)/python benchmarks/data_scale.py --counts 100 1000
	$(BIN)/python benchmarks/predict_memory.py --counts 20 100
	$(BIN)/python benchmarks/ddp_efficiency.py --repeats 1

clean: ## remove the virtual environment and caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
