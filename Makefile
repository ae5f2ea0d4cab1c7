# Each target sets up .venv by itself; the second time that takes a moment.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Takes PyTorch from another package index, for machines without a GPU:
#   make run TORCH_INDEX=<the address of PyTorch's CPU wheels>
TORCH_INDEX ?=
# Processes that share the tests; many of them mostly wait.
JOBS ?= 3
TORCH := $(shell grep '^torch==' constraints.txt)
PIP := $(BIN)/python -m pip --disable-pip-version-check
STAMP := $(VENV)/.set-up
.DELETE_ON_ERROR:
.PHONY: run test check bench soak clean

run: $(STAMP)
	@$(BIN)/fairbrush run

test: $(STAMP)-dev
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m "not soak"

soak: $(STAMP)-dev
	$(BIN)/python -m pytest -m soak -s

check: $(STAMP)-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP)-dev
	@for program in benchmarks/[a-z]*.py; do \
	  name=$$(basename $$program .py); echo "== $$name"; \
	  $(BIN)/python -m benchmarks.$$name || exit 1; done

$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 or newer is needed: $(PYTHON) was not found."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) -V). Set PYTHON=..."; exit 1; }
	@echo "Setting up $(VENV), once: PyTorch (about 200 MB for CPU, 3 GB with CUDA), diffusers and the rest (about 150 MB)."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) install -q $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) $(TORCH)
	@$(PIP) install -q -c constraints.txt -e '.[local]'
	@touch $@

$(STAMP)-dev: $(STAMP)
	@echo "Setting up the tools for tests and checks, once (about 80 MB)."
	@$(PIP) install -q -c constraints.txt -e '.[local,dev]'
	@touch $@

clean:
	rm -rf $(VENV) build dist
