# `make help` lists the targets. Everything runs in .venv, which is made when a lock changed.

PYTHON ?= python3
VENV := .venv
# Prediction alone, without TensorFlow and DVC.
SERVING := .venv-serving
# What `make bench` compares with.
BENCH := .venv-bench
# The environment's programs first: dvc starts the stages with plain `python`.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
.DEFAULT_GOAL := help

# Targets are listed by group, with the variables they take, what they write, and how long the slow ones take on two cores.
.PHONY: help
help:  ## list the targets
	@sed -n -e 's/^##@ \(.*\)/\n\1/p' -e 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

# One line where the interpreter is missing or of another version.
CHECK_PYTHON = @command -v $(PYTHON) > /dev/null || { echo "error: expected a Python interpreter, found no $(PYTHON): install Python 3.11 to 3.13, or set PYTHON=/path/to/python" >&2; exit 1; }; \
	$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info < (3, 14) else "error: expected Python 3.11 to 3.13, found %d.%d: set PYTHON=/path/to/python" % sys.version_info[:2])'

$(VENV)/.locked: requirements.txt requirements-dev.txt
	$(CHECK_PYTHON)
	$(PYTHON) -m venv --clear $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt -r requirements-dev.txt
	@touch $@

# The tools of the site and of the notebook's test, which no run needs.
$(VENV)/.docs: $(VENV)/.locked requirements-docs.txt
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-docs.txt
	@touch $@

##@ Start

.PHONY: setup
setup: $(VENV)/.locked  ## create the environment in .venv (some minutes the first time; every target that needs it does so)

.PHONY: demo
demo: $(VENV)/.locked  ## run the whole pipeline on simulated scans, into .demo (3 min); needs no data set and no account
	@python tools/scratch.py .demo --params demo.yaml
	@echo "Done: open .demo/report/index.html; the scores are in .demo/metrics/test.json, the scans in .demo/data/raw"

##@ Develop

.PHONY: test
test: $(VENV)/.docs  ## run the tests (45 min)
	@python -m pytest -q --numprocesses=auto --dist=worksteal

.PHONY: test-fast
test-fast: $(VENV)/.docs  ## run only the tests without training, browser, server or new environment (1 min)
	@python -m pytest -q --numprocesses=auto --dist=worksteal -m "not slow"

.PHONY: lint
lint: $(VENV)/.locked  ## check style and format
	@ruff check .
	@ruff format --check .

# The rival in PyTorch.
$(BENCH)/.installed: benchmarks/requirements-pytorch.txt
	$(CHECK_PYTHON)
	$(PYTHON) -m venv --clear $(BENCH)
	$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

.PHONY: bench
bench: $(VENV)/.locked $(BENCH)/.installed  ## measure speed beside limits and rivals, into benchmarks/results.md (some hours): ONLY="startup page" measures those again
	@python benchmarks/bench.py $(ONLY)

.PHONY: docs
docs: $(VENV)/.docs  ## build the documentation as a site, in build/site (half a minute); a broken link or reference fails
	@python -m sphinx -q -E -W --keep-going -d build/doctrees docs build/site
	@echo "Done: open build/site/index.html"

.PHONY: docs-test
docs-test: $(VENV)/.docs  ## run the commands of the pages in docs, compare what they print, and the tests beside them (10 min)
	@python -m pytest -q --docs --numprocesses=auto --dist=worksteal

.PHONY: audit-deps
audit-deps: $(VENV)/.locked  ## known vulnerabilities of all locked packages, by the OSV database, which is stored for use without a network
	@python tools/audit_deps.py

.PHONY: licences
licences: $(VENV)/.docs  ## write the licences of all locked packages to docs/licences.md; one that is not allowed fails
	@python tools/licences.py

##@ Run the pipeline

.PHONY: repro
repro: $(VENV)/.locked  ## run the stages that changed (45 min for all; JOBS=2: two trainings at a time): metrics, plots, report, classifier
	@[ -e .git ] || dvc config --local core.no_scm true
	@mkdir -p .dvc/tmp && exec 9>> .dvc/tmp/repro.lock && python tools/after_kill.py --hold 9 \
		$(if $(JOBS),&& dvc repro split features && dvc stage list --name-only | grep -E '^(train@|final$$)' \
		| xargs -P $(JOBS) -n 1 dvc --wait-for-lock repro --single-item) \
		&& dvc repro && python tools/after_kill.py --finished

.PHONY: quick
quick: $(VENV)/.locked git  ## the same for fold 0 only, as a DVC experiment (15 min)
	@dvc exp run --set-param 'run.folds=[0]'

# The main source alone: what one split or another does is not to be blurred by the others.
SECOND ?= navoneel
ALONE := --set-param 'run.folds=[0]' -S data.sources.$(SECOND).role=external
# The stages whose scores these experiments show, and all that they need.
SCORES := evaluate audit_model

.PHONY: effect
effect: $(VENV)/.locked git  ## effect of leakage on the score: fold 0 with three ways to split, as experiments (40 min)
	@dvc exp run --name split-patient $(ALONE) $(SCORES)
	@dvc exp run --name split-random $(ALONE) -S split.strategy=random -S split.on_leak=report $(SCORES)
	@dvc exp run --name split-official $(ALONE) -S split.strategy=official -S split.on_leak=report $(SCORES)
	@dvc exp show --drop '.*' --keep 'Experiment|split.strategy|.*_test.macro_f1$$|.*official_(leaked|clean).accuracy$$'

.PHONY: leave-out
leave-out: $(VENV)/.locked git  ## score on a source that was never learned from, as an experiment (10 min): SECOND=navoneel
	@dvc exp run --name leave-out $(ALONE) $(SCORES)
	@dvc exp show --drop '.*' --keep 'Experiment|.*$(SECOND)(_shared|_clean)?.(tumour.(roc_auc|sensitivity|specificity)|selective.missed)$$'

# The best recipe of the project's own network; docs/recipe.md says how it was found.
SCRATCH := -S preprocess.image_size=128 -S model.backbone=compact -S model.weights=none -S model.frozen=0.0 -S train.epochs=32 \
	-S train.patience=12 -S train.batch_size=32 -S train.learning_rate=0.002 -S train.warmup_epochs=2 -S train.average=0.97 \
	-S train.repeats=1 -S train.augment.bias=0.2 -S train.augment.blur=0.5 -S train.augment.noise=0.05 -S train.augment.erase=0.0

.PHONY: scratch
scratch: $(VENV)/.locked git  ## train the project's own network from scratch instead, as an experiment (50 min)
	@dvc exp run --name scratch $(SCRATCH)
	@dvc exp show --drop '.*' --keep 'Experiment|model.backbone|.*patient_test.macro_f1$$|macro_f1$$'

.PHONY: sweep
sweep: $(VENV)/.locked git  ## search for better parameters on validation images, into sweep.db (hours): TRIALS=20 STORAGE=URL of a database for several machines
	@python tools/sweep.py --trials $(or $(TRIALS),20) $(if $(STORAGE),--storage '$(STORAGE)')

$(SERVING)/.locked: requirements-serving.txt requirements-readers.txt pyproject.toml
	$(CHECK_PYTHON)
	$(PYTHON) -m venv --clear $(SERVING)
	$(SERVING)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-serving.txt -r requirements-readers.txt
	$(SERVING)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

##@ Predict

.PHONY: serve
serve: $(SERVING)/.locked  ## serve predictions over HTTP and on a web page, with the report if there is one: PORT=8000
	@$(SERVING)/bin/brain-tumor serve --port $(or $(PORT),8000) $(if $(wildcard report/index.html),--report report/index.html)

##@ Results and data

.PHONY: compare
compare: $(VENV)/.locked git  ## compare two commits or experiments, with a paired bootstrap of the scores: A=main B=sweep-7
	@python tools/compare.py $(or $(A),HEAD~1) $(or $(B),HEAD)

.PHONY: accept-data
accept-data: $(VENV)/.locked  ## accept a Kaggle set as it is now, and rewrite its manifest: SOURCE=name in data.sources
	@[ -n "$(SOURCE)" ] || { echo "error: expected SOURCE=name of one of data.sources in params.yaml" >&2; exit 1; }
	@python stages/download.py --source $(SOURCE) --accept

##@ Maintain

.PHONY: lock
lock: $(VENV)/.locked  ## write the requirements*.txt again from the requirements*.in
	@compile() { \
		uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --output-file "$$@"; \
	}; \
	compile requirements.txt requirements.in requirements-serving.in && \
	for name in dev serving readers; do compile requirements-$$name.txt -c requirements.txt requirements-$$name.in || exit; done && \
	compile requirements-docs.txt -c requirements.txt -c requirements-dev.txt requirements-docs.in

.PHONY: git
git:
	@[ -e .git ] || { echo "error: DVC experiments need a git checkout, this folder is none: git clone the project" >&2; exit 1; }
