# Two commands: `make demo` shows teacherd learning, `make test` tests it. Both install what they need, once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
UV := $(shell command -v uv 2>/dev/null)

.PHONY: demo test lint check install kafka clean

demo: $(INSTALLED)
	$(BIN)/teacherd demo $(DEMO_ARGS)

test: $(INSTALLED)
	$(BIN)/python -m pytest --numprocesses auto $(PYTEST_ARGS)

lint: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# A real Kafka to try things on, until Ctrl+C; `make kafka BROKERS=3` for three. Needs Java 17 and Maven.
kafka: $(INSTALLED)
	$(BIN)/python tests/support/kafka_broker.py --brokers $(or $(BROKERS),1)

check: lint test

install: $(INSTALLED)

# mypy sees the rooms under their installed names through build/ns/teacherd.
$(INSTALLED): pyproject.toml
ifdef UV
	[ -x $(BIN)/python ] || uv venv --quiet --python $(PYTHON) $(VENV)
	uv pip install --quiet --python $(BIN)/python --editable '.[test]'
else
	[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[test]'
endif
	mkdir -p build/ns && ln -sfn ../.. build/ns/teacherd
	touch $@

clean:
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache .hypothesis demo-out
