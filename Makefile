# No sudo, no Docker. Variables pass through: VOLTAGE_PORT_BASE=7000 make run
.PHONY: help run env test check format lock
BIN := .venv/bin

help:
	@echo "make run       the whole system on this machine (environment in .venv, then 'voltage up')"
	@echo "make test      all tests; make check: format, lint, types, layers, Lua, generated files"
	@echo "make bench-X   benchmark bench/X.py; make chaos-X: chaos run bench/chaos/X.py"

run: .venv/.ready
	@exec $(BIN)/voltage up $(ARGS)

env: .venv/.ready

.venv/.ready: requirements.lock pyproject.toml
	@scripts/install

test: .venv/.ready
	@scripts/test $(ARGS)

check: .venv/.ready
	@scripts/check

format: .venv/.ready
	@$(BIN)/ruff format -q . && $(BIN)/ruff check -q --fix .

lock:
	@scripts/lock

bench-%: .venv/.ready
	@scripts/bench $* $(ARGS)

chaos-%: .venv/.ready
	@scripts/bench chaos/$* $(ARGS)
