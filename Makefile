# `make` on a machine that has only Python and make: everything else goes into .venv.

is-new-enough = $(if $(1),$(shell $(1) -c \
                  'import sys; print("yes" * (sys.version_info >= (3, 11)))' 2>/dev/null))

# The first that runs and is new enough: a name on the PATH may be an old Python, or a launcher of none.
PYTHON ?= $(firstword $(foreach name,python3 python3.14 python3.13 python3.12 python3.11 python,\
            $(if $(call is-new-enough,$(name)),$(name))))

.PHONY: help demo test lint torture chaos crowds live errors bench bench-check simulate picture clean .venv

help:  ## what can be made
	@awk -F ':.*## ' '/^[a-z.-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/base  ## a whole cluster on this machine, for 20 seconds
	.venv/bin/shardlog demo --seconds 20

test: lint  ## all checks, then all tests
	.venv/bin/pytest --numprocesses auto --maxprocesses 4 --dist loadfile

lint: .venv/dev  ## style, types, floors
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/pyright
	.venv/bin/lint-imports --no-logo

torture: .venv/dev  ## hostile values and hard ends, for some three minutes
	.venv/bin/python -m benchmarks.torture

chaos: .venv/dev  ## counts while everything is killed, for some three minutes
	.venv/bin/python -m benchmarks.chaos

crowds: .venv/dev  ## what processes cost a collector, for some ten minutes
	.venv/bin/python -m benchmarks.crowds

live: .venv/dev  ## what live tests cost at 100,000 intents, for some five minutes
	.venv/bin/python -m benchmarks.live

errors: .venv/dev  ## what a storm of errors does to all else, for a minute
	.venv/bin/python -m benchmarks.errors

bench: .venv/dev  ## how fast it is, beside others
	.venv/bin/python -m benchmarks.speed

bench-check: .venv/dev  ## the same; fails where a goal is missed
	.venv/bin/python -m benchmarks.speed --check

simulate: .venv/dev  ## whole clusters in one process, where everything fails, for ten minutes
	.venv/bin/python -m tests.simulation

picture: .venv/base  ## docs/demo.svg, from a run of the demo
	.venv/bin/python docs/picture.py

clean:  ## everything that git does not keep, .venv too
	rm -rf .venv .cache build dist *.egg-info .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv: .venv/dev  ## what the targets need, made by them when it is missing

.venv/base: pyproject.toml constraints.txt
	$(if $(call is-new-enough,$(PYTHON)),,$(error shardlog needs Python 3.11 or newer; say where: make PYTHON=/path/to/python))
	$(PYTHON) -m venv --clear .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

.venv/dev: .venv/base
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@
