# The commands of this repository. `make help` lists them.
PYTHON_VENV := .venv/bin/python
CONFIG ?= tools/config/movielens-100k.toml

.DEFAULT_GOAL := help
.PHONY: help setup data build demo serve test test-gpu lint chaos bench-gpu bench-retrieval bench-switching bench-refresh bench-merging load capacity tune overload peers peers-setup bench bench-ingest bench-scale results clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## make .venv and install what is missing
	@tools/setup.sh

data: setup
	@$(PYTHON_VENV) tools/data/fetch.py movielens-100k --into build/data

build: data ## build a release (CONFIG=your.toml for your own data)
	@$(PYTHON_VENV) tools/build_repo.py --config $(CONFIG)

demo: build ## build a release of MovieLens-100K and show what Triton recommends
	@$(PYTHON_VENV) tools/demo.py

serve: build ## serve the active release, or the newest, until Ctrl-C
	@$(PYTHON_VENV) tools/serve.py

lint: ## format, lint and type checks
	@tools/setup.sh test
	$(PYTHON_VENV) -m ruff format --check .
	$(PYTHON_VENV) -m ruff check .
	$(PYTHON_VENV) -m mypy

test: lint ## all tests; real Triton, real Redis
	$(PYTHON_VENV) -m pytest

test-gpu: setup ## what needs an NVIDIA GPU (and torch with CUDA); skipped with a reason where there is none
	@tools/setup.sh test
	$(PYTHON_VENV) -m pytest -m gpu --timeout 600

chaos: setup ## the slow tests: kill -9 during thousands of writes and during releases' switches
	@tools/setup.sh test
	$(PYTHON_VENV) -m pytest -m slow --timeout 1200

bench: build ## p50 of `recommend` against the stages called in process, and where the difference comes from
	@$(PYTHON_VENV) tools/bench_latency.py

bench-gpu: setup ## the GPU profile: parity, retrieval, ranking, serving (GPU="--json gpu.json"; 10 minutes)
	@$(PYTHON_VENV) tools/bench_gpu.py $(GPU)

bench-ingest: setup ## 20 million made-up events: seconds and peak memory
	@$(PYTHON_VENV) tools/bench_ingest.py

bench-scale: setup ## made-up catalogues of 10,000 to a million items: latency, start, memory (12 minutes)
	@$(PYTHON_VENV) tools/bench_scale.py

bench-retrieval: setup ## searching a million items against the memory's bandwidth
	@$(PYTHON_VENV) tools/bench_retrieval.py

bench-switching: build ## 20 activations and rollbacks under load (SWITCHING="--releases A B --every 30"): failures, p99
	@$(PYTHON_VENV) tools/bench_switching.py --build build $(SWITCHING)

bench-merging: data ## does merging channels pay after ranking? (MERGING="--channels transformer,gru,ease"; half an hour)
	@$(PYTHON_VENV) tools/bench_merging.py --config $(CONFIG) $(MERGING)

bench-refresh: data ## refresh against full build, and items that nobody has met (half an hour)
	@$(PYTHON_VENV) tools/bench_refresh.py --config $(CONFIG)
	@$(PYTHON_VENV) tools/bench_new_items.py --config $(CONFIG)

load: build ## open-loop load test (LOAD="--rate 100 --slo p99=30ms,errors=0"): build/load/report.html
	@$(PYTHON_VENV) tests/load/load.py $(LOAD)

capacity: build ## the highest rate that holds an objective (LOAD="--slo p99=50ms,errors=0")
	@$(PYTHON_VENV) tests/load/capacity.py $(LOAD)

overload: build ## three times the capacity for a minute: what is shed, how quick the rest is (LOAD="--capacity 350")
	@$(PYTHON_VENV) tests/load/overload.py $(LOAD)

tune: build ## what instances, threads, delays and batches serve most here (TUNE="--quick"; a quarter of an hour)
	@$(PYTHON_VENV) tools/tune.py $(TUNE)

peers-setup: setup ## install FastAPI, BentoML and Ray Serve into build/peers/venv (600 MB)
	@$(PYTHON_VENV) tests/load/peers/environment.py

peers: build ## pages per second against FastAPI, BentoML and Ray Serve (PEERS="--quick"; 17 minutes)
	@$(PYTHON_VENV) tests/load/peers/compare.py --build build $(PEERS)

table: data ## every channel and ranker trained and served: build/table/index.html (TABLE="…"; half an hour)
	@tools/setup.sh text
	@$(PYTHON_VENV) tools/model_table.py $(TABLE)

compare-recbole: data ## our models against RecBole's on one split (RECBOLE="--only EASE"; the first time hours)
	@$(PYTHON_VENV) tools/compare_recbole.py $(RECBOLE)

results: data ## five seeds of the shipped configuration: the tables of docs/results.md (an hour)
	@$(PYTHON_VENV) tools/results.py

clean: ## remove what was built, but not the virtual environment
	rm -rf build
