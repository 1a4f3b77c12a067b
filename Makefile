# What a new checkout needs: rustup, git, make, cc and python3. `make setup`
# gets the rest and says plainly what is missing.

SHELL := /bin/bash -o pipefail
.DEFAULT_GOAL := help

# ministack plays S3 and STS in the tests; zig is the C compiler that knows
# WebAssembly, for zstd in the parquet plugin.
VENV_PACKAGES := ministack==1.5.33 ziglang==0.15.2

# Every package that also runs natively. Always all of them together, so that
# features are unified once and each dependency is compiled once; the guests of
# tests/guests are for WebAssembly only and built by their tests.
PACKAGES := consign consign-sdk consign-csv consign-jsonl consign-parquet consign-example-fixed-flights
SELECT := $(addprefix --package ,$(PACKAGES))

.PHONY: help setup tools rust-target build test demo lint fmt bench deny clean

help:
	@echo "make demo     deliver a real dataset to several airlines, on this machine alone"
	@echo "              (KEEP=1: then go on as a daemon)"
	@echo "make test     build everything and run all tests"
	@echo "make lint     formatting, and clippy with warnings as errors"
	@echo "make bench    formatting speed, in the sandbox and natively (a release build: slow)"
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
	    if command -v rustup >/dev/null; then rustup target add wasm32-wasip2; \
	    else echo "missing: the Rust target wasm32-wasip2 of $$(rustc --version); rustup can add it" >&2; exit 1; fi; \
	fi

.venv/ready: Makefile | tools
	python3 -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check $(VENV_PACKAGES)
	@touch $@

build: setup
	cargo build

demo: setup
	cargo build
	cargo run --quiet -- demo $(if $(KEEP),--keep)

# The last line is the sum over all test binaries.
test: setup
	cargo test $(SELECT) --no-fail-fast 2>&1 | awk '\
	    { print; fflush() } \
	    /^test result:/ { passed += $$4; failed += $$6; ignored += $$8 } \
	    END { printf "total: %d passed, %d failed, %d ignored\n", passed, failed, ignored }'

# `cargo clippy` would build the metadata of every dependency a second time.
# Clippy as the compiler of our own packages reuses what the tests are built of.
lint: setup
	cargo fmt --all --check
	RUSTC_WORKSPACE_WRAPPER="$$(rustup which clippy-driver)" CLIPPY_ARGS=-Dwarnings \
	    cargo build $(SELECT) --all-targets

fmt:
	cargo fmt --all

bench: setup
	cargo bench --bench format

deny:
	@command -v cargo-deny >/dev/null || { \
	    echo "missing: cargo-deny; get it with: cargo install --locked cargo-deny" >&2; exit 1; }
	cargo deny check

clean:
	cargo clean
	rm -rf .venv
