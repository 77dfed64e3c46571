# `make demo` and `make test` need Python 3.10 or newer and nothing else. Another interpreter: `make test PYTHON=python3.12`.
SHELL := /bin/bash
.DELETE_ON_ERROR:
.PHONY: help demo test lint bench wheels clean

# The first interpreter that starts, is new enough and can make a virtual environment; 3.11 is what most tests were run on.
PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.10 python3.13; do \
	if $$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1; then echo $$p; break; fi; done)
PIP_QUIET := --quiet --disable-pip-version-check
# setuptools warns about editable installations as such, from a process of its own.
PIP_ENV := PYTHONWARNINGS=ignore
# What decides how the compiled preprocessing is built: installing does that, where there is a C++ compiler.
INSTALLED := pyproject.toml setup.py $(wildcard engines/memedge_engines/kernels/host*.h) \
	$(addprefix engines/memedge_engines/kernels/,host.cpp pixels.h)
# torch's CPU build is 200 MB, its CUDA build some 3 GB. `auto` takes the first where pip finds it, and on Linux x86-64 rather
# skips the export tests than fetch the second. Say TORCH=torch==2.13.0 to take whatever pip finds, TORCH= for none.
TORCH ?= auto
# As many processes as there are usable cores; `make test PYTEST_ARGS="-n 0"` runs every test in one.
PYTEST_PARALLEL := -n auto --maxprocesses 8 --dist worksteal
PYTEST_ARGS ?=

help:
	@echo "make demo    score the project's own clip: rolling scores here, files in out/demo"
	@echo "make test    every test, ruff and mypy, in .venv-test"
	@echo "make lint    ruff and mypy alone"
	@echo "make bench   what scoring costs on this machine, stage by stage and beside other programs"
	@echo "make wheels  core dependencies as aarch64 wheels, installed size"
	@echo "make clean   remove environments, caches and out/"

.PHONY: python
python:
	@if [ -z "$(PYTHON)" ]; then echo "no Python 3.10 or newer with venv was found (on Debian and Ubuntu: apt install python3-venv); say make PYTHON=/path/to/python3" >&2; exit 1; fi

.venv/ready: $(INSTALLED) | python
	@echo "installing memedge and its core dependencies into .venv (about 300 MB) ..." >&2
	$(PYTHON) -m venv --clear .venv
	$(PIP_ENV) .venv/bin/python -m pip install $(PIP_QUIET) --editable .
	@touch $@

.venv-test/ready: $(INSTALLED) | python
	@echo "installing memedge, its extras and the test tools into .venv-test ..." >&2
	$(PYTHON) -m venv --clear .venv-test
	$(PIP_ENV) .venv-test/bin/python -m pip install $(PIP_QUIET) --editable '.[dev,openvino,plot]'
	@torch='$(TORCH)'; \
	if [ "$$torch" = auto ]; then \
		if $(PIP_ENV) .venv-test/bin/python -m pip install $(PIP_QUIET) 'torch==2.13.0+cpu' 2>/dev/null; then torch=torch==2.13.0; \
		elif [ "$$(uname -sm)" = "Linux x86_64" ]; then torch=; \
		else torch=torch==2.13.0; fi; \
	fi; \
	if [ -n "$$torch" ]; then $(PIP_ENV) .venv-test/bin/python -m pip install $(PIP_QUIET) "$$torch" --editable '.[export]'; \
	else echo "no CPU build of torch for this Python: tests of training and export will be skipped (TORCH=torch==2.13.0 installs the CUDA build)" >&2; fi
	@touch $@

demo: .venv/ready
	@mkdir -p out/demo
	.venv/bin/memedge run --source samples/clip/demo.mp4 --jsonl out/demo/readings.jsonl --video out/demo/annotated.mp4 --moments out/demo/moments
	@echo
	@echo "readings   out/demo/readings.jsonl"
	@echo "video      out/demo/annotated.mp4"
	@echo "moments    out/demo/moments"

# tests/conftest.py counts the skipped tests by reason; pytest's closing line stays the last line of the output.
test: .venv-test/ready
	@.venv-test/bin/python -m pytest -q $(PYTEST_PARALLEL) $(PYTEST_ARGS)

lint: .venv-test/ready
	.venv-test/bin/python -m ruff check .
	.venv-test/bin/python -m mypy

# Some seven minutes; writes out/bench/<date>-<machine>.json and .md. Committed results lie in benchmarks/results.
bench: .venv-test/ready
	.venv-test/bin/python benchmarks/run_all.py --out out/bench

wheels: .venv-test/ready
	.venv-test/bin/python benchmarks/check_wheels.py
	.venv-test/bin/python benchmarks/installed_size.py

clean:
	rm -rf .venv .venv-test .venv-py310 out build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	rm -f engines/memedge_engines/kernels/memedge_host.*
	find engines export memedge tests samples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
