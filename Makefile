# make            lists the targets
# make quickstart trains the small experiment, installing what it needs first
#
# Settings, given as NAME=VALUE on the command line or in the environment:
#   PYTHON           Python 3.10, 3.11 or 3.12 to make the virtual environment with (found by itself)
#   VENV             folder of the virtual environment (.venv)
#   EXPERIMENT       experiment file of `make train`
#   ARGS             further arguments of `rllib train`, pytest or the benchmark
#   ROOT_FOLDER      where `make docker-check` builds (/tmp/rllib_ppg_root)
#   TORCH_CPU_INDEX  where to look for a CPU build of PyTorch on machines without an NVIDIA GPU;
#                    empty: always install the build that pip finds by itself

VENV ?= .venv
EXPERIMENT ?= experiments/ppg_procgen.yaml
ARGS ?=
ROOT_FOLDER ?= /tmp/rllib_ppg_root
TORCH_CPU_INDEX ?= https://download.pytorch.org/whl/cpu

# Succeeds in a Python of a fitting version that can make virtual environments. A candidate has to
# run to count: version managers put commands on PATH that only print an error.
PYTHON_FITS := import ensurepip, sys, venv; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))
PYTHON ?= $(shell for python in python3.12 python3.11 python3.10 python3; do \
	if $$python -c '$(PYTHON_FITS)' >/dev/null 2>&1; then echo $$python; break; fi; done)
PYTHON_HELP := Install one (Debian, Ubuntu: apt-get install python3 python3-venv), \
	or name it: make PYTHON=/path/to/python3.11 ...

VENV_PYTHON := $(VENV)/bin/python
PIP := $(VENV_PYTHON) -m pip
INSTALLED := $(VENV)/.installed
INSTALLED_DEV := $(VENV)/.installed-dev
INSTALL_INPUTS := setup.py pyproject.toml rllib_ppg/_version.py

# pip never asks anything, and a config that says "always --user" does not reach a venv.
export PIP_NO_INPUT := 1
export PIP_USER := 0
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: docker-check help venv install install-dev quickstart train test test-slow soak bench lint format clean distclean moved

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

venv: $(VENV_PYTHON) ## Make the virtual environment

install: $(INSTALLED) ## Install the package and what it needs into it

install-dev: $(INSTALLED_DEV) ## The same, with what tests and checks need

quickstart: install ## Install, then train the quick experiment
	$(VENV)/bin/rllib train -f experiments/ppg_procgen_quick.yaml $(ARGS)

train: install ## Install, then train EXPERIMENT
	$(VENV)/bin/rllib train -f $(EXPERIMENT) $(ARGS)

test: install-dev ## Run the tests, without the slow ones, in two processes
	$(VENV_PYTHON) -m pytest -m "not slow" -n 2 --dist loadfile $(ARGS)

test-slow: install-dev ## Run the slow tests
	$(PIP) install --quiet -e ".[dev,cluster]"
	$(VENV_PYTHON) -m pytest -m slow --timeout 3600 $(ARGS)

soak: install-dev ## Kill workers and drivers at random for 20 minutes (ARGS="--minutes 5 --seed 1")
	$(VENV_PYTHON) tests/faults/soak.py $(ARGS)

bench: install ## Measure speed and memory beside bare loops (ARGS="--quick": a rehearsal)
	$(VENV_PYTHON) -m benchmarks $(ARGS)

docker-check: install-dev ## Run the Dockerfile's steps in a fresh Debian root (as root; ARGS="--help")
	$(VENV_PYTHON) docker/check_in_fresh_root.py $(ROOT_FOLDER) $(ARGS)

lint: install-dev ## Check style and types
	$(VENV_PYTHON) -m ruff check .
	$(VENV_PYTHON) -m ruff format --check .
	$(VENV_PYTHON) -m mypy rllib_ppg

format: install-dev ## Put the source into shape
	$(VENV_PYTHON) -m ruff check --fix .
	$(VENV_PYTHON) -m ruff format .

clean: ## Remove caches and build output
	rm -rf build dist rllib_ppg.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find rllib_ppg tests -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## The same, and the virtual environment
	@if [ -e "$(VENV)/pyvenv.cfg" ]; then echo 'rm -rf "$(VENV)"'; rm -rf "$(VENV)"; fi

$(VENV_PYTHON):
	@if [ -L "$@" ]; then \
		echo "The Python of $(VENV) is gone. Remove it (make distclean) and try again." >&2; exit 1; fi
	@python='$(PYTHON)'; \
	if [ -z "$$python" ]; then \
		echo "No working Python 3.10, 3.11 or 3.12 with venv was found. $(PYTHON_HELP)" >&2; exit 1; fi; \
	if ! "$$python" -c '$(PYTHON_FITS)' >/dev/null 2>&1; then \
		echo "PYTHON=$$python is no working Python 3.10, 3.11 or 3.12 with venv. $(PYTHON_HELP)" >&2; \
		exit 1; fi; \
	echo "Making $(VENV) with $$("$$python" --version)"; \
	"$$python" -m venv "$(VENV)"

# A venv without pip is one whose making was cut short, or another tool's.
define prepare_pip
@$(PIP) --version >/dev/null 2>&1 || $(VENV_PYTHON) -m ensurepip
endef

# pip alone would take PyTorch's newest CUDA build, several GB. The only sources here are the CPU
# index and the user's own --find-links: an extra index may hold CUDA builds of a higher version
# (the blank is no mistake: pip drops an empty setting). No way to get one is no failure.
define prefer_cpu_torch
@has_torch='import importlib.util as u, sys; sys.exit(u.find_spec("torch") is None)'; \
if [ -z "$(TORCH_CPU_INDEX)" ] || $(VENV_PYTHON) -c "$$has_torch" \
	|| nvidia-smi -L 2>/dev/null | grep -q '^GPU '; then exit 0; fi; \
echo "No NVIDIA GPU here: looking for a CPU build of PyTorch"; \
PIP_EXTRA_INDEX_URL=' ' $(PIP) install --no-deps --only-binary :all: --timeout 5 --retries 0 \
	--index-url "$(TORCH_CPU_INDEX)" "torch>=2.4,<3" 2>/dev/null \
	|| echo "Note: found none; taking what the configured package index has, which may be large"
endef

# An editable install points at its folder: after a move it has to be made again.
ifneq ($(shell cat $(INSTALLED) 2>/dev/null),$(CURDIR))
$(INSTALLED): moved
endif
ifneq ($(shell cat $(INSTALLED_DEV) 2>/dev/null),$(CURDIR))
$(INSTALLED_DEV): moved
endif

$(INSTALLED): $(INSTALL_INPUTS) | $(VENV_PYTHON)
	$(prepare_pip)
	$(prefer_cpu_torch)
	$(PIP) install -e .
	@echo '$(CURDIR)' >$@

$(INSTALLED_DEV): $(INSTALL_INPUTS) | $(VENV_PYTHON)
	$(prepare_pip)
	$(prefer_cpu_torch)
	$(PIP) install -e ".[dev]"
	@echo '$(CURDIR)' | tee $(INSTALLED) >$@
