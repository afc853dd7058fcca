# `make train` and `make test` are all a newcomer needs; both make .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN ?= runs/pronunciation
# The folder of what the models in the box need and the project has not.
DATA ?=
INSTALLED := $(VENV)/installed

.PHONY: setup train models test test-numeric test-apps lint docs clean

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	  || { echo "error: $$($(PYTHON) --version) found, expected Python 3.11 to 3.13 (make PYTHON=python3.12 ...)" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	touch $@

# A run that is there already goes on where it stopped.
train: $(INSTALLED)
	$(BIN)/python cli.py train pronunciation --run $(RUN) $$(test -e $(RUN)/config.toml && echo --resume)
	$(BIN)/python cli.py export --model $(RUN) --tflite --quantize float32 --quantize int8 --force > $(RUN)/export.txt || { cat $(RUN)/export.txt; exit 1; }
	@for word in phone pocket attention; do \
	  printf '%s -> ' "$$word"; $(BIN)/python cli.py translate --model $(RUN)/export/model-int8.tflite "$$word"; done
	@cat $(RUN)/export.txt

# The models in the box, all that models/box.toml lists; hours on two cores. What is in
# runs/models already is not made again.
models: $(VENV)/installed-gruut
	$(BIN)/python benchmarks/make_models.py $(if $(DATA),--data '$(DATA)')

$(VENV)/installed-gruut: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[gruut]"
	touch $@

test: $(INSTALLED)
	$(BIN)/python -m pytest

# The tests that compute in TensorFlow, by kernels other than those of this processor.
test-numeric: $(INSTALLED)
	TF_ENABLE_ONEDNN_OPTS=0 $(BIN)/python -m pytest -m numeric

# What apps copy is run on real runtimes: the wrappers in apps/, the lines in an export's
# README, the page of an explanation and the page of `demo`. Debian's packages and npm's
# come first, where they are not there. What takes longest begins first.
test-apps: $(INSTALLED)
	tests/apps/install.sh
	$(BIN)/python -m pytest tests/apps/demo.py tests/apps/native.py tests/apps/browsers.py tests/apps/platforms.py

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p pocketseq
	$(BIN)/mypy apps/python tests benchmarks examples docs/conf.py

# The guide pages and an API reference, in build/docs/index.html. Warnings are errors.
docs: $(VENV)/installed-docs
	rm -rf docs/api build/docs build/doctrees
	$(BIN)/python -m sphinx -W --keep-going -q -d build/doctrees docs build/docs

$(VENV)/installed-docs: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[docs]"
	touch $@

clean:
	rm -rf build docs/api .mypy_cache .pytest_cache .ruff_cache *.egg-info
