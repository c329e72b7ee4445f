PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: help venv demo test lint bench sweep coverage methods evidence leaderboard reference train picture clean

help:
	@echo "make demo     gallery of the sample photos in out/demo/"
	@echo "make test     the whole test suite"
	@echo "make lint     formatting, lint, types and layering"
	@echo "make bench    the benchmark tables"
	@echo "make sweep    what every architecture of timm computes, in out/sweep/"
	@echo "make coverage the page docs/coverage.md, from the sweep"
	@echo "make methods  the tables in docs/methods.md and docs/evaluation.md, from what is declared"
	@echo "make evidence the tables in docs/evidence.md (hours)"
	@echo "make reference the tables in docs/reference_models.md, with known evidence (an hour)"
	@echo "make leaderboard the page docs/leaderboard.md: every method on what ships (over two hours)"
	@echo "make train    the weights in data/reference (less than half an hour each)"
	@echo "make venv     the environment alone"
	@echo "make picture  the picture of the README"

$(VENV)/.made: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --editable ".[packaged]"
	touch $@

$(VENV)/.made-test: $(VENV)/.made
	$(PIP) --editable ".[test]"
	# Without its requirements: it asks for the OpenCV that needs a screen, over the headless one.
	$(PIP) --no-deps "quantus>=0.6"
	touch $@

venv: $(VENV)/.made

demo: venv
	$(BIN)/visattn demo

test: $(VENV)/.made-test
	$(BIN)/python -m pytest --numprocesses 2

lint: $(VENV)/.made-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest --quiet tests/test_layering.py tests/test_public_names.py

bench: venv
	$(BIN)/python scripts/benchmark.py
	$(BIN)/python scripts/benchmark_methods.py
	$(BIN)/python scripts/benchmark_evaluation.py --steps 7

sweep: venv
	$(BIN)/python scripts/sweep_architectures.py --out out/sweep/architectures.jsonl

coverage: sweep
	$(BIN)/python scripts/write_coverage.py

methods: venv
	$(BIN)/python scripts/write_methods.py
	$(BIN)/python scripts/write_metrics.py

evidence: venv
	$(BIN)/python scripts/measure_methods.py
	$(BIN)/python scripts/write_evidence.py

leaderboard: venv
	$(BIN)/python scripts/write_leaderboard.py --threads 1

reference: venv
	$(BIN)/python scripts/measure_reference.py
	$(BIN)/python scripts/write_reference.py

train: venv
	$(BIN)/python scripts/train_reference_models.py vit
	$(BIN)/python scripts/train_reference_models.py cbam
	$(BIN)/python scripts/train_reference_models.py cbam --watermark --steps 600 --out out/reference

picture: venv
	$(BIN)/python scripts/draw_readme_picture.py
	$(BIN)/python scripts/draw_planted_picture.py

clean:
	rm -rf $(VENV) out build *.egg-info
