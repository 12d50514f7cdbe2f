# Every target makes the environment it needs and does not make it twice.
VENV ?= .venv
BIN := $(VENV)/bin
ROOMS := $(patsubst src/clipself/%/__init__.pyi,%,$(wildcard src/clipself/*/__init__.pyi))
PYTHON ?= python3
TORCH_INDEX ?=

.PHONY: install quickstart format lint types test test-all test-gpu docs bench bench-gpu check clean

install: $(VENV)/.installed

# uv where it is there, else the standard library's venv with pip. TORCH_INDEX=URL takes torch from an index of its own,
# such as that of the CPU wheels.
$(VENV)/.installed: pyproject.toml
	@set -e; if command -v uv >/dev/null 2>&1; then \
		uv venv --quiet --allow-existing --python '>=3.11' $(VENV); install="uv pip install --python $(BIN)/python"; \
	else \
		test -x $(BIN)/python || $(PYTHON) -m venv $(VENV); \
		install="$(BIN)/python -m pip install --quiet --disable-pip-version-check"; \
	fi; \
	$(if $(TORCH_INDEX),$$install --index-url '$(TORCH_INDEX)' torch torchvision;) $$install -e '.[dev,docs]'
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
	$(BIN)/mkdocs build --quiet --strict --site-dir build/docs
	$(BIN)/pdoc -d google -o build/docs/api clipself $(addprefix clipself.,$(ROOMS))

bench: install
	$(BIN)/python benchmarks/bench.py --out build/bench

bench-gpu: install
	$(BIN)/python benchmarks/bench.py --device cuda --out build/bench-gpu

check: lint types test

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
