# Targets for people; each is a few lines over install/, .venv and the tests.
.DEFAULT_GOAL := help
.NOTPARALLEL:
SHELL := /bin/sh
BIN := .venv/bin
COMPILE := env -u PIP_FIND_LINKS -u UV_FIND_LINKS $(BIN)/uv pip compile -q --no-config --universal \
	--python-version 3.11 --generate-hashes --no-annotate --custom-compile-command "make lock" $(UPGRADE)
CODE := src tests bench
# Each daemon of the tests has a network namespace and a directory of its own, so many run side by side: two for each
# CPU, because half of the time a test waits for what it has started.
BESIDE := -n $(or $(JOBS),$(shell n=$$(($$(nproc) * 2)); echo $$((n > 16 ? 16 : n)))) --dist worksteal

.PHONY: help
help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | while IFS="$$(printf '\t')" read -r name text; do \
		printf '  make %-10s %s\n' "$$name" "$$text"; done

.PHONY: up
up: ## Install Isola, start it and launch the Debian container `first`
	@install/packages run
	@install/program
	@install/up

.PHONY: down
down: ## Stop the instances, the networks and the daemon
	@install/down

.PHONY: uninstall
uninstall: ## Remove everything Isola put on this machine (KEEP_DATA=1, KEEP_PACKAGES=1)
	@install/uninstall

.PHONY: test
test: test-environment ## Run all tests, as root (ONLY=expression, WHERE=tests/unit, JOBS=4)
	@test "$$(id -u)" -eq 0 || { echo "The tests start real instances: sudo make test" >&2; exit 1; }
	@tests/run "$(BESIDE)" $(or $(WHERE),tests) $(if $(ONLY),-k "$(ONLY)")

.PHONY: test-full
test-full: ## All tests without sampling, with a storm of one minute
	@env ISOLA_TEST_WHOLE=1 ISOLA_CHAOS_SECONDS=60 $(MAKE) --no-print-directory test

.PHONY: chaos
chaos: test-environment ## Storms of verbs and kills, faults and power failures, for minutes (SECONDS=300, SEED=number)
	@test "$$(id -u)" -eq 0 || { echo "The tests start real instances: sudo make chaos" >&2; exit 1; }
	env ISOLA_CHAOS_SECONDS=$(or $(SECONDS),300) $(if $(SEED),ISOLA_CHAOS_SEED=$(SEED)) \
		$(BIN)/python -m pytest -s tests/chaos </dev/null

.PHONY: test-environment
test-environment:
	@install/packages run test
	@install/environment

.PHONY: check
check: environment ## Format, lint, types, import rules, generated pages
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m pytest tests/style/test_style_shape.py tests/unit/test_docs_pages.py

.PHONY: environment
environment:
	@install/environment

.PHONY: fmt
fmt: environment ## Format the code and fix what ruff can fix
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)

.PHONY: lock
lock: environment ## Update the lock files from pyproject.toml (UPGRADE=--upgrade)
	$(COMPILE) pyproject.toml -o requirements.lock
	$(COMPILE) --extra dev pyproject.toml -o requirements-dev.lock

.PHONY: bench
bench: ## Benchmark Isola and its peers in one run (ROUNDS=3, ONLY=workloads or peers)
	@install/packages run bench
	@install/program
	@bench/install-incus
	@install/environment
	$(BIN)/python -m bench $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(ONLY),--only '$(ONLY)')

.PHONY: lab
lab: environment ## Try this checkout on Debian 13 with systemd in a VM of its own, for hours (LAB=directory, AGAIN=step)
	@install/packages run lab
	@lab/run $(if $(AGAIN),--again $(AGAIN))

.PHONY: clean
clean: ## Remove what builds and tests left in this directory
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist bench/results
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
