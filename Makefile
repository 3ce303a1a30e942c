# Every target works as the first command on a fresh clone: it makes .venv, installs the tested versions and then runs.
#   make demo        the whole story on the built-in shop, about two minutes
#   make test        the tests (make test-all: the slow ones too; make test ARGS="-k ndcg -x": some of them)
#   make lint types  ruff, mypy (make format: what ruff mends by itself)
#   make bench       all speed benches on one data set: make bench DATA=DIR; make bench-NAME ARGS="...": benchmarks/speed/NAME.py alone
#   make bench-peers other toolkits beside this one
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip install --quiet --no-input --disable-pip-version-check
TORCH := $(shell grep -E '^torch==' constraints.txt)
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install demo test test-all lint format types bench bench-peers clean
.DELETE_ON_ERROR:

help:
	@sed -n 's/^#   //p' Makefile

install: $(STAMP)

# torch first and alone, at the tested version: where pip knows a CPU build of it, that one satisfies everything installed after it;
# in one go with the others the resolver may settle on the CUDA build and its gigabytes of libraries.
$(STAMP): pyproject.toml constraints.txt
	@echo "installing into $(VENV) (once; a few minutes)" >&2
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) '$(TORCH)'
	@$(PIP) -c constraints.txt -e '.[dev,finetune,plot,tune,track,llm]'
	@touch $@

demo: $(STAMP)
	@$(BIN)/lexirec demo $(ARGS)

test: $(STAMP)
	@$(BIN)/python -m pytest $(ARGS)

test-all: $(STAMP)
	@$(BIN)/python -m pytest -m "" $(ARGS)

lint: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: $(STAMP)
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

types: $(STAMP)
	@$(BIN)/mypy
	@$(BIN)/mypy --config-file benchmarks/mypy.ini

bench: $(STAMP)
	@test -n "$(DATA)" || { echo "make bench DATA=DIR: name the folder of a data set with titles, such as one that lexirec data convert wrote" >&2; exit 2; }
	@set -e; for file in $$(ls benchmarks/speed/[a-z]*.py | grep -v common); do echo "== $$file" >&2; \
	  if grep -q '"--data"' $$file; then $(BIN)/python $$file --data $(DATA) $(ARGS); else $(BIN)/python $$file $(ARGS); fi; done

bench-peers: $(STAMP)
	@$(BIN)/python benchmarks/peers/run.py $(ARGS)

bench-%: $(STAMP)
	@$(BIN)/python benchmarks/speed/$*.py $(ARGS)

clean:
	rm -rf $(VENV) $(VENV)-core benchmarks/scratch build dist
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
