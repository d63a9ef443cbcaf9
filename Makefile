# The targets a person needs; `make` lists them. ARGS="..." goes to the command behind a target.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
SWEEP  ?= optimizer=sgd,adam,rmsprop scheduler=cosine,exp
DIR    ?= outputs
STUDY  ?= eq2425
ARGS   ?=
# tests that go on at a time: three on two cores are no faster
WORKERS ?= auto
.DEFAULT_GOAL := help
.PHONY: help setup sweep train report reproduce tensorboard test torture lint docs bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo '  ARGS="..." adds arguments, as in: make train ARGS="model=mnist_cnn trainer.max_epochs=5"'

# A stamp a set of extras: what is installed already is not installed again, until the requirements change.
$(VENV)/.installed: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing cnnbench into $(VENV) (some minutes the first time: torch is large)"
	@$(PIP) --editable .
	@touch $@

$(VENV)/.installed-%: $(VENV)/.installed
	@echo "installing what '$*' needs"
	@$(PIP) --editable '.[$*]'
	@touch $@

setup: $(VENV)/.installed ## make .venv and install cnnbench into it

sweep: setup ## the six runs of SWEEP on the embedded digits, and their leaderboard
	@$(BIN)/python -m cnnbench -m $(SWEEP) $(ARGS)

train: setup ## one run
	@$(BIN)/python -m cnnbench $(ARGS)

report: setup ## compare the runs below DIR=outputs
	@$(BIN)/python -m cnnbench report $(DIR) $(ARGS)

reproduce: setup ## a published study again, STUDY=eq2425, beside its numbers
	@$(BIN)/python -m cnnbench reproduce $(STUDY) $(ARGS)

tensorboard: setup ## browse the runs below DIR=outputs, on this machine only
	@$(BIN)/python -m cnnbench tensorboard $(DIR) $(ARGS)

test: $(VENV)/.installed-test ## run the tests
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(WORKERS) --maxprocesses 4 --dist worksteal $(ARGS)

torture: $(VENV)/.installed-test ## kill runs at random moments; each must go on to the identical result
	@PYTHONPATH=tests $(BIN)/python tests/torture.py $(ARGS)

lint: $(VENV)/.installed-lint ## style and types
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

# Not --quiet: MkDocs would then not count its warnings, and dead links would pass.
docs: $(VENV)/.installed-docs ## the documentation as a site: site/index.html
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build $(ARGS) && \
	echo "site/index.html (searching it takes a server: python3 -m http.server --bind 127.0.0.1 --directory site)"

bench: setup ## speed against a hand-written loop and against the usual pipeline
	@$(BIN)/python -m benchmarks $(ARGS)

clean: ## remove caches and builds (not .venv, not outputs)
	@rm -rf build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache
	@find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
