# The user's verbs. Every knob is a TOML key too: SET="pretrain.batch=32 model.dim=64", or CONFIG=my.toml.
SHELL := /bin/bash
.DEFAULT_GOAL := help

OUT    ?= out
DATA   ?=
SIZE   ?= all
PROBE  ?=
# Seeds are a folder of images, or a file of ids or paths; AGAINST is a folder of images whose copies are not kept.
SEEDS  ?=
AGAINST ?=
# New images are merged into what is there; REBUILD=1 makes everything again.
REBUILD ?=
CONFIG ?=
SET    ?=
DEVICE ?= auto
# CUDA is compiled in where a driver is found; CUDA=1 and CUDA=0 decide for themselves.
CUDA   ?= $(shell if ldconfig -p 2>/dev/null | grep -q libcuda.so.1 || command -v nvidia-smi >/dev/null 2>&1; then echo 1; else echo 0; fi)
# WGPU=1 compiles in the GPUs that Vulkan or Metal know: AMD's, Intel's, Apple's.
WGPU   ?= 0
# FUSION=1 compiles in burn's fusion as well, for `gpu-check` to compare, which does unless FUSION=0: nothing trains with it.
FUSION ?= 0
# Expanded at once: what is passed on is its text.
ifeq ($(origin PRESET),undefined)
PRESET := $(if $(filter 1,$(CUDA)),coco-vits16,demo)
endif
# A name for DATA, where its folder's is taken. Only as NAME=...: some environments hold a variable of that name.
ifneq ($(origin NAME),command line)
NAME :=
endif
# What is passed on is one word of the shell, whatever is in it: $(call one_word,DATA) is the value of DATA in single quotes.
one_word  = '$(subst ','\'',$(value $(1)))'

TARGET   := $(or $(CARGO_TARGET_DIR),target)
LAPIDARY := "$(TARGET)/release/lapidary"
comma    := ,
# A card's kernels are chosen by trying them; a GPU in software, which tests run on, takes the first.
GPUS     := $(if $(filter 1,$(CUDA)),lapidary-train/cuda)$(if $(filter 11,$(CUDA)$(WGPU)),$(comma))$(if $(filter 1,$(WGPU)),lapidary-train/wgpu)
FEATURES := $(if $(GPUS),--features $(GPUS)$(comma)lapidary-train/autotune$(if $(filter 1,$(FUSION)),$(comma)lapidary-train/fusion))
# STORES=1 builds object stores (s3://, gs://, az://, http://) beside the rest: by themselves, as another set of features of what
# they share with Polars would have that built again.
STORES   ?= 0
# CLUSTER=1 has `make test` build a cluster's binaries, and run its tests.
CLUSTER  ?= 0
STORED   := --release --package lapidary-stores --features lapidary-stores/stores
TEST_S3  := --release --package lapidary-stores --features lapidary-stores/stores,lapidary-stores/test-server
TESTED   := --features lapidary-train/wgpu
COMPILED := --features lapidary-train/cuda,lapidary-train/wgpu,lapidary-train/autotune,lapidary-train/fusion
quoted    = '$(subst ','\'',$(1))'
ASKED     = --out $(call one_word,OUT) $(if $(value CONFIG),--config $(call one_word,CONFIG)) $(foreach s,$(SET),--set $(call quoted,$(s)))
AFRESH    = $(if $(filter 1,$(REBUILD)),--rebuild)
CHOSEN    = $(ASKED) --preset $(call one_word,PRESET)

# Ingests, fingerprints and embeds a folder of images that DATA is compared with, under a name of its own.
PREPARE   = prepare() { $(LAPIDARY) ingest --data "$$1" --aside $(ASKED) && $(LAPIDARY) fingerprint --source "$$1" $(ASKED) \
  && $(LAPIDARY) embed --source "$$1" --device $(call one_word,DEVICE) $(ASKED); };

# FAISS is built for AVX2 (.cargo/config.toml); older processors get the plain build.
ifeq ($(shell grep -qm1 avx2 /proc/cpuinfo && echo yes),)
export CXXFLAGS_x86_64_unknown_linux_gnu :=
endif

PACKAGES := build-essential cmake nasm libopenblas-dev liblapack-dev
# The browser that tests open the report in, and the GPU in software that they run kernels on. Where they cannot be installed
# tests say that they were skipped.
FOR_TESTS := $(if $(filter setup test,$(MAKECMDGOALS)),chromium mesa-vulkan-drivers)

.PHONY: help setup build demo curate pretrain eval report serve report-picture status test faults fuzz cluster cluster-check bench bench-pixels bench-curate bench-memory bench-train bench-eval bench-seeds paper science science-table gpu-check cuda-rehearsal check-exports check-cards check clean

help: ## list the verbs
	@echo "make VERB [DATA=dir] [SIZE=n|share|all] [PROBE=dir] [SEEDS=dir|file] [AGAINST=dir] [NAME=name] [REBUILD=1] [OUT=out] [PRESET=name] [CONFIG=file] [SET='key=value ...'] [DEVICE=cpu|cuda|wgpu|auto]"
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1\t\2/' | expand -t 16

setup: ## install the system packages that the build needs
	@command -v cargo >/dev/null || { echo "cargo is missing: install Rust 1.95 or later (https://rustup.rs)"; exit 1; }
	@missing=""; for p in $(PACKAGES); do dpkg -s $$p >/dev/null 2>&1 || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then \
	  if ! command -v apt-get >/dev/null; then echo "please install these packages, or their like, by hand:$$missing"; exit 1; fi; \
	  sudo=""; if [ "$$(id -u)" != 0 ]; then command -v sudo >/dev/null || { echo "please run as root: apt-get install$$missing"; exit 1; }; sudo=sudo; fi; \
	  echo "installing$$missing"; \
	  $$sudo apt-get update -qq && $$sudo apt-get install -y -qq $$missing >/dev/null || { echo "apt-get could not install:$$missing"; exit 1; }; \
	fi
	@for p in $(FOR_TESTS); do if ! dpkg -s $$p >/dev/null 2>&1 && command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	  echo "installing $$p"; apt-get update -qq; apt-get install -y -qq --no-install-recommends $$p >/dev/null 2>&1 \
	    || echo "$$p could not be installed: tests that need it will be skipped"; \
	fi; done

build: setup ## build all binaries (CUDA=1 for NVIDIA's GPUs, WGPU=1 for any by Vulkan or Metal, FUSION=1 adds fusion for gpu-check, STORES=1 for object stores)
	@cargo build --release --workspace $(FEATURES)
	@$(if $(filter 1,$(STORES)),cargo build $(STORED))

demo: build ## the whole chain on built-in images
	@$(LAPIDARY) draw -- $(call one_word,OUT)/data/pile
	@$(LAPIDARY) draw --probe -- $(call one_word,OUT)/data/probe
	@$(LAPIDARY) ingest --data $(call one_word,OUT)/data/pile $(ASKED)
	@$(LAPIDARY) ingest --data $(call one_word,OUT)/data/probe --as-probe $(ASKED)
	@$(foreach source,pile probe,$(LAPIDARY) fingerprint --source $(source) $(ASKED) && $(LAPIDARY) embed --source $(source) $(ASKED) &&) true
	@$(LAPIDARY) curate --source pile --against probe $(ASKED) --set curate.truth=$(call one_word,OUT)/data/pile/truth.csv
	@$(LAPIDARY) cut --source pile --size 400 $(ASKED)
	@$(LAPIDARY) plan --source pile --subset 400 --name demo $(ASKED) --preset demo
	@$(LAPIDARY) pretrain --source pile --plan demo --run demo --device $(call one_word,DEVICE) $(ASKED) --preset demo
	@$(LAPIDARY) eval --source pile --run demo --probe probe --device $(call one_word,DEVICE) $(ASKED) --preset demo
	@$(LAPIDARY) report --source pile --subset 400 --run demo --probe probe $(ASKED)
	@echo
	@echo "report      "$(call one_word,OUT)/pile/report.html
	@echo "subset      "$(call one_word,OUT)/pile/subsets/400/ids.parquet
	@echo "checkpoint  "$(call one_word,OUT)/pile/runs/demo/checkpoints/final.safetensors
	@echo "next        make curate DATA=<folder of images> SIZE=300"

curate: build ## ingest, fingerprint, embed, curate and cut DATA (or the last source) to SIZE; SEEDS retrieve, AGAINST keep out
	@$(if $(value DATA),$(LAPIDARY) ingest --data $(call one_word,DATA) $(if $(value NAME),--name $(call one_word,NAME)) $(ASKED) $(AFRESH))
	@$(LAPIDARY) fingerprint $(ASKED)
	@$(LAPIDARY) embed --device $(call one_word,DEVICE) $(ASKED)
	@$(if $(value SEEDS),$(PREPARE) if [ -d $(call one_word,SEEDS) ]; then prepare $(call one_word,SEEDS); fi)
	@$(if $(value AGAINST),$(PREPARE) prepare $(call one_word,AGAINST))
	@$(LAPIDARY) curate $(ASKED) $(AFRESH) $(if $(value SEEDS),--seeds $(call one_word,SEEDS)) $(if $(value AGAINST),--against $(call one_word,AGAINST))
	@$(LAPIDARY) cut --size $(call one_word,SIZE) $(ASKED)
	@$(LAPIDARY) report $(ASKED)
	@echo "next        make pretrain"

pretrain: build ## plan and pretrain on the last subset, with PRESET
	@$(LAPIDARY) plan $(CHOSEN)
	@$(LAPIDARY) pretrain --device $(call one_word,DEVICE) $(CHOSEN)
	@$(LAPIDARY) report $(ASKED)
	@echo "next        make eval PROBE=<labelled images>"

# PROBE is one folder, blanks in its name and all, where there is one of that name, else a list of folders.
eval: build ## measure the last run on PROBE (one folder or several: PROBE='a b') and write the report
	@set -f; probes=(); asked=$(call one_word,PROBE); if [ -d "$$asked" ]; then set -- "$$asked"; else set -- $$asked; fi; \
	for probe; do $(LAPIDARY) ingest --data "$$probe" --as-probe $(ASKED) || exit $$?; probes+=(--probe "$$probe"); done; \
	$(LAPIDARY) eval "$${probes[@]}" --device $(call one_word,DEVICE) $(CHOSEN)
	@$(LAPIDARY) report $(ASKED)

report: build ## write the report of what is there
	@$(LAPIDARY) report $(ASKED)

serve: build ## show what is there in a browser, on 127.0.0.1
	@$(LAPIDARY) serve $(ASKED)

report-picture: ## README's picture: the report of make demo, by a browser
	@$(MAKE) --no-print-directory demo
	@tests/bench/report_picture.sh $(call one_word,OUT)/pile/report.html tests/report.png

status: build ## say what is there and what is stale
	@$(LAPIDARY) status $(ASKED)

test: setup ## all tests; no Python, no GPU but one in software (CLUSTER=1 for a cluster's too)
	@cargo build --release --workspace $(TESTED)
	@cargo build $(TEST_S3)
	@cargo test $(TEST_S3) --quiet --lib
	@# One at a time: burn-autodiff loses gradients when a test's forward pass runs beside another's backward pass.
	@cargo test --release --workspace $(TESTED) --quiet --lib --bins -- --test-threads=1
	@cargo test --release --workspace $(TESTED) --quiet --test e2e
	@cargo test --release --workspace $(TESTED) --quiet --doc
	@# Ballista takes long to build: its tests run where it is built, or is asked for.
	@$(if $(filter 1,$(CLUSTER)),cargo build $(BALLISTA))
	@if [ -x "$(TARGET)/release/lapidary-worker" ]; then cargo test $(BALLISTA) --quiet; \
	else echo "the cluster's tests are skipped: \`make test CLUSTER=1\` builds what they need and runs them"; fi

check: setup ## format, typos, clippy and docs, as CI does
	@cargo fmt --all --check
	@if command -v typos >/dev/null; then typos; else echo "typos is not installed; skipped"; fi
	@cargo clippy --release --workspace --all-targets $(COMPILED) --quiet -- -D warnings
	@cargo clippy $(STORED) --all-targets --quiet -- -D warnings
	@cargo clippy $(TEST_S3) --all-targets --quiet -- -D warnings
	@cargo fmt --manifest-path curate/cluster/Cargo.toml --check
	@cargo clippy $(BALLISTA) --all-targets --quiet -- -D warnings
	@RUSTDOCFLAGS="-D warnings" cargo doc --release --workspace --no-deps $(COMPILED) --quiet
	@RUSTDOCFLAGS="-D warnings" cargo doc $(STORED) --no-deps --quiet

faults: setup ## 240 kills at named points and random moments, on drawn and real images (FAULTS=n)
	@cargo build --release --workspace
	@LAPIDARY_FAULTS=$(or $(FAULTS),240) cargo test --release --workspace --test e2e -- --nocapture faults

fuzz: setup ## damaged inputs for every reader of foreign bytes, for SECS=60 seconds (SEED=1)
	@LAPIDARY_FUZZ_SECS=$(or $(SECS),60) LAPIDARY_FUZZ_SEED=$(or $(SEED),1) \
	  cargo test --release --workspace --test e2e --quiet -- --exact fuzz::driver::every_reader_of_foreign_bytes_holds --nocapture

# A workspace of its own, into the same folder: `lapidary` finds what `--cluster` takes beside itself.
BALLISTA := --release --manifest-path curate/cluster/Cargo.toml --target-dir "$(TARGET)"

cluster: build ## also build lapidary-cluster and lapidary-worker: stages on many machines, by DataFusion Ballista
	@cargo build $(BALLISTA)

cluster-check: cluster ## a cluster on loopback: kills, an S3 server, digests, speed, a billion images on paper (LAPIDARY_DATA)
	@cargo build $(STORED)
	@cargo build $(TEST_S3)
	@cargo test $(BALLISTA) --quiet
	@cargo run $(BALLISTA) --quiet --example check

bench: build ## times beside Python's, on COCO and CIFAR-10 (LAPIDARY_DATA, default ../shared/data)
	@tests/bench/run.sh $(LAPIDARY)

bench-pixels: setup ## the views of a recipe beside torchvision's and albumentations' (LAPIDARY_DATA)
	@tests/bench/pixels.sh

bench-curate: build ## copies, speed, scale and balance beside fastdup, imagededup and faiss-cpu
	@tests/bench/curate.sh $(LAPIDARY)

bench-memory: build ## peak memory of a step with blocks computed again and with the batch in parts
	@tests/bench/memory.sh $(LAPIDARY)

bench-train: setup ## a step of ViT-S/16, ViT-Ti/16 and cifar-vitti4 beside PyTorch (ROUNDS=3)
	@tests/bench/train.sh

bench-eval: setup ## k-NN, logistic regression and features beside PyTorch, scikit-learn and timm (ROUNDS=3)
	@tests/bench/eval.sh

bench-seeds: build ## trained against untrained on the built-in data, over 3 seeds
	@tests/bench/seeds.sh $(LAPIDARY)

paper: build ## the paper's two tables: three objectives of PRESET=paper, or a smaller one, on SIZE=256 images (SEEDS="1 2 3")
	@OUT=$(call one_word,OUT) DATA=$(call one_word,DATA) PROBE=$(call one_word,PROBE) DEVICE=$(call one_word,DEVICE) SET=$(call one_word,SET) \
	  SIZE=$(if $(filter command line,$(origin SIZE)),$(call one_word,SIZE),256) \
	  PRESET=$(if $(filter command line,$(origin PRESET)),$(call one_word,PRESET),paper) tests/bench/paper.sh $(LAPIDARY)

science: build ## objectives, alpha and curation on CIFAR-10, over 3 seeds; hours, resumable (SEEDS, SCIENCE_STEPS, SCIENCE_PARTS)
	@OUT=$(call one_word,OUT)/science tests/bench/science.sh $(LAPIDARY)

science-table: build ## what `make science` has found so far
	@OUT=$(call one_word,OUT)/science tests/bench/science.sh $(LAPIDARY) table

gpu-check: ## hold a GPU to the CPU, time it beside PyTorch (DEVICE=cuda or wgpu; wgpu on a GPU in software rehearses it; FUSION=0 leaves out burn's fusion)
	@$(MAKE) --no-print-directory build $(if $(filter wgpu%,$(DEVICE)),WGPU=1,CUDA=1) FUSION=$(if $(filter file,$(origin FUSION)),1,$(FUSION))
	@tests/bench/gpu_check.sh $(LAPIDARY) $(if $(filter auto,$(DEVICE)),cuda,$(DEVICE))

cuda-rehearsal: setup ## CUDA without a GPU: kernels compiled by NVRTC and ptxas, launched on a driver that executes nothing
	@cargo build --release --workspace --features lapidary-train/cuda
	@tests/cuda/rehearse.sh $(LAPIDARY)

check-cards: build ## the cards of a subset, by mlcroissant, datasets and huggingface_hub (LAPIDARY_PYTHON)
	@tests/golden/cards.sh $(LAPIDARY)

check-exports: build ## trained networks in timm, transformers, DINOv2's code and onnxruntime (LAPIDARY_PYTHON)
	@tests/golden/exports.sh $(LAPIDARY)

clean: ## remove what was built; OUT stays
	@cargo clean --quiet
