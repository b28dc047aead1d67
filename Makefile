# Everything a newcomer needs: `make demo` and `make test`. Each sets up .venv by itself.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test test-full lint bench docs clean

demo: $(VENV)/.runtime ## run a whole small federation on generated hospitals
	$(BIN)/fedvol demo --out demo-out --resume

test: $(VENV)/.dev ## the tests that CI runs
	$(BIN)/python -m pytest -m "not full" -n 2 --dist loadfile --no-loadscope-reorder

test-full: $(VENV)/.dev ## and the long ones
	$(BIN)/python -m pytest

lint: $(VENV)/.dev ## style, types, import contract
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

bench: $(VENV)/.dev ## one JSON object a line
	@$(BIN)/python -m benchmarks

docs: $(VENV)/.dev ## write docs/study.md again from the schema
	$(BIN)/fedvol study schema --markdown > docs/study.md

$(VENV)/.runtime: pyproject.toml constraints.txt
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || \
		{ echo "No virtual environment could be made: install python3-venv." >&2; exit 1; }
	$(BIN)/pip install --quiet -c constraints.txt -e '.[client,report]'
	touch $@

$(VENV)/.dev: $(VENV)/.runtime
	$(BIN)/pip install --quiet -c constraints.txt -e '.[client,report,dev]'
	touch $@

clean: ## remove what a demo left; the environment stays
	rm -rf demo-out
