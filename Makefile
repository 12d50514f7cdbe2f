# Every target makes the environment it needs and does not make it twice.
VENV ?= .venv
BIN := $(VENV)/bin
ROOMS := $(patsubst src/clipself/%/__init__.pyi,%,$(wildcard src/clipself/*/__init__.pyi))
PYTHON ?= python3

.PHONY: install quickstart format lint types test test-all test-gpu docs bench check clean

install: $(VENV)/.installed

# uv where it is there, else the standard library's venv with pip.
$(VENV)/.installed: pyproject.toml
	@if command -v uv >/dev/null 2>&1; then \
		uv venv --quiet --allow-existing --python '>=3.11' $(VENV) && uv pip install --python $(BIN)/python -e '.[dev]'; \
	else \
		test -x $(BIN)/python || $(PYTHON) -m venv $(VENV); \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'; \
	fi
	@touch $@

quickstart: install
	$(BIN)/clipself quickstart

format: install
	$(BIN)/ruff format . && $(BIN)/ruff check --fix .

lint: install
	$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/codespell

types: install
	$(BIN)/mypy

test: install
	$(BIN)/pytest -n 2 --dist loadscope

test-all: install
	$(BIN)/pytest --runslow -n 2 --dist loadscope

test-gpu: install
	$(BIN)/pytest -m gpu --runslow

docs: install
	$(BIN)/pdoc -o build/docs clipself $(addprefix clipself.,$(ROOMS))

bench: install
	$(BIN)/python benchmarks/distill_step.py

check: lint types test

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
