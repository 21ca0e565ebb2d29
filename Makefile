# Everything on a fresh machine with Python and a C++ compiler: `make demo` and `make test`.
#
#   make demo    set up, train on the digits, draw samples, evaluate, compare speeds   (about 10 minutes on 2 cores)
#   make test    set up, test everything that needs no GPU; of long lists of cases some, others for every version of the code
#   make test-all   every case
#   make test-share  an eighth of the cases that make test leaves out; continuous integration runs both
#   make fuzz    20,000 random critics against a textbook double backward; CRITICS and SEED choose others
#   make lint    ruff, mypy, clang-format; what README.md and docs/benchmarks.md generate is up to date
#   make bench   measure everything against PyTorch, write benchmarks/results/, docs/benchmarks.md and the README's
#                chart and table of ops                                         (about half an hour on a quiet machine)
#   make compat  make test with another Python and PyTorch, in .compat: make compat PYTHON=python3.12 TORCH=2.11.0
#   make gpu     on a GPU machine with PyTorch: build, test and measure within BUDGET=480 seconds (PYTHON as it is, no venv)
#   make format  rewrite the sources as lint wants them

PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
EXTRAS ?= test,lint,triton
COMPAT = .compat/$(notdir $(PYTHON))-torch$(TORCH)
BIN := $(VENV)/bin
CXX_FILES := $(wildcard csrc/bindings/* csrc/*.cpp csrc/*.cu csrc/*.h csrc/*.cuh tests/emulator/*.h tests/emulator/*.cpp)
DEMO := runs/demo
DEMO_STEPS ?= 5000
CRITICS ?= 20000
BUDGET ?= 480
JOBS ?= 2
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

.PHONY: setup demo test test-all test-share fuzz lint format bench compat compat-setup gpu clean

setup: $(VENV)/installed

$(VENV)/installed: pyproject.toml setup.py $(CONSTRAINTS) $(wildcard csrc/* csrc/bindings/*)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) torch numpy
	$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) --editable '.[$(EXTRAS)]'
	touch $@

demo: setup
	rm -rf $(DEMO)
	$(BIN)/fastgan train digits-dcgan --out $(DEMO) run.steps=$(DEMO_STEPS)
	$(BIN)/fastgan sample $(DEMO) --n 64 --seed 0 --out $(DEMO)/samples.png
	$(BIN)/fastgan evaluate $(DEMO) --out $(DEMO)/evaluation.json
	$(BIN)/python -m benchmarks.train_step --json $(DEMO)/train_step.json
	@echo "Samples: $(DEMO)/samples.png"

# Most tests keep one core busy, so JOBS processes share them; Triton's interpreter needs processes of its own. Threads that
# wait for each other sleep: spinning, they would keep the other process from a core.
test test-all test-share: export OMP_WAIT_POLICY = passive
test: CASES = not thorough
test-all: CASES = thorough or not thorough
test test-all: setup
	$(PYTEST) tests -m "$(CASES)"
	TRITON_INTERPRET=1 $(PYTEST) tests/ops -k triton

test-share: setup
	$(PYTEST) tests -m thorough --share 8

fuzz: setup
	$(BIN)/python -m tests.fuzz --critics $(CRITICS) $(if $(SEED),--seed $(SEED))

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m benchmarks.readme --check
	$(BIN)/clang-format --dry-run -Werror $(CXX_FILES)

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CXX_FILES)

bench: setup
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.penalties
	$(BIN)/python -m benchmarks.spectral_norm --json
	$(BIN)/python -m benchmarks.accelerate --json
	$(BIN)/python -m benchmarks.attention --json
	$(BIN)/python -m benchmarks.directional --json
	$(BIN)/python -m benchmarks.engine --json
	$(BIN)/python -m benchmarks.convolutions
	$(BIN)/python -m benchmarks.readme

# Only torch is pinned: pip resolves the rest to what that torch and that Python go with, and versions.txt records it.
compat: compat-setup
	$(MAKE) --no-print-directory test VENV=$(COMPAT) CONSTRAINTS=$(COMPAT)/constraints.txt EXTRAS=test,triton

compat-setup: $(COMPAT)/constraints.txt
	$(MAKE) --no-print-directory setup VENV=$(COMPAT) CONSTRAINTS=$(COMPAT)/constraints.txt EXTRAS=test,triton
	$(COMPAT)/bin/python -m pip freeze --exclude-editable > $(COMPAT)/versions.txt

$(COMPAT)/constraints.txt:
	@test -n "$(TORCH)" || { echo "make compat: TORCH is not set: expected e.g. TORCH=2.11.0" >&2; exit 2; }
	mkdir -p $(@D)
	echo "torch==$(TORCH)" > $@

gpu:
	$(PYTHON) -m benchmarks.gpu --budget $(BUDGET)

clean:
	rm -rf build dist *.egg-info fastgan/_C.*.so $(VENV)
