# Two commands for a newcomer: `make demo` and `make test`. Both install what
# they need on Debian 12 (apt, through sudo for an ordinary user); Rust is
# expected to be there.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help

# What builds, tests and demo use on the host. A C compiler and linker for the
# few crates with C or assembly in them; the rest is what images are made from
# and judged with.
PACKAGES := build-essential ca-certificates git python3 \
	uidmap busybox-static mmdebstrap debootstrap debian-archive-keyring \
	docker-registry apache2-utils skopeo umoci podman runc crun
BENCH_PACKAGES := buildah proot

.PHONY: help setup setup-bench pool build demo test soak bench readme clean

help: ## Show the targets
	@sed -n 's/^\([a-z-]*\):.*## /make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

setup: ## Install the packages that demo and test need
	@./ci-examples/setup.sh $(PACKAGES)

setup-bench: setup
	@./ci-examples/setup.sh $(BENCH_PACKAGES)

pool: setup ## Download the packages that the sandbox tests install; CORACLE_POOL: where
	@./tests/sandboxes/pool.sh

build: ## Build the release binaries
	cargo build --release --locked --workspace

demo: setup ## Build a real image, push it to a real registry, look at it
	@./ci-examples/demo.sh

test: setup ## Everything CI runs
	@./tests/run.sh

soak: setup-bench ## A 2 GiB layer within 150 MiB of memory, the peers' results, fuzzing, file histories, every sandbox; writes bench/results
	@./bench/run.sh --soak
	@./bench/language.sh
	@./bench/changes.sh --soak
	@./bench/sandboxes.sh
	@./bench/overhead.sh

bench: setup-bench ## Side by side with buildah, and what isolation costs; BENCH_WORKLOADS=tiny,stages picks some
	@./bench/run.sh
	@./bench/changes.sh
	@if [ "$$(id -u)" = 0 ]; then ./bench/overhead.sh; fi

readme: ## Write the settings table into README.md
	cargo build --quiet --locked --workspace
	table=$$("$${CARGO_TARGET_DIR:-target}"/debug/coracle-plugin --settings-table)
	TABLE="$$table" python3 - <<-'PYTHON'
	import os, re
	text = open("README.md").read()
	text = re.sub(r"(<!-- settings:begin -->\n).*?(<!-- settings:end -->)",
	              lambda found: found[1] + os.environ["TABLE"].strip() + "\n" + found[2], text, flags=re.S)
	open("README.md", "w").write(text)
	PYTHON

clean: ## Remove what builds and benchmarks left in the checkout
	cargo clean
	rm -rf bench/work
