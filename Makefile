# Everything a developer runs. Each target prints its commands and stops at the
# first that fails.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The interpreter to develop with; found when not given.
PYTHON ?=
TOOLS := integration-tests/tools
VENV := $(CURDIR)/.venv
PY := $(VENV)/bin/python
GENERATOR := .cache/generator
GENERATOR_PY := $(GENERATOR)/bin/python
PEERS := .venvs/bench-peers
PEERS_PY := $(PEERS)/bin/python
FUZZING := clutch-executor/fuzzing,clutch-client/fuzzing
CRATES := -p clutch-executor -p clutch-interpreter -p clutch-native

export PIP_DISABLE_PIP_VERSION_CHECK := 1
# The interpreter that the Rust tests host.
export CLUTCH_TEST_PYTHON := $(PY)

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: install ## a scikit-learn grid search under Clutch, compared with loky
	@echo
	@$(PY) integration-tests/demo/grid_search.py

# --- checks -------------------------------------------------------------------

.PHONY: test
test: lint test-rust test-generated test-shim test-integration ## all checks and tests
	@echo "All checks and tests passed."

.PHONY: lint
lint: cargo-is-here .venv/.stamp ## format and lint checks
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets --features $(FUZZING) -- -D warnings
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy --config-file python-shim/pyproject.toml python-shim/src
	$(VENV)/bin/mypy --config-file python-shim/pyproject.toml python-shim/setup.py
	$(VENV)/bin/mypy --config-file python-shim/pyproject.toml protocol/generate_python.py

.PHONY: test-rust
test-rust: cargo-is-here .venv/.stamp ## Rust tests (with nextest, when it is installed)
	cargo build --locked --workspace
ifneq ($(shell command -v cargo-nextest),)
	cargo nextest run --locked --workspace
else
	cargo test --locked --workspace
endif

.PHONY: test-generated
test-generated: $(GENERATOR)/.stamp ## the generated Python code is current
	@if [[ -x $(GENERATOR_PY) ]]; then \
		echo "$(GENERATOR_PY) protocol/generate_python.py --check"; \
		$(GENERATOR_PY) protocol/generate_python.py --check; \
	else \
		echo "Not checked: the generator needs Python 3.10, 3.11 or 3.12."; \
	fi

.PHONY: test-shim
test-shim: install ## unit tests of the shim
	cd python-shim && $(PY) -m pytest

.PHONY: test-integration
test-integration: install venvs ## end-to-end tests against real agents, with every Python found
	cd integration-tests && $(PY) -m pytest

.PHONY: test-faults
test-faults: install ## the fault matrix and the memory limits, every round of them
	cd integration-tests && CLUTCH_TEST_THOROUGH=1 $(PY) -m pytest tests/fault_matrix tests/test_memory_limits.py

.PHONY: test-network
test-network: install wheel ## cut, slow and lossy networks, and the install guide; needs root
	$(TOOLS)/system-packages.sh all
	cd integration-tests && CLUTCH_TEST_THOROUGH=1 $(PY) -m pytest tests/network tests/test_clocks.py tests/test_versions.py

# For example: make chaos SEED=4 TASKS=20000 SECONDS=600.
SEED ?=
TASKS ?=
SECONDS ?=

.PHONY: chaos
chaos: install ## thousands of tasks while workers, zygotes and agents are killed, about 2 minutes
	$(PY) integration-tests/chaos/run.py $(if $(SEED),--seed $(SEED)) $(if $(TASKS),--tasks $(TASKS)) $(if $(SECONDS),--seconds $(SECONDS))

.PHONY: test-joblib
test-joblib: install ## joblib's own test suite, run on Clutch
	$(PY) integration-tests/joblib_suite/run.py

# For example: make fuzz FUZZ_SECONDS=600 TARGETS=agent_conversation.
FUZZ_SECONDS ?= 60
TARGETS ?=

.PHONY: fuzz
fuzz: cargo-is-here ## feed every decoder of foreign bytes with nonsense, a minute each
	@if command -v c++ >/dev/null; then \
		executor/fuzz/run.sh $(FUZZ_SECONDS) $(TARGETS); \
	else \
		echo "Not fuzzed: libFuzzer needs a C++ compiler."; \
	fi

# For example: make bench ROUNDS=3 SCENARIOS="tiny cold" BENCH="--json out.json".
ROUNDS ?=
SCENARIOS ?=
BENCH ?=
BENCH_OPTIONS = $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SCENARIOS),--scenarios $(SCENARIOS)) $(BENCH)

.PHONY: bench
bench: install ## measure against loky and the limits of this machine
	$(PY) integration-tests/benchmarks/run.py $(BENCH_OPTIONS)

.PHONY: bench-peers
bench-peers: install $(PEERS)/.stamp ## the same, and against Dask, Ray and Spark
	$(PEERS_PY) -m pip install --quiet --no-deps --no-build-isolation --editable python-shim
	$(PEERS_PY) integration-tests/benchmarks/run.py $(BENCH_OPTIONS)

.PHONY: bench-scale
bench-scale: install ## measure one driver with 200 agents, and placement with 2,000
	$(PY) integration-tests/benchmarks/scale.py $(BENCH)
	cargo test --locked --release -p clutch-client --test placement_at_scale -- --nocapture

.PHONY: bench-parts
bench-parts: cargo-is-here ## measure the scheduler, the blobs' books and the framing by themselves
	cargo bench --locked -p clutch-executor -p clutch-worker-link --bench scheduler --bench ledger --bench framing

# --- changes ------------------------------------------------------------------

.PHONY: fmt
fmt: .venv/.stamp ## format everything
	cargo fmt --all
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

.PHONY: generate
generate: cargo-is-here $(GENERATOR)/.stamp ## rewrite what is generated from protocol/proto and the settings
	UPDATE=1 cargo test --locked -p clutch-protocol --test generated_is_current
	UPDATE=1 cargo test --locked -p clutch-protocol --test golden_messages
	UPDATE=1 cargo test --locked -p clutch-executor --test settings_reference
	$(GENERATOR_PY) protocol/generate_python.py

# --- packages -----------------------------------------------------------------

.PHONY: wheel
wheel: cargo-is-here .venv/.stamp ## build the wheel into dist/
	rm -rf python-shim/build dist/*.whl
	cargo build --release --locked $(CRATES)
	$(PY) -m build --wheel --no-isolation --outdir dist python-shim

.PHONY: sdist
sdist: .venv/.stamp ## build the source distribution into dist/
	rm -rf dist/*.tar.gz
	$(PY) -m build --sdist --no-isolation --outdir dist python-shim

.PHONY: venvs
venvs: wheel ## environments of other Python versions in .venvs/, with the wheel
	$(TOOLS)/matrix-envs.sh

# --- environments -------------------------------------------------------------

.PHONY: install
install: cargo-is-here .venv/.stamp ## build the agent and install the shim into .venv
	cargo build --release --locked $(CRATES)
	$(PY) -m pip install --quiet --no-deps --no-build-isolation --editable python-shim

.venv/.stamp: integration-tests/requirements.txt
	$(TOOLS)/python-env.sh create $(VENV) "$(or $(PYTHON),$$($(TOOLS)/python-env.sh find))"
	$(PY) -m pip install --quiet --requirement integration-tests/requirements.txt
	@touch $@

$(GENERATOR)/.stamp: protocol/requirements.txt
	@mkdir -p $(GENERATOR)
	python=$$($(TOOLS)/python-env.sh generator); \
	if [[ -n $$python ]]; then \
		$(TOOLS)/python-env.sh create $(GENERATOR) $$python; \
		$(GENERATOR_PY) -m pip install --quiet --requirement protocol/requirements.txt; \
	fi
	@touch $@

$(PEERS)/.stamp: integration-tests/requirements.txt integration-tests/benchmarks/requirements-peers.txt
	$(TOOLS)/python-env.sh create $(PEERS) "$(or $(PYTHON),$$($(TOOLS)/python-env.sh find))"
	$(PEERS_PY) -m pip install --quiet $(foreach file,$^,--requirement $(file))
	@touch $@

.PHONY: cargo-is-here
cargo-is-here:
	@command -v cargo >/dev/null || { \
		echo "cargo is not on PATH. Install Rust with rustup: https://rustup.rs" >&2; exit 1; }

.PHONY: clean
clean: ## remove everything that was built
	cargo clean
	rm -rf .venv .venvs .cache dist python-shim/build python-shim/src/joblib_clutch/_agent python-shim/src/joblib_clutch/_native.abi3.so
	find . -name __pycache__ -prune -exec rm -rf {} +
	find . -name '*.egg-info' -prune -exec rm -rf {} +
