PYTHON ?= python3
VENV ?= $(if $(filter python3,$(PYTHON)),.venv,.venv-$(notdir $(PYTHON)))
ARGS ?=

BIN := $(VENV)/bin
CODE := schema stores producer worker src tests examples benchmarks
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test soak lint bench format clean distclean
.DELETE_ON_ERROR:

help:
	@echo "make demo     train a small model on real data, log 100,000 points and more, read them back"
	@echo "make test     run the tests"
	@echo "make soak     five minutes in which whatever takes part is killed at random; ARGS='--seconds 3600 --seed 7'"
	@echo "make lint     ruff, mypy and import-linter"
	@echo "make bench    measure; prints a table and keeps it as JSON in benchmarks/results"
	@echo "make format   format the code"
	@echo "make clean    remove what tools left behind; make distclean removes the virtual environment as well"
	@echo
	@echo "ARGS='--sync' goes to the command that a target runs; PYTHON=python3.12 chooses the interpreter."

demo: $(VENV)/.demo
	@$(BIN)/python examples/train_digits.py $(ARGS)

test: $(VENV)/.test
	@$(BIN)/pytest $(ARGS)

lint: $(VENV)/.lint
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy -p flightlog
	$(BIN)/mypy tests examples benchmarks
	$(BIN)/lint-imports

soak: $(VENV)/.test
	@PYTHONPATH=tests $(BIN)/python tests/soak.py $(ARGS)

bench: $(VENV)/.test
	@for script in benchmarks/bench_*.py; do $(BIN)/python "$$script" $(ARGS) || exit 1; done

format: $(VENV)/.lint
	@$(BIN)/ruff check --fix-only --quiet
	@$(BIN)/ruff format

clean:
	@rm -rf build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage htmlcov
	@find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean
	@rm -rf .venv .venv-*

# One stamp for each set of extras: a second call installs nothing until pyproject.toml changes.
$(VENV)/.demo: EXTRAS := examples
$(VENV)/.test: EXTRAS := test,examples
$(VENV)/.lint: EXTRAS := lint,test,examples

$(VENV)/.demo $(VENV)/.test $(VENV)/.lint: pyproject.toml | $(BIN)/pip
	@echo "installing flightlog[$(EXTRAS)] into $(VENV) ..."
	@$(BIN)/pip install --quiet --editable '.[$(EXTRAS)]'
	@touch $@

# Debian's python3 comes without ensurepip: then virtualenv, if there is one, or another pip does as well.
$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "flightlog needs Python 3.10 or newer, and '$(PYTHON)' is not; choose one, for example: make PYTHON=python3.12 demo" >&2; exit 1; }
	@echo "making the virtual environment $(VENV) ..."
	@if $(PYTHON) -c 'import ensurepip' 2>/dev/null; then $(PYTHON) -m venv $(VENV); \
	elif $(PYTHON) -c 'import virtualenv' 2>/dev/null; then $(PYTHON) -m virtualenv --quiet $(VENV); \
	elif $(PYTHON) -m pip --python "$$(command -v $(PYTHON))" --version >/dev/null 2>&1; then \
	  $(PYTHON) -m venv --without-pip $(VENV) && $(PYTHON) -m pip --python $(BIN)/python install --quiet pip; \
	else echo "'$(PYTHON)' cannot make a virtual environment: it has no ensurepip, virtualenv or pip." >&2; \
	  echo "On Debian and Ubuntu install it with: apt-get install python3-venv" >&2; exit 1; fi
