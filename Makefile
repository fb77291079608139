# Every target sets up what it needs. PYTHON picks the interpreter (3.11 or newer).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DATA ?= ../shared/data
RECIPE ?= small_256
RUN ?= runs/$(RECIPE)
EVAL := $(DATA)/eval
SHARDS = $(wildcard $(DATA)/train/permissive-*.tar)

# The Python of the image; a hash for every file of every platform.
LOCK := --universal --python-version 3.13 --generate-hashes --no-header --no-annotate

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow check check-deploy test-load test-fuzz soak format proto proto-release train model export quantize serve bench bench-serving lock rules replay-dockerfile clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

# Two stamps: serving needs no torch, so a user who only runs the demo never downloads it.
$(VENV)/.serve: pyproject.toml
	@echo 'setting up $(VENV), once: 470 MB, a minute or two without a word'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable '.[cpu,serve]'
	@touch $@

$(VENV)/.dev: $(VENV)/.serve
	$(BIN)/pip install --quiet --editable '.[cpu,serve,batch,train,export,bench,deploy,dev]'
	@touch $@

$(VENV)/.ray: $(VENV)/.dev
	$(BIN)/pip install --quiet --editable '.[ray]'
	@touch $@

demo: $(VENV)/.serve ## Pictures through a real server at 24, 64, 128, 512 bytes; IMAGE=path for your own
	$(BIN)/python examples/demo.py $(if $(IMAGE),--image "$(IMAGE)")

test: $(VENV)/.dev ## All tests but the slow ones
	$(BIN)/pytest

test-slow: $(VENV)/.ray ## The slow tests, those on Ray included
	$(BIN)/pytest -m slow

test-load: $(VENV)/.dev ## Real servers under load: overload, deadlines, shutdown, retries, dashboard (with Prometheus)
	$(BIN)/pytest -rs -m load

test-fuzz: $(VENV)/.dev ## 20,000 hostile messages, streams cut at every byte
	$(BIN)/pytest -m fuzz

soak: $(VENV)/.dev ## Half an hour of mixed load on the service
	$(BIN)/pytest -m soak tests/load

check: $(VENV)/.dev check-deploy ## Lint, format, types, architecture, the API, what deploys and watches it
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest tests/test_architecture.py
	sh proto/check.sh

check-deploy: $(VENV)/.dev ## Image, manifests, dashboard and alerts, with the tools that are installed
	$(BIN)/pytest -rs tests/deploy

format: $(VENV)/.dev ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

proto: $(VENV)/.dev ## Generate the gRPC stubs again
	PYTHON=$(abspath $(BIN))/python sh proto/generate.sh

proto-release: ## Take the .proto files as the released API: a step of a release
	sh proto/check.sh --release

train: $(VENV)/.dev ## Train RECIPE on the shards below DATA (resumes); START=checkpoint or model to begin with
	$(BIN)/python -m training train --recipe $(RECIPE) --folder $(RUN) $(addprefix --start ,$(START)) \
	    $(addprefix --data ,$(SHARDS))

model: $(VENV)/.dev ## Everything behind the shipped models: both stages of training, export, int8
	$(MAKE) train RECIPE=small_256_fixed
	$(MAKE) train RECIPE=small_256 START=runs/small_256_fixed/checkpoint.pt
	$(MAKE) export quantize RECIPE=small_256

export: $(VENV)/.dev ## Turn the run's checkpoint into the shipped fp32 model
	$(BIN)/python -m training export --checkpoint $(RUN)/checkpoint.pt --out tokenizer/pretrained/tessera-small \
	    $(addprefix --data ,$(SHARDS))

quantize: $(VENV)/.dev ## Write the int8 sibling of the shipped fp32 model, if its pictures lose little enough
	$(BIN)/python -m training quantize --model tessera-small --out tokenizer/pretrained/tessera-small-int8 \
	    $(addprefix --data ,$(SHARDS))

serve: $(VENV)/.serve ## Serve the shipped model on 127.0.0.1:50051
	$(BIN)/tessera serve

bench-serving: $(VENV)/.dev ## All benchmarks of the service; hours on a quiet machine
	$(BIN)/python -m benchmarks.serving_throughput
	$(BIN)/python -m benchmarks.serving_overload
	$(BIN)/python -m benchmarks.serving_deadlines
	$(BIN)/python -m benchmarks.serving_shutdown
	$(BIN)/python -m benchmarks.serving_retries
	$(BIN)/python -m benchmarks.serving_slow_clients
	$(BIN)/python -m benchmarks.serving_fairness
	$(BIN)/python -m benchmarks.serving_soak

bench: $(VENV)/.dev ## All benchmarks on the pictures below EVAL
	$(BIN)/python -m benchmarks.rate_distortion --images $(EVAL)/kodak --crop 256
	$(BIN)/python -m benchmarks.rate_distortion --images $(EVAL)/div --crop 256
	$(BIN)/python -m benchmarks.full_resolution --images $(EVAL)/kodak
	$(BIN)/python -m benchmarks.codings --images $(EVAL)/kodak --crop 256
	$(BIN)/python -m benchmarks.halting --images $(EVAL)/div
	$(BIN)/python -m benchmarks.order --images $(EVAL)/kodak --crop 256
	$(BIN)/python -m benchmarks.order --images $(EVAL)/div --crop 256
	$(BIN)/python -m benchmarks.spectrum --images $(EVAL)/kodak --crop 256
	$(BIN)/python -m benchmarks.spectrum --images $(EVAL)/div --crop 256
	$(BIN)/python -m benchmarks.perception --images $(EVAL)/div --crop 256 --limit 40
	$(BIN)/python -m benchmarks.token_entropy --images $(or $(lastword $(sort $(SHARDS))),$(EVAL)/div) --crop 256
	$(BIN)/python -m benchmarks.set_budget --images $(EVAL)/kodak --crop 256
	$(BIN)/python -m benchmarks.failure_cases
	$(BIN)/python -m benchmarks.odd_inputs --images $(EVAL)/odd
	$(BIN)/python -m benchmarks.speed
	$(BIN)/python -m benchmarks.model_memory

lock: ## Pin again what the image holds (needs uv)
	for kind in cpu gpu; do uv pip compile --upgrade --quiet pyproject.toml --extra $$kind --extra serve --extra otel $(LOCK) \
	    --output-file deploy/requirements/$$kind.txt || exit 1; done
	echo 'hatchling>=1.25' | uv pip compile --upgrade --quiet - $(LOCK) --output-file deploy/requirements/build.txt

rules: $(VENV)/.dev ## Copy the alerts into the resource of the Prometheus Operator
	$(BIN)/python deploy/prometheus_rule.py

replay-dockerfile: ## Carry out the Dockerfile without a container engine (root, Linux; REPLAY_PYTHON to choose one)
	$(PYTHON) deploy/replay_dockerfile.py $(addprefix --python ,$(REPLAY_PYTHON))

clean: ## Remove what was built
	rm -rf $(VENV) build dist demo .pytest_cache .mypy_cache .ruff_cache .hypothesis
