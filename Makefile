# Two commands are the whole set-up: `make run` serves, `make test` tests. `make` alone lists the targets.
.DEFAULT_GOAL := help
SHELL := /bin/bash
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
# The first that runs and is new enough; a shim of a version manager may be there and not run.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do $$p -c '$(NEW_ENOUGH)' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
PEERS := .venv-peers
CLIENTS := .venv-clients
TORCH := .venv-torch
NODE := tests/clients/node

ifdef PORT
export POINTSMAN_PORT := $(PORT)
endif
ifneq ($(wildcard $(TORCH)/.torch),)
export POINTSMAN_TORCH_PYTHON ?= $(abspath $(TORCH))/bin/python
endif

.PHONY: help run test test-torch clients torch check bench bench-peers lock lock-peers lock-clients lock-torch report clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 13

run: $(VENV)/.run ## serve on 127.0.0.1:8080 (PORT=... and POINTSMAN_* settings work); Ctrl-C ends everything
	@exec $(BIN)/pointsman serve

# Empty, `make test WITH_TORCH=` leaves out what needs torch, and its 3 GB; there is no vLLM elsewhere.
WITH_TORCH ?= $(filter Linux,$(shell uname -s))
TORCH_TESTS := $(TORCH)/bin/python -m pytest --confcutdir=tests/with_torch tests/with_torch
$(if $(WITH_TORCH),test) test-torch: export POINTSMAN_TORCH_PYTHON := $(abspath $(TORCH))/bin/python
test: $(VENV)/.dev clients $(if $(WITH_TORCH),torch) ## run every test, with the real models and the engines that need torch
	$(BIN)/pointsman models pull smollm2-135m-instruct-q4_1 qwen2.5-coder-0.5b-instruct-q4_k_m \
	  qwen2.5-coder-1.5b-instruct-q4_k_m $(if $(WITH_TORCH),smollm2-135m-instruct-bf16)
	$(BIN)/pytest -n auto --maxprocesses 4 --dist loadscope
	$(if $(WITH_TORCH),$(TORCH_TESTS))

test-torch: $(VENV)/.dev torch ## run of them those that need torch: real vLLM and transformers, sparse attention, smaller models
	$(BIN)/pointsman models pull smollm2-135m-instruct-q4_1 smollm2-135m-instruct-bf16
	$(BIN)/pytest tests/real/test_torch_engines.py
	$(TORCH_TESTS)

clients: $(CLIENTS)/.clients $(NODE)/node_modules/.clients ## install the clients that the tests let talk to a gateway; 190 MB

torch: $(TORCH)/.torch ## install the engines vllm and transformers, and what makes models smaller, apart from the gateway; 3 GB

check: $(VENV)/.dev ## lint, format, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev ## measure: what the gateway and its peers add to a call, what each model takes; BENCH=gateway for one part
	$(BIN)/python -m tests.bench $(BENCH)

bench-peers: $(PEERS)/.peers ## install the gateways that bench measures beside this one, apart from it; 900 MB

report: $(VENV)/.dev ## what routing is worth, on prompts that nothing was fitted on
	$(BIN)/pointsman ladder report

lock: $(VENV)/.dev ## resolve the dependencies anew, with hashes
	$(BIN)/uv pip compile -q pyproject.toml --extra embedder --extra llamacpp --group build $(LOCK_FLAGS) -o requirements/run.lock
	$(BIN)/uv pip compile -q pyproject.toml --extra embedder --extra llamacpp --extra fit --group dev --group build $(LOCK_FLAGS) -c requirements/run.lock -o requirements/dev.lock

lock-peers: $(VENV)/.dev ## resolve the measured gateways anew, with hashes
	$(BIN)/uv pip compile -q requirements/bench-peers.txt --no-build $(LOCK_FLAGS) --override <(echo "$(PEERS_OVERRIDE)") -o requirements/bench-peers.lock
# LiteLLM names a version of its database's tables that the registry may not have; the bench gives it no database.
PEERS_OVERRIDE := litellm-proxy-extras==0.4.110

lock-clients: $(VENV)/.dev ## resolve the tested clients anew, with hashes
	$(BIN)/uv pip compile -q requirements/clients.txt --no-build $(LOCK_FLAGS) -o requirements/clients.lock
	cd $(NODE) && rm -rf package-lock.json node_modules && npm install --package-lock-only --ignore-scripts --no-audit --no-fund

lock-torch: $(VENV)/.dev ## resolve the Python that has torch anew, with hashes
	$(BIN)/uv pip compile -q requirements/torch.txt --override requirements/torch-overrides.txt --no-emit-package torch \
	  $(filter-out --universal,$(LOCK_FLAGS)) -o requirements/torch.lock

LOCK_FLAGS = --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command "make $@"

clean: ## remove what the other targets made here (models and ledger stay)
	rm -rf $(VENV) $(PEERS) $(CLIENTS) $(TORCH) $(NODE)/node_modules dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

# Each stamp is newer than the lock file it was installed from; an interrupted installation is begun anew.
$(VENV)/.run: requirements/run.lock pyproject.toml
	@$(MAKE) --no-print-directory install LOCK=run.lock
	@touch $@

$(VENV)/.dev: requirements/dev.lock pyproject.toml
	@$(MAKE) --no-print-directory install LOCK=dev.lock
	@touch $(VENV)/.run $@

$(PEERS)/.peers: requirements/bench-peers.lock | $(VENV)/.dev
	@$(PYTHON) -m venv --clear --without-pip $(PEERS)
	@VIRTUAL_ENV=$(PEERS) $(BIN)/uv pip sync --quiet --require-hashes --no-build requirements/bench-peers.lock
	@touch $@

$(CLIENTS)/.clients: requirements/clients.lock | $(VENV)/.dev
	@echo "Installing hash-locked clients ($<) into $(CLIENTS) ..."
	@$(PYTHON) -m venv --clear --without-pip $(CLIENTS)
	@VIRTUAL_ENV=$(CLIENTS) $(BIN)/uv pip sync --quiet --require-hashes --no-build $<
	@touch $@

# torch comes first and by itself: TORCH_BUILD says which build, e.g. of a folder or an index. The plain one of Linux is
# for GPUs, 2 GB larger, and works without one. Then what is locked, then this project: its code, and its vLLM plugin.
TORCH_BUILD ?= torch==2.13.0
$(TORCH)/.packages: requirements/torch.lock | $(VENV)/.dev
	@echo "Installing torch and hash-locked packages (requirements/torch.lock) into $(TORCH) ..."
	@$(PYTHON) -m venv --clear $(TORCH)
	@$(TORCH)/bin/pip install --disable-pip-version-check --quiet $(TORCH_BUILD)
	@VIRTUAL_ENV=$(TORCH) $(BIN)/uv pip install --quiet --no-deps --require-hashes -r requirements/torch.lock
	@touch $@

$(TORCH)/.torch: $(TORCH)/.packages pyproject.toml
	@VIRTUAL_ENV=$(TORCH) PATH="$(abspath $(BIN)):$$PATH" $(BIN)/uv pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

# Without npm there is nothing to install, and the tests of these clients are skipped.
$(NODE)/node_modules/.clients: $(NODE)/package-lock.json $(NODE)/package.json
	@if command -v npm >/dev/null; then \
	  echo "Installing locked clients ($<) into $(@D) ..." && \
	  cd $(NODE) && npm ci --ignore-scripts --no-audit --no-fund --silent && touch node_modules/.clients; \
	else echo "npm is not installed: the clients for Node are not tested"; fi

.PHONY: install
install:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; say where it is: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "The module venv is missing; on Debian: apt-get install python3-venv"; exit 1; }
	@echo "Installing hash-locked dependencies ($(LOCK)) into $(VENV) ..."
	@$(BIN)/pip install --disable-pip-version-check --quiet --require-hashes -r requirements/$(LOCK)
	@PATH="$(abspath $(BIN)):$$PATH" $(BIN)/pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation -e .
