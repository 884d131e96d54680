# The one door. Every target is one line; what it does lives in scripts/ and xtask/.

.DEFAULT_GOAL := help
.PHONY: help demo test check bench soak fuzz sim ledger fmt audit deps

CASES ?= 1000000
BUILT = $(or $(CARGO_TARGET_DIR),target)/release

# One selection for all that is built for release: another one would resolve other features and
# compile llama.cpp again.
RELEASE = cargo build --release --locked -p arknet -p arknet-bench -p arknet-fuzz -p arknet-sdk \
	--bins --example stream
SEEDS ?= 1000
OPS ?= 1000000

help: ## Say what there is
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 16

demo: deps ## Three nodes on this machine, one question (KEEP=1: keep them running)
	$(RELEASE)
	scripts/demo

test: deps ## All tests
	cargo run -q --locked -p xtask -- test

check: deps ## What must hold before a change lands: format, lints, tidy, documentation
	cargo fmt --all --check
	cargo run -q --locked -p xtask -- tidy
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --locked

bench: deps ## What mesh and gateway cost, and the engine against llama-server (MODEL=no: without)
	$(RELEASE)
	$(BUILT)/arknet-bench
	@[ "$(MODEL)" = no ] || scripts/bench-llama

soak: deps ## Memory over 100,000 requests, ten minutes of mixed ones, 200 validators killed
	$(RELEASE)
	$(BUILT)/arknet-bench soak
	$(BUILT)/arknet-bench mixed
	ARKNET_KILLS=200 cargo test --locked --workspace --test it validators::what_is_ack

fuzz: deps ## Hostile bytes for every decoder (CASES=1000000 for each)
	$(RELEASE)
	$(BUILT)/arknet-fuzz --cases $(CASES)

sim: ## The decision code under faults (SEEDS=1000)
	cargo run --release --locked -p arknet-sim -- --seeds $(SEEDS)

ledger: ## The ledger against its naive twin (OPS=1000000 random operations)
	ARKNET_LEDGER_OPS=$(OPS) cargo test --release --locked -p arknet-chain --test it random

fmt: ## Format all code
	cargo fmt --all

audit: ## Known holes in what we depend on; needs cargo-deny and the network
	cargo deny --locked check

deps: ## Install the system packages that are missing, or say which they are
	@scripts/deps
