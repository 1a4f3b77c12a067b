# What a new checkout needs: rustup, git, make, cc and python3. `make setup`
# gets the rest and says plainly what is missing.

SHELL := /bin/bash -o pipefail
.DEFAULT_GOAL := help

# ministack plays S3 and STS in the tests; zig is the C compiler that knows
# WebAssembly, for zstd in the parquet plugin; tzdata is what the tests hold the
# binary's time zones against, of the same release; jsonschema is what they hold
# the judging of options against; componentize-py builds plugins in Python.
VENV_PACKAGES := ministack==1.5.33 ziglang==0.15.2 jsonschema==4.26.0 componentize-py==0.25.1 tzdata==2025.2

# What reads the formats' objects in the tests and is not consign's; two of them
# have codecs of Avro. The last three read, check and run what customers are handed.
READERS := pyarrow==26.0.1 fastavro==1.13.1 backports.zstd==1.8.0 cramjam==2.14.0 openpyxl==3.1.5 \
    cfn-lint==1.58.0 python-hcl2==8.1.4 awscli==1.46.3

# Every package that also runs natively. Always all of them together, so that
# features are unified once and each dependency is compiled once; the guests of
# tests/guests are for WebAssembly only and built by their tests.
PACKAGES := consign consign-sdk consign-sdk-arrow consign-arrow consign-avro consign-csv consign-fixed-width consign-jsonl consign-parquet consign-xlsx consign-example-fixed-flights consign-example-nacha
SELECT := $(addprefix --package ,$(PACKAGES))

# What is made once and kept, as in .ci/run: without CONSIGN_CACHE_DIR in the
# home directory, with an empty one in the checkout.
CONSIGN_CACHE_DIR ?= $(HOME)/.cache/consign
CACHE := $(or $(CONSIGN_CACHE_DIR),$(CURDIR)/target/cache)

# What plugins in JavaScript are built with, of the version that their template
# wants. Only `make test` gets it, and only where there is npm.
NPM_TOOLS := $(CACHE)/npm-$(shell sed -n 's/.*componentize-js": "\(.*\)"/\1/p' plugins/templates/javascript/package.json)

# The binary that `make deb` packages.
PROFILE := release
BINARY = $(or $(CARGO_TARGET_DIR),target)/$(patsubst dev,debug,$(PROFILE))/consign
# Everything of the package that is made, and the package.
PACKAGE := target/package
CARGO_DEB_VERSION := 3.8.0
CARGO_DEB := $(CACHE)/cargo-deb-$(CARGO_DEB_VERSION)/bin/cargo-deb

# A registry that fails for a moment fails nothing. What it said is shown.
AGAIN := again() { for wait in 5 30 60; do "$$@" && return; echo "again in $$wait s: $$*" >&2; sleep $$wait; done; "$$@"; }; again

.PHONY: help setup tools rust-target build test demo sweep soak fuzz mutants lint fmt bench bench-scale deb test-systemd deny clean

help:
	@echo "make demo     deliver a real dataset to several airlines, on this machine alone"
	@echo "              (KEEP=1: then go on as a daemon)"
	@echo "make test     build everything and run all tests; those that want a program that is"
	@echo "              not there say so, and fail with CONSIGN_MUST_TEST=1"
	@echo "make sweep    all of the crash sweeps, of which make test takes a part (long)"
	@echo "make soak     every single fault between consign and S3, and CONSIGN_SOAK_SEEDS=500 random ones"
	@echo "              with crashes, or CONSIGN_SOAK_HOURS=2 of them; make test takes a part (long)"
	@echo "make fuzz     random input to what reads what others wrote, FUZZ_SECONDS=60 for each target"
	@echo "              (FUZZ=\"keys config\": these alone; needs a C++ compiler)"
	@echo "make mutants  changes of the ledger and of delivery that no test notices; goes on where it was"
	@echo "              (hours; UNTIL=17:30: until then)"
	@echo "make lint     formatting, and clippy with warnings as errors"
	@echo "make bench    formatting speed, in the sandbox, natively and in a process; what comes before"
	@echo "              the first row; fails when a target is missed (a release build: slow)"
	@echo "make bench-scale  many deliveries, many shares; fails when a target is missed (docs/limits.md)"
	@echo "make deb      the Debian package, in target/package (PROFILE=dev: of the tests' binary)"
	@echo "make test-systemd  install, run, upgrade and purge the package under a real systemd"
	@echo "              (root, systemd-container, debootstrap)"
	@echo "make deny     licences, sources and advisories of dependencies (needs cargo-deny)"
	@echo "make build    the binary, target/debug/consign"
	@echo "make setup    what the others need: the wasm32-wasip2 target, .venv"
	@echo "make fmt      format the code"
	@echo "make clean    remove what was built and .venv"

setup: tools rust-target .venv/ready

tools:
	@missing=0; \
	miss() { echo "missing: $$1" >&2; missing=1; }; \
	command -v cargo >/dev/null || miss "cargo: install rustup from https://rustup.rs"; \
	command -v cc >/dev/null || miss "a C compiler called cc: on Debian, apt-get install gcc libc6-dev"; \
	if ! command -v python3 >/dev/null; then miss "python3: on Debian, apt-get install python3 python3-venv"; \
	elif ! python3 -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 9))' 2>/dev/null; then \
	    miss "Python 3.9 or later with its venv module: on Debian, apt-get install python3-venv"; fi; \
	exit $$missing

# In the checkout, so that rust-toolchain.toml chooses the toolchain.
rust-target: tools
	@rustc --version >/dev/null
	@if [ ! -d "$$(rustc --print target-libdir --target wasm32-wasip2)" ]; then \
	    if command -v rustup >/dev/null; then $(AGAIN) rustup target add wasm32-wasip2; \
	    else echo "missing: the Rust target wasm32-wasip2 of $$(rustc --version); rustup can add it" >&2; exit 1; fi; \
	fi

.venv/ready: Makefile | tools
	python3 -m venv .venv
	@$(AGAIN) .venv/bin/python -m pip install --quiet --disable-pip-version-check $(VENV_PACKAGES)
	@touch $@

.venv/readers: Makefile .venv/ready
	@$(AGAIN) .venv/bin/python -m pip install --quiet --disable-pip-version-check $(READERS)
	@touch $@

build: setup
	cargo build

demo: setup
	cargo build
	cargo run --quiet -- demo $(if $(KEEP),--keep)

# At the end, where the log of a run may be all that is kept of it: what failed, and the sum over all test binaries.
test: setup .venv/readers $(if $(shell command -v npm),$(NPM_TOOLS)/ready)
	CONSIGN_TEST_NPM=$(NPM_TOOLS)/node_modules/.bin cargo test $(SELECT) --no-fail-fast 2>&1 | awk '\
	    { print; fflush() } \
	    /^test result:/ { passed += $$4; failed += $$6; ignored += $$8 } \
	    /^---- .* stdout ----$$/ { told[++lines] = $$2; more = 0 } \
	    / panicked at / { more = 5 } \
	    more && more-- { told[++lines] = "    " substr($$0, 1, 500) } \
	    END { for (line = 1; line <= lines && line <= 200; line++) print told[line]; \
	        printf "total: %d passed, %d failed, %d ignored\n", passed, failed, ignored }'

$(NPM_TOOLS)/ready:
	mkdir -p $(NPM_TOOLS)
	cp plugins/templates/javascript/package.json $(NPM_TOOLS)
	@$(AGAIN) npm install --loglevel=error --no-audit --no-fund --ignore-scripts --prefix $(NPM_TOOLS)
	@touch $@

# Every write, every point by every way, every step of two daemons: see docs/ledger.md.
sweep: setup
	CONSIGN_SWEEP=all cargo test $(SELECT) --test main --no-fail-fast -- --nocapture cli::sweeps:: cli::postgres::steps::

# Every fault at every request of a delivery, at both servers, and seeds by the hundred: see
# docs/ARCHITECTURE.md. CONSIGN_SEED=17 is one of them again.
soak: setup
	CONSIGN_SWEEP=all CONSIGN_SOAK_SEEDS=$${CONSIGN_SOAK_SEEDS:-500} cargo test $(SELECT) --test main --no-fail-fast -- \
	    --nocapture faults::forged:: faults::outages:: faults::strays:: faults::sweep:: faults::seeds:: faults::pair::

FUZZ_SECONDS ?= 60
fuzz: setup
	SELECT='$(SELECT)' tests/fuzz/run $(FUZZ_SECONDS) $(FUZZ)

# Goes on where it was, on the commit with which it began: see tests/mutants/README.md.
mutants: setup .venv/readers $(if $(shell command -v npm),$(NPM_TOOLS)/ready)
	CONSIGN_TEST_NPM=$(NPM_TOOLS)/node_modules/.bin SELECT='$(SELECT)' tests/mutants/run $(UNTIL)

# `cargo clippy` would build the metadata of every dependency a second time.
# Clippy as the compiler of our own packages reuses what the tests are built of.
lint: setup
	cargo fmt --all --check
	RUSTC_WORKSPACE_WRAPPER="$$(rustup which clippy-driver)" CLIPPY_ARGS=-Dwarnings \
	    cargo build $(SELECT) --package consign-fuzz --all-targets

fmt:
	cargo fmt --all

bench: setup
	cargo bench --bench format

# In the profile of the tests, because a release build of everything takes long; but
# for our own crates, which are what is measured.
bench-scale: setup
	CARGO_PROFILE_DEV_OPT_LEVEL=1 cargo bench $(SELECT) --profile dev --bench scale

# What the binary itself can make of it, it makes.
deb: setup $(CARGO_DEB)
	cargo build $(SELECT) --profile $(PROFILE)
	rm -rf $(PACKAGE)
	mkdir -p $(PACKAGE)/completions
	strip --strip-debug -o $(PACKAGE)/consign $(BINARY)
	$(PACKAGE)/consign man --out $(PACKAGE)/man
	for shell in bash zsh fish; do \
	    $(PACKAGE)/consign completions $$shell >$(PACKAGE)/completions/consign.$$shell || exit 1; done
	$(CARGO_DEB) --no-build --no-strip --no-dbgsym $(if $(filter dev,$(PROFILE)),--fast) --output $(PACKAGE)/

# Outside of the target directory, which may be emptied at any time.
$(CARGO_DEB):
	env -u CARGO_TARGET_DIR cargo install --quiet --locked --root $(CACHE)/cargo-deb-$(CARGO_DEB_VERSION) \
	    cargo-deb@$(CARGO_DEB_VERSION)

test-systemd: PROFILE := dev
test-systemd: deb
	python3 -B tests/systemd/run.py --cache $(CACHE) $(if $(OR_SKIP),--or-skip) $(PACKAGE)/consign_*.deb

deny:
	@command -v cargo-deny >/dev/null || { \
	    echo "missing: cargo-deny; get it with: cargo install --locked cargo-deny" >&2; exit 1; }
	cargo deny check

clean:
	cargo clean
	rm -rf .venv
