# Sets up a virtual environment and runs the project's commands in it. Needs make and Python >= 3.11 only.
#
# No file name is ever a make target here: make splits names at spaces, and the checkout may lie
# below a folder that has one. The recipes compare a stamp inside the environment instead.

VENV ?= .venv
PYTHON ?=
PYTEST_ARGS ?=
export VENV PYTHON

# One process runs whole sweeps, the other all other tests; see tests/conftest.py.
PARALLEL := -n 2 --dist loadfile --no-loadscope-reorder
DEMO := demo
DEV := demo,dev
CANDIDATES := $(if $(PYTHON),"$$PYTHON",python3 python3.13 python3.12 python3.11 python3.14)

.DEFAULT_GOAL := help
.PHONY: help quickstart test coverage lint types clean venv install-demo install-dev

help:
	@echo "make quickstart   install into $(VENV) and run sweeps/quickstart.yaml"
	@echo "make test         install the development tools too and run every test"
	@echo "make coverage     the tests, with the package's coverage"
	@echo "make lint         ruff check and ruff format --check"
	@echo "make types        mypy, strict, on the package"
	@echo "make clean        remove caches and build products; keeps $(VENV) and runs"
	@echo
	@echo "Variables: VENV=DIR (default .venv), PYTHON=INTERPRETER (default: the first >= 3.11), PYTEST_ARGS=..."

quickstart: install-demo
	@echo "==> Running the sweep sweeps/quickstart.yaml; its results go to runs/quickstart"
	@"$$VENV/bin/python" -m fpt_ray.sweep sweeps/quickstart.yaml

test: install-dev
	@echo "==> Running the tests"
	@"$$VENV/bin/python" -m pytest $(PARALLEL) $(PYTEST_ARGS)

coverage: install-dev
	@echo "==> Running the tests with coverage"
	@"$$VENV/bin/python" -m pytest --cov --cov-report=term $(PARALLEL) $(PYTEST_ARGS)

lint: install-dev
	@echo "==> Checking style and format with ruff"
	@"$$VENV/bin/python" -m ruff check .
	@"$$VENV/bin/python" -m ruff format --check .

types: install-dev
	@echo "==> Checking types with mypy"
	@"$$VENV/bin/python" -m mypy

clean:
	@echo "==> Removing caches and build products"
	@rm -rf build dist htmlcov .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache
	@find . -path ./.venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

venv:
	@if "$$VENV/bin/python" -m pip --version >/dev/null 2>&1; then exit 0; fi; \
	for candidate in $(CANDIDATES); do \
	  if "$$candidate" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
	  then found="$$candidate"; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "error: none of these is a Python >= 3.11 with venv and ensurepip:" $(CANDIDATES) >&2; \
	  echo "  fix: install one (on Debian and Ubuntu: apt install python3-venv), or name it: make PYTHON=/path/to/python3" >&2; \
	  exit 1; \
	fi; \
	echo "==> Creating the virtual environment $$VENV with $$("$$found" --version)"; \
	"$$found" -m venv "$$VENV"

# pip compiles what it installs: where PYTHONDONTWRITEBYTECODE is set, every process of Ray would do so again.
# Installs the package, editable, with the extras in $(1), unless this very checkout's pyproject.toml was
# installed so before. torch and torchvision come from one pip run: from two they may not fit each other.
define install
	@wanted="$$(pwd -P) $$(cksum < pyproject.toml)"; stamp="$$VENV/.installed-$(1)"; \
	if [ "$$(cat "$$stamp" 2>/dev/null)" = "$$wanted" ]; then exit 0; fi; \
	echo "==> Installing fpt-ray[$(1)] into $$VENV (the first time: several gigabytes and minutes)"; \
	"$$VENV/bin/python" -m pip install --editable '.[$(1)]' && printf '%s\n' "$$wanted" > "$$stamp"
endef

install-demo: venv
	$(call install,$(DEMO))

install-dev: venv
	$(call install,$(DEV))
