# All that is needed on a fresh machine: Python 3.11 or newer and make. Everything else goes into .venv.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest
# Marks of the tests that need more than Python; each has a target of its own.
ELSEWHERE := simulation or debian or balancer or browser or npm or spin

.DEFAULT_GOAL := help
.NOTPARALLEL:

.PHONY: help
help: ## Say what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

.PHONY: demo
demo: $(VENV)/.with-embedded ## Watch a job go on while its worker and an edge are killed
	@$(BIN)/orbit demo

.PHONY: verify
verify: $(VENV)/.with-embedded ## Break a deployment in every way for a minute, and judge what its clients saw
	@$(BIN)/orbit verify

.PHONY: test
test: $(VENV)/.with-test ## All tests but those that need a package of Debian or npm
	$(PYTEST) tests -m "not system and not ($(ELSEWHERE))" -n auto --dist loadfile
	$(PYTEST) tests -m "system and not ($(ELSEWHERE))" -n 2 --dist loadfile

# A seed, or first:end; those of CI unless told.
SEEDS ?= 0:1000

.PHONY: simulate
simulate: $(VENV)/.with-test ## Whole deployments in virtual time, faults and all, from seeds (SEEDS=7, SEEDS=0:100)
	$(PYTEST) tests/simulation -m simulation -n auto
	$(BIN)/python -m tests.simulation $(SEEDS)

.PHONY: balancers
balancers: $(VENV)/.with-test ## The fleet behind nginx and HAProxy, with the files of deploy/
	$(PYTEST) tests -m balancer

.PHONY: browser
browser: $(VENV)/.with-test ## The example's page in Debian's Chromium
	$(PYTEST) tests -m browser

.PHONY: pauses
pauses: $(VENV)/.with-test ## A worker stopped past its lease and woken, a hundred times
	ORBIT_TEST_PAUSES=100 $(PYTEST) tests/system/test_paused.py -s

.PHONY: npm
npm: $(VENV)/.with-test tests/npm/node_modules ## Clients of npm that aren't ours, in Node
	$(PYTEST) tests -m npm

.PHONY: model
model: $(VENV)/.with-test ## The models of docs/model/, searched by Debian's spin
	$(PYTEST) tests -m spin -n auto

.PHONY: debian
debian: $(VENV)/.with-test ## The store, the workers and the edges against the Redis at ORBIT_TEST_REDIS_URL
	$(PYTEST) tests -m debian
	$(PYTEST) tests/integration --ignore tests/integration/test_cluster_store.py -m "not system" -n auto --dist loadfile

.PHONY: lint
lint: $(VENV)/.with-lint ## Ruff
	$(BIN)/ruff check .

.PHONY: types
types: $(VENV)/.with-lint ## mypy --strict
	$(BIN)/mypy
	$(BIN)/mypy examples/*.py examples/imgur/*.py benchmarks

.PHONY: imports
imports: $(VENV)/.with-lint ## The import rules
	$(BIN)/lint-imports --no-cache

.PHONY: wheel
wheel: $(VENV)/.with-lint ## Build the wheel, install it in an environment of its own, start it there
	rm -rf build dist
	$(BIN)/python -m build --wheel --outdir dist .
	$(PYTHON) -m venv --clear build/wheel
	build/wheel/bin/python -m pip install --quiet --disable-pip-version-check "$$(echo dist/*.whl)[embedded]"
	cd build && wheel/bin/orbit --version && wheel/bin/orbit demo --size-mb 4

.PHONY: bench
bench: $(VENV)/.with-bench ## The measurements of benchmarks/
	$(BIN)/python -m benchmarks

.PHONY: check
check: test lint types imports wheel ## All that needs no Debian package

.PHONY: clean
clean: ## Remove what was made
	rm -rf $(VENV) build dist

tests/npm/node_modules: tests/npm/package-lock.json
	cd tests/npm && npm ci --no-audit --no-fund
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "Orbit needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# One stamp for each extra of pyproject.toml; made anew when that changes.
$(VENV)/.with-%: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[$*]'
	@touch $@
