# Everything runs from a virtual environment in .venv, made on first use; nothing else is touched.
PYTHON ?= python3
BIN := .venv/bin
EXTRAS ?= cpu,demo,dev

# uv finds the CPU build of torch where pip is configured to look for wheels, else on PyTorch's own index.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
TORCH := $(if $(wildcard $(addsuffix /torch-*,$(UV_FIND_LINKS))),,--torch-backend $(if $(findstring gpu,$(EXTRAS)),auto,cpu))
# Where Python may not write bytecode, each process of Ray would compile all that it imports: 45 s in place of 11.
COMPILE := $(if $(PYTHONDONTWRITEBYTECODE),--compile-bytecode)
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-cluster check check-web web clean

# make demo LLM=NAME: a hub name, a folder, or the URL of a server and MODEL=NAME, if it has more than one. Names are
# sought with more candidates and texts than SmolLM2 has time for, and MINUTES=N limits how long holdout texts are
# labelled; what was left out is labelled by the next such command.
MINUTES ?= 20
SIZES := --interpret.n_candidates 2 --interpret.n_examples 12 --score_fidelity.n_examples 20 --annotate.sample.minutes $(MINUTES)
SERVER := --llm.engine endpoint --llm.endpoint.url '$(LLM)' --llm.model '$(or $(MODEL),auto)'
CHOSEN := $(if $(findstring ://,$(LLM)),$(SERVER),$(if $(LLM),--llm.model '$(LLM)')) $(if $(LLM),$(SIZES))

demo: .venv/installed
	$(BIN)/hypsae demo-data demo-data
	$(BIN)/hypsae run --config jobs/configs/demo.yaml --out runs/demo $(CHOSEN)
	$(BIN)/hypsae demo-recovery runs/demo demo-data

# In two processes, files in the order of pyproject.toml; each has one Ray and one small LLM for all of its tests. The
# tests of clusters wait most of the time: two at once take 6 minutes in place of 10 (two cores of an Intel Xeon).
PYTEST := $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder --durations=10

test: check
	OMP_NUM_THREADS=1 $(PYTEST) -m "not slow"

test-cluster: .venv/installed
	$(PYTEST) -m slow

check: .venv/installed check-web
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/pyrefly check --output-format min-text

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet uv
	VIRTUAL_ENV=.venv $(BIN)/uv pip install --quiet $(COMPILE) $(TORCH) -e '.[$(EXTRAS)]'
	touch $@

# The script of report.html is built where npm is, and committed, so that nobody else needs npm.
WEB := hypsae_ray/report/web

web: $(WEB)/node_modules/.package-lock.json
	npm --prefix $(WEB) run --silent build

ifneq ($(shell command -v npm),)
check-web: $(WEB)/node_modules/.package-lock.json
	npm --prefix $(WEB) run --silent check
else
check-web:
	@echo "npm is not here: $(WEB) is not checked"; test -z "$$CI"
endif

$(WEB)/node_modules/.package-lock.json: $(WEB)/package-lock.json
	npm --prefix $(WEB) ci --no-audit --no-fund --loglevel=error
	touch $@

clean:
	rm -rf .venv runs demo-data .coverage $(WEB)/node_modules
