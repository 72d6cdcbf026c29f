# What can be made here: make help. Each target does its own set-up the first time: Debian packages where they are
# missing (.ci/needs says which), Python's in .venv.

PYTHON ?= python3
VENV ?= .venv
BIN := $(CURDIR)/$(VENV)/bin
export PYTHON

# What the installed package is made from.
SOURCES := setup.py pyproject.toml README.md LICENSE \
	$(shell find $(wildcard ext vmtools service) -type f ! -name '*.so' ! -path '*/__pycache__/*')

# An environment that was made elsewhere (its scripts hold paths) or whose Python has gone is of no use.
ifneq ($(wildcard $(VENV)),)
  ifneq ($(shell grep -qs ' $(CURDIR)/$(VENV)$$' $(VENV)/pyvenv.cfg && $(BIN)/python -c 'print("works")' 2>/dev/null),works)
    $(info $(VENV) is broken or was made elsewhere: made anew)
    $(shell rm -rf $(VENV))
  endif
endif

# Installs an extra's requirements without the package itself.
define install_extra
@echo "Installing into $(VENV), from the package index: extra \"$(1)\" of pyproject.toml"
@$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["$(1)"], sep="\n")' \
	> $(VENV)/requirements-$(1).txt
@$(BIN)/pip --disable-pip-version-check install --quiet --requirement $(VENV)/requirements-$(1).txt
@touch $@
endef

.DEFAULT_GOAL := help
.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

.PHONY: demo
demo: setup-build ## install, then an RPC through real traps to a simulated host
	@PATH="$(BIN):$$PATH" bash docs/demo.sh

.PHONY: test
test: setup-test ## all tests (T="-k word" to choose)
	PATH="$(BIN):$$PATH" $(BIN)/pytest $(T)

.PHONY: bench
bench: setup-test ## the figures: ratios against peers, in one run (B=SECTION to choose)
	PATH="$(BIN):$$PATH" $(BIN)/python -m tests.bench $(B)

.PHONY: fuzz
fuzz: setup-test ## hostile guests, hosts and files, for an hour (FUZZ_SECONDS=120; F=TARGET to choose)
	PATH="$(BIN):$$PATH" $(BIN)/python -m tests.fuzz $(F)

.PHONY: check
check: lint types test ## all that must hold before a change is done

.PHONY: lint
lint: $(VENV)/.lint ## style, likely bugs, and the floors of the house
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PATH="$(BIN):$$PATH" $(BIN)/cython-lint ext
	$(BIN)/lint-imports --no-cache

.PHONY: types
types: setup-build $(VENV)/.lint $(VENV)/.test ## mypy on everything; the extensions' stubs against the extensions
	$(BIN)/mypy
	cd $(VENV) && $(BIN)/stubtest --concise vmtools._gate vmtools.sim._tracer

.PHONY: dist
dist: needs-build $(VENV)/.dist ## source archive, and from it the wheel, in dist/
	rm -rf build dist
	VMTOOLS_WERROR=1 $(BIN)/pyproject-build
	$(BIN)/abi3audit --strict dist/*.whl
	$(BIN)/check-wheel-contents dist/*.whl

.PHONY: inplace
inplace: setup-build ## the extensions into the source tree (then: PYTHONPATH=. .venv/bin/pytest)
	$(BIN)/pip --disable-pip-version-check install --quiet 'setuptools>=77' 'Cython>=3.1,<4'
	$(BIN)/python setup.py --quiet build_ext --inplace

.PHONY: clean
clean: ## remove what was built here
	rm -rf $(VENV) build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find $(wildcard ext vmtools service tests) -name '*.so' -delete -o -name __pycache__ -prune -exec rm -r {} +

.PHONY: needs-build needs-test
needs-build needs-test: needs-%:
	@.ci/needs $*

.PHONY: setup-build
setup-build: $(VENV)/.package ## compiler, .venv, and the package in it

.PHONY: setup-test
setup-test: needs-test setup-build $(VENV)/.test ## what the tests need besides

$(BIN)/python: | needs-build
	@echo "Making a virtual environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)

# What an earlier build left must not slip into this one.
$(VENV)/.package: $(SOURCES) | $(BIN)/python
	@echo "Building vmtools-py and installing it into $(VENV)"
	@rm -rf build/lib* build/bdist*
	@$(BIN)/pip --disable-pip-version-check install --quiet .
	@touch $@

$(VENV)/.test $(VENV)/.lint $(VENV)/.dist: $(VENV)/.%: pyproject.toml | $(BIN)/python
	$(call install_extra,$*)
