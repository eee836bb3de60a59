# Two commands do everything on a fresh machine: `make run` and `make test`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev
# DVC and the stages' commands are found here; bytecode next to the sources would make folder dependencies look changed.
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: run test test-slow test-gpu campaign check docs format setup setup-dev system browser clean

run: setup  ## make the demonstration corpus, and run everything up to the report
	dvc repro
	@merc-report --where

# More than one thread per process only wait for each other.
PYTEST := OMP_NUM_THREADS=1 pytest -n 2 --dist loadscope

test: setup-dev  ## run the tests that take less than ten seconds each; MERC_REAL_DATA=<folder> adds those on real data
	$(PYTEST) -m "not slow"

test-slow: setup-dev  ## run the slow tests: complete runs, killed runs, dvc repro, real annotations and clips
	$(PYTEST) -m slow $$(grep -rl --include='test_*.py' 'mark\.slow' tests)  # only these files are imported

campaign: setup-dev  ## faults at every operation, 5,000 hostile files, 1,000 kills; takes hours
	$(BIN)/python benchmarks/campaign.py faults
	$(BIN)/python benchmarks/campaign.py fuzz
	$(BIN)/python benchmarks/campaign.py kills

test-gpu: setup-dev  ## run the tests that need a GPU; fails without one
	FAIL_WITHOUT_CUDA=1 pytest -m needs_cuda

check: setup-dev docs  ## lint, types, import order, documentation
	ruff format --check pipeline tests benchmarks docs
	ruff check pipeline tests benchmarks docs
	codespell pipeline tests benchmarks docs README.md CONTRIBUTING.md CHANGELOG.md params.yaml dvc.yaml
	mypy
	lint-imports

docs: setup-dev  ## build the documentation into site/, strictly; needs no network
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict --quiet

format: setup-dev  ## let ruff rewrite the sources
	ruff format pipeline tests benchmarks docs
	ruff check --fix pipeline tests benchmarks docs

setup: $(STAMP)  ## make a virtual environment with every command, in versions tested together

setup-dev: $(DEV_STAMP)  ## the same, with the tools for tests, linters and documentation

# Once per machine: the shared libraries that opencv-python's wheel lacks, and venv, which is a separate Debian package.
system:
	@$(PYTHON) -c 'import ensurepip, ctypes; [ctypes.CDLL(name) for name in ("libGL.so.1", "libglib-2.0.so.0", "libgthread-2.0.so.0")]' 2>/dev/null || { \
	  packages="python3-venv libgl1 libglib2.0-0"; \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then echo "Installing $$packages"; apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$packages >/dev/null; \
	  else echo "Missing system libraries. Once, as root:  apt-get install $$packages  (or their like)" >&2; exit 1; fi; }

# Only for the tests of the report's pages, which are skipped without it.
browser:  ## install Debian's Chromium, as root
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	  && timeout 60 apt-get update -qq && DEBIAN_FRONTEND=noninteractive timeout 180 apt-get install -y -qq --no-install-recommends chromium >/dev/null; } \
	  || { echo "Chromium is missing. Once, as root:  apt-get install chromium" >&2; exit 1; }

# numba compiles librosa's inner functions at their first use, which takes 15 seconds, and caches the result
# next to librosa.
COMPILE := from merc.encoders.engine import registry; from merc.params import Params; registry.build(Params.load(), "audio", "acoustic").load("cpu")

$(STAMP): pyproject.toml constraints.txt | system
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all]'
	$(BIN)/python -c '$(COMPILE)'
	touch $@

$(DEV_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:  ## remove what `make run` made; your own raw corpora are kept
	rm -rf raw/demo-meld raw/demo-iemocap features/demo-meld features/demo-iemocap runs evaluations reports
