# `make` prints the targets.

PYTHON ?= python3
BIN := .venv/bin
SETUP := .venv/setup.stamp
NATIVE := .venv/native.stamp
SCRATCH := build/lint
IMAGE := gen/interchange/descriptors.binpb
FAST := $(wildcard tests/unit tests/property tests/native)
SLOW := $(wildcard tests/integration tests/sim tests/e2e)

export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup gen build lint test bench demo up down breaking regenerated

help: ## print the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(SETUP) $(NATIVE) ## make .venv and install everything into it; a no-op when nothing changed

gen: $(SETUP) ## regenerate gen/ from proto/
	$(BIN)/python proto/generate.py gen

build: $(NATIVE) ## compile the kernels in native/

lint: setup ## check style, types, imports, protos and that gen/ is current
	ruff check
	ruff format --check
	mypy
	lint-imports
	buf lint $(IMAGE) --config buf.yaml
	@$(MAKE) --no-print-directory breaking regenerated
	python proto/check_permissions.py

test: setup ## run all tests, the fast ones first
	python -m pytest -q $(FAST)
	python -m pytest -q $(SLOW)

bench: setup ## measure throughput and latency of a running stack
	python -m tests.load

demo: setup ## start the stack and walk a day of trading through it
	interchange demo

up: setup ## start the stack
	interchange up

down: setup ## stop the stack; its data stays
	interchange down

.venv/bin/python:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is missing: install Python 3.11 or newer" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$$($(PYTHON) --version) is too old: run make PYTHON=python3.11, or newer" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) has no venv: install it, on Debian as python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv .venv

$(SETUP): pyproject.toml setup.py | .venv/bin/python
	@command -v cc >/dev/null || { echo "cc is missing: the kernels need a C compiler, on Debian gcc and libc6-dev" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[stack,dev]'
	@touch $@ $(NATIVE)

$(NATIVE): $(wildcard native/*.pyx native/*.pxd) setup.py | $(SETUP)
	$(BIN)/python setup.py --quiet build_ext --inplace
	@touch $@

# The protos of the commit before, on main: a caller of that must be able to go on.
breaking:
	@base=$$(git merge-base HEAD origin/main 2>/dev/null) || base=; \
	if [ -z "$$base" ] || [ "$$base" = "$$(git rev-parse HEAD)" ]; then base=HEAD~1; fi; \
	mkdir -p $(SCRATCH); \
	if git show "$$base:$(IMAGE)" >$(SCRATCH)/before.binpb 2>/dev/null; then \
		echo "buf breaking $(IMAGE) against $$base"; \
		buf breaking $(IMAGE) --against $(SCRATCH)/before.binpb --config buf.yaml; \
	else \
		echo "buf breaking: skipped, $$base holds no $(IMAGE)"; \
	fi

regenerated:
	@rm -rf $(SCRATCH)/gen && mkdir -p $(SCRATCH)/gen
	@python proto/generate.py $(SCRATCH)/gen
	@diff -r -x __pycache__ gen $(SCRATCH)/gen || { echo "gen/ is not what proto/ generates: run make gen and commit it" >&2; exit 1; }
	@echo "gen/ is current"
