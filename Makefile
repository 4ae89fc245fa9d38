# Everything runs in .venv, which this file makes by itself: with uv where there is one, else with venv and pip.
PYTHON ?= python3
# The tests also want MLX's CPU build, Triton (about 300 MB together), Liger, Textual and MCP's SDK; without them their
# tests are skipped.
ifeq ($(origin EXTRAS),undefined)
EXTRAS := cpu,dev
TEST_EXTRAS := cpu,mlx,triton,liger,watch,mcp,dev
else
TEST_EXTRAS := $(EXTRAS)
endif
VENV := .venv
BIN := $(VENV)/bin
comma := ,
# One mark per set of extras, so that asking for others installs them.
READY := $(VENV)/.ready-$(subst $(comma),-,$(EXTRAS))
UV := $(shell command -v uv 2>/dev/null)
# uv does not read pip's own setting for a folder of wheels at hand.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
# Without Python's compiled files every process would compile this project's modules anew.
unexport PYTHONDONTWRITEBYTECODE
# What the lab's main job trains on, and for how long the closing run trains (seconds).
PRESET ?= cpu-nano
TOP ?= 8
TRAIN_SECONDS ?= 20
# Another Triton than the newest, for instance the one that an older PyTorch comes with, and the tests that it changes.
TRITON ?= 3.6.0
TRITON_TESTS := $(wildcard tests/kernels/test_triton_*.py) tests/kernels/interpreted tests/exploits/test_triton_faults.py
# Processes that the tests are shared out to; those that measure time come after, one at a time.
WORKERS ?= 2

.PHONY: help setup lab mac test test-all test-quick test-triton lint house clean

help:
	@echo "make setup   install into $(VENV)"
	@echo "make lab     the main job: profile, verify, bench, A/B, promote, train again, report"
	@echo "make mac     on a Mac: all evidence that takes an Apple GPU (docs/mac.md)"
	@echo "make test    the tests; of those that take every kernel through everything, three targets'"
	@echo "make test-all    all tests: before kernels, what verifies them or the GPU bundle change"
	@echo "make test-quick  all but what is slow or measures time: some two minutes on two cores"
	@echo "make test-triton TRITON=3.6.0   the tests of Triton kernels with that version"
	@echo "make lint    ruff and mypy"
	@echo "make house   figures of the structure: imports, names, types; exit code 1 where a bound is missed"
	@echo "make clean   remove $(VENV), data, workspaces and local results (kernels and shipped evidence stay)"

setup: $(READY)

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed; set PYTHON=..."; exit 2; }
ifneq ($(UV),)
	test -d $(VENV) || uv venv --python $(PYTHON) $(VENV)
# Compiled now, as pip does by itself: confined jobs, which may not write here, would compile modules in every verify.
	@index="$$($(BIN)/python tools/torch_index.py $(EXTRAS) uv)"; env $$index uv pip install --compile-bytecode --python $(BIN)/python -e '.[$(EXTRAS)]'
# uv's environments have no pip, which test-triton and the advice to install an extra call; without a network, no matter.
	-@$(BIN)/python -m pip --version >/dev/null 2>&1 || uv pip install --quiet --python $(BIN)/python pip
else
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	@index="$$($(BIN)/python tools/torch_index.py $(EXTRAS) pip)"; env $$index $(BIN)/python -m pip install --quiet -e '.[$(EXTRAS)]'
endif
	@touch $(READY)

lab: $(READY)
	@$(BIN)/python kernel-lab.py run --plan cpu --preset $(PRESET) --top-k $(TOP) --train-seconds $(TRAIN_SECONDS)

mac:
	@test "$$(uname -sm)" = "Darwin arm64" || { echo "make mac: there is no Metal here: it takes an Apple GPU" >&2; exit 2; }
	@$(MAKE) --no-print-directory setup EXTRAS=$(TEST_EXTRAS)
	@$(BIN)/python kernel-lab.py --engine mlx run --plan mac

test:
	@$(MAKE) --no-print-directory setup EXTRAS=$(TEST_EXTRAS)
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not alone and not thorough"
	@$(BIN)/python -m pytest -m alone $$(grep -rl "mark.alone" tests --include="test_*.py")

test-all: test
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m thorough

test-quick:
	@$(MAKE) --no-print-directory setup EXTRAS=$(TEST_EXTRAS)
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not alone and not slow"

test-triton:
	@$(MAKE) --no-print-directory setup EXTRAS=$(TEST_EXTRAS)
	@test -d build/triton-$(TRITON) || $(BIN)/python -m pip install --quiet --no-deps --target build/triton-$(TRITON) triton==$(TRITON)
	@PYTHONPATH=$(CURDIR)/build/triton-$(TRITON) $(BIN)/python -m pytest -n $(WORKERS) $(TRITON_TESTS)

lint: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/mypy

house: $(READY)
	@$(BIN)/python tools/house.py

clean:
	rm -rf $(VENV) data runs workspaces kernels/promoted.local.toml
	-find results/kernel_lab -mindepth 1 -maxdepth 1 ! -name shipped -exec rm -rf {} +
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
