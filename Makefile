# make demo: set up and run the main job.   make test: set up and pass the tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: setup demo demo-all demo-protocols test test-all hosts lint types bench clean

setup: $(VENV)/ready

$(VENV)/ready: pyproject.toml setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --disable-pip-version-check --quiet --editable '.[dev]'
	touch $@

demo: setup
	bash scripts/sar/base2new.sh

# Ten trainers on one demo dataset, one seed.
demo-all: setup
	TRAINERS="CoOp SAR_CoOp CoCoOp SAR_CoCoOp KgCoOp SAR_KgCoOp MaPLe SAR_MaPLe PromptSRC SAR_PromptSRC" \
		OUTPUT=$(CURDIR)/output/demo-all bash scripts/sar/base2new.sh demo_food 1

# A short form of all five protocols, below output/demo-protocols.
SHORT := $(CURDIR)/output/demo-protocols
demo-protocols: setup
	OUTPUT=$(SHORT)/base2new bash scripts/sar/base2new.sh demo 1
	OUTPUT=$(SHORT)/cross-dataset bash scripts/sar/xd.sh demo_food "1 2"
	MODELS=$(SHORT)/cross-dataset OUTPUT=$(SHORT)/domain-generalization \
		bash scripts/sar/dg.sh demo_food "1 2"
	MODELS=$(SHORT)/cross-dataset OUTPUT=$(SHORT)/few-shot SHOTS="1 4 16" \
		bash scripts/sar/fewshot.sh demo_food "1 2"
	OUTPUT=$(SHORT)/ablation SHOTS=4 STUDIES="components weight novel" \
		bash scripts/sar/ablation.sh demo_food 1

test: setup
	$(BIN)/python -m pytest

test-all: setup
	$(BIN)/python -m pytest -m ''

# The plug-in inside real checkouts, which lie in SAR_HOSTS with Dassl.pytorch; rewrites docs/hosts.md.
hosts: setup
	$(BIN)/pip install --disable-pip-version-check --quiet scikit-learn
	$(BIN)/python tests/hosts/acceptance.py "$(SAR_HOSTS)" --write

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

bench: setup
	$(BIN)/python benchmarks/text_encoder.py

clean:
	rm -rf $(VENV) build dist output *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
