# Every target sets itself up: Python 3.11 or newer is all that must be there.

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
BENCH := .venv-bench
EXTRAS := data,train,dev
OUTSIDE := $(subst $(CURDIR)/$(BIN):,,$(PATH))
export PATH := $(CURDIR)/$(BIN):$(OUTSIDE)

.PHONY: help demo ablation test lint format bench-env clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s%s\n", $$1, $$2}' Makefile

demo: $(READY) ## from nothing to a trained and evaluated model on generated data
	@test -e .git || dvc config --local core.no_scm true
	dvc repro
	@python -m training.results

ablation: $(READY) ## what fusions, encoders, masks and negatives are worth: three quarters of an hour
	dvc repro ablation/dvc.yaml

test: $(READY) ## all tests, a process a core
	OMP_NUM_THREADS=1 python -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile

lint: $(READY) ## style, types, and who may import whom
	ruff check .
	ruff format --check .
	mypy
	lint-imports

format: $(READY) ## let ruff rewrite what it can
	ruff check --fix .
	ruff format .

bench-env: $(READY) ## the other loaders of benchmarks/stream.py, in an environment of their own
	$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python $(BENCH)
	$(BIN)/uv pip install --quiet --system-certs --python $(BENCH)/bin/python --extra bench -r pyproject.toml

clean: ## remove the environment and all that can be built again (the DVC cache stays)
	rm -rf $(VENV) $(BENCH) raw/demo weights/demo read scan images validate spans features negatives data reports
	rm -rf runs/demo runs/blind .work *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Made anew when what it installs should change. uv is several times faster than pip at 6 GB of wheels; bytecode
# is compiled at once, where each command would otherwise begin by compiling torch if it may not keep the result;
# --system-certs: behind a proxy that signs connections itself, the system knows the certificate and uv does not.
$(READY): pyproject.toml constraints.txt
	@PATH="$(OUTSIDE)"; supported='import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))'; \
	if ! $(BIN)/python -c "$$supported" 2>/dev/null; then \
	    for python in python3 python3.13 python3.12 python3.11 none; do \
	        if $$python -c "$$supported" 2>/dev/null; then break; fi; \
	    done; \
	    if [ $$python = none ]; then \
	        echo "Fuseline needs Python 3.11 or newer with venv (Debian, Ubuntu: apt install python3-venv)." >&2; \
	        echo "Found: $$(python3 --version 2>/dev/null || echo no python3)" >&2; exit 2; \
	    fi; \
	    $$python -m venv --clear $(VENV); \
	fi
	@echo "Installing the versions of constraints.txt into $(VENV) (about 6 GB) …"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
	$(BIN)/uv pip install --quiet --system-certs --compile-bytecode --python $(BIN)/python \
	    --constraint constraints.txt --build-constraint constraints.txt --editable '.[$(EXTRAS)]'
	@touch $@
