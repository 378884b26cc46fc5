PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help setup demo demo-all demo-aape demo-catalogue demo-protocols test test-all coverage hosts golden mutate lint types check bench clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/ready  ## a virtual environment in .venv with everything

$(VENV)/ready: pyproject.toml setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --disable-pip-version-check --quiet --editable '.[dev]'
	touch $@

demo: setup  ## the main job: CoOp and SAR_CoOp against zero-shot CLIP, ends in a table
	bash scripts/sar/base2new.sh

demo-all: setup  ## twelve trainers on one demo dataset, one seed
	TRAINERS="CoOp SAR_CoOp CoCoOp SAR_CoCoOp KgCoOp SAR_KgCoOp MaPLe SAR_MaPLe PromptSRC SAR_PromptSRC AAPE SAR_AAPE" \
		OUTPUT=$(CURDIR)/output/demo-all bash scripts/sar/base2new.sh demo_food 1

demo-aape: setup  ## AAPE, plain and with SAR, beside CoOp and zero-shot CLIP, one seed
	TRAINERS="ZeroshotCLIP CoOp AAPE SAR_AAPE" OUTPUT=$(CURDIR)/output/demo-aape \
		bash scripts/sar/base2new.sh demo_food 1

demo-catalogue: setup  ## a new product line by its names alone, told as a story; ends in a table and a page
	bash examples/catalogue.sh

SHORT := $(CURDIR)/output/demo-protocols
demo-protocols: setup  ## a short form of all five protocols, below output/demo-protocols
	OUTPUT=$(SHORT)/base2new bash scripts/sar/base2new.sh demo 1
	OUTPUT=$(SHORT)/cross-dataset bash scripts/sar/xd.sh demo_food "1 2"
	MODELS=$(SHORT)/cross-dataset OUTPUT=$(SHORT)/domain-generalization \
		bash scripts/sar/dg.sh demo_food "1 2"
	MODELS=$(SHORT)/cross-dataset OUTPUT=$(SHORT)/few-shot SHOTS="1 4 16" \
		bash scripts/sar/fewshot.sh demo_food "1 2"
	OUTPUT=$(SHORT)/ablation SHOTS=4 STUDIES="components weight novel" \
		bash scripts/sar/ablation.sh demo_food 1

test: setup  ## the fast tests, some minutes
	$(BIN)/python -m pytest

test-all: setup  ## all tests; those of checkouts too where SAR_HOSTS names their folder
	$(BIN)/python -m pytest -m ''

coverage: setup  ## the fast tests, and which lines of the package they run: htmlcov/index.html
	$(BIN)/python -m pytest --cov --cov-report=term:skip-covered --cov-report=html

hosts: setup  ## the plug-in inside real checkouts in SAR_HOSTS; rewrites docs/hosts.md
	$(BIN)/pip install --disable-pip-version-check --quiet scikit-learn
	$(BIN)/python tests/acceptance/acceptance.py "$(SAR_HOSTS)" --write

golden: setup  ## rewrites tests/golden from the checkouts in SAR_HOSTS
	$(BIN)/pip install --disable-pip-version-check --quiet scikit-learn
	$(BIN)/python tests/support/golden_run.py "$(SAR_HOSTS)"

mutate: setup  ## do the tests notice a broken line? rewrites the table in docs/testing.md
	$(BIN)/python tools/mutate.py

lint: setup  ## style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup  ## type hints of the package, its tools and its tests
	$(BIN)/mypy

check: lint types test  ## what a change must pass

bench: setup  ## time and memory of the text encoder
	$(BIN)/python benchmarks/text_encoder.py

clean:  ## removes what the other targets made
	rm -rf $(VENV) build dist output htmlcov .coverage *.egg-info
	rm -rf .pytest_cache .ruff_cache .mypy_cache .hypothesis
