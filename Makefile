# Hythe: `make help` lists what can be made.

PYTHON := .venv/bin/python
MAKEFLAGS += --no-print-directory

.DEFAULT_GOAL := help
.PHONY: help setup lock demo test check bench bench-fetch bench-metadata bench-pull up down fresh-test clean docs

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what running needs: Debian packages, .venv with locked dependencies
	@scripts/setup run

demo: ## start a stack of its own, run a container from a registry on loopback, show its trace, stop everything
	@scripts/demo

up: ## start the stack in the background
	@scripts/setup run
	@.venv/bin/hythe up --detach

down: ## stop the stack and its containers
	@.venv/bin/hythe down

check: ## lint, types, import contracts, generated documents: what CI runs before the tests
	@scripts/setup check
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports
	scripts/generate-docs --check

test: ## run every test (ARGS=… is passed on to pytest)
	@scripts/setup test
	@$(PYTHON) -m pytest $(ARGS)

bench: ## time `hythe run`, a bus call and the idle stack beside bare conmon + runc
	@scripts/setup run
	@$(PYTHON) -m bench $(ARGS)

bench-fetch: ## time `hythe pull --no-unpack` beside containerd and skopeo, and watch memory and downloads
	@scripts/setup bench-fetch
	@$(PYTHON) -m bench.content_fetch $(ARGS)

bench-metadata: ## time writes, reads, lists and marks of the metadata service on SQLite and on Redis
	@scripts/setup bench-metadata
	@$(PYTHON) -m bench.metadata $(ARGS)

bench-pull: ## time `hythe pull` beside containerd, docker, podman and the bare tools, with a chart
	@scripts/setup bench-pull
	@$(PYTHON) -m bench.pull $(ARGS)

fresh-test: ## prove the set-up: a clone inside a bare Debian runs `make demo`
	@scripts/setup fresh-test
	@scripts/fresh-test $(ARGS)

docs: ## write the generated documents anew
	@scripts/setup check
	@scripts/generate-docs

lock: ## choose the versions of all Python dependencies anew and write requirements.lock
	@scripts/setup check
	.venv/bin/uv pip compile --quiet --upgrade --universal --generate-hashes --no-header --no-annotate --extra dev pyproject.toml --output-file requirements.lock

clean: ## remove what was made here: .venv, caches, byte code
	rm -rf .venv dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache bench/out
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
