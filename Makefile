# make demo   run the main job from nothing: a real Airflow, the emulator, one upload, its tiles fetched back
# make test   unit, emulator and DAG tests, on all cores; four to five minutes on two, installation included
# make check  the tests marked "slow", which make test leaves out: killed processes, large files, hundreds of waits, load
# make ui     look at what the demo made: Airflow and the emulator, until Ctrl-C
# make system the wheel in an empty environment, a backfill in a running Airflow, the compose file, load
# make clients  Mapbox's own clients, linters and a map's program against the emulator and the export
# make workers   Celery: two workers, two triggerers and the scheduler, killed while they work; part of make system
# make answers   most of the provider's tests again, with each plausible form of Mapbox's undocumented behaviour
# make crash  uploads whose processes die after each step, under each fault; five hundred of them at random
# make lint   ruff, mypy, the directions of imports, secrets, and the files that other programs read
# make dist   build the wheel and the source archive, and check what they hold
# make matrix    the wheel on each Python that is found, and the lowest versions that pyproject.toml allows
# make audit  published vulnerabilities of the pinned packages
# make release VERSION=x.y.z   check, build and tag a release; print the command that uploads it
# make big    a layer of 3 GB of GeoJSON from GeoParquet to a finished upload on the emulator; about ten minutes
# make bench  how fast export and preflight are and how much memory they take; writes build/benchmarks
# make fuzz   coverage-guided fuzzing of the preflight's parsers; SECONDS for each of them
# make screenshots  take the pictures of the documentation again, in a real Airflow; needs Chromium
# make docs   write the page of rules, which is made from code and committed
# make site   build the documentation's site into build/site, and check its links and its reference; a minute
# make linkcheck  ask each outside address that the documentation names; needs a network that reaches them
# make constraints   raise the pinned versions

PYTHON ?= python3
VENV := .venv
IN_VENV := $(VENV)/bin
# Another PYTHON makes the environment anew.
INSTALLED := $(VENV)/.installed-$(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
WHAT := -c constraints.txt -e .[emulator,s3,postgis,mbtiles] --group test --group lint --group dist --group bench --group docs

DEMO := $(IN_VENV)/python -m demo.run
# Each worker has an Airflow home, a database, and emulators of its own, and takes up to 1 GB of memory.
PYTEST := $(IN_VENV)/python -m pytest
PARALLEL := -n logical --maxprocesses 8 --dist worksteal

.PHONY: demo test check answers crash system clients workers ui lint dist matrix audit release bench big fuzz docs site linkcheck screenshots constraints clean

demo: $(INSTALLED)
	@$(DEMO)

ui: $(INSTALLED)
	@$(DEMO) --serve

test: $(INSTALLED)
	$(PYTEST) $(PARALLEL) -m "not slow"

check: $(INSTALLED)
	$(PYTEST) $(PARALLEL) -m slow

answers: $(INSTALLED)
	for number in 1 2; do $(IN_VENV)/python -m pytest --answers $$number -m "not slow" tests/unit/hooks tests/unit/operators tests/unit/sensors tests/unit/tilesets tests/unit/triggers/test_tilesets.py tests/dags --ignore tests/dags/test_cli.py --ignore tests/dags/test_pages.py || exit 1; done

crash: $(INSTALLED)
	$(IN_VENV)/python -m pytest tests/crashes

system: $(INSTALLED)
	COMPOSE="$$(.ci/compose $(abspath $(VENV))/compose)" $(IN_VENV)/python -m pytest tests/system

clients: $(INSTALLED)
	TILESETS="$$(.ci/oracle $(abspath $(VENV))/oracle)" $(IN_VENV)/python -m pytest tests/clients

workers: $(INSTALLED)
	$(IN_VENV)/python -m pytest tests/system/test_many_workers.py

big: $(INSTALLED)
	$(IN_VENV)/python -m pytest -s tests/big

bench: $(INSTALLED)
	$(IN_VENV)/python -m benchmarks.export
	$(IN_VENV)/python -m benchmarks.overlap
	TILESETS="$$(.ci/oracle $(abspath $(VENV))/oracle)" $(IN_VENV)/python -m benchmarks.area
	$(IN_VENV)/python -m benchmarks.preflight

dist: $(INSTALLED)
	$(IN_VENV)/python -m tools.distribution

# The first release needs REPOSITORY=https://…, its public home. DRY_RUN=1 does it all in a temporary clone.
release: $(INSTALLED)
	$(IN_VENV)/python -m tools.release $(VERSION) $(if $(REPOSITORY),--repository $(REPOSITORY)) $(if $(DRY_RUN),--dry-run)

matrix: dist
	$(IN_VENV)/python -m tools.matrix dist

FUZZED := sniff geojson jsonprefix csvrows kml gpx crs tiff shapefile mbtiles_metadata vectortile rules
SECONDS ?= 60

fuzz: $(INSTALLED)
	@$(IN_VENV)/python -c 'import atheris' 2>/dev/null \
	  || $(IN_VENV)/uv pip install --quiet --system-certs --python $(IN_VENV)/python -c constraints.txt --group fuzz 2>/dev/null \
	  || $(IN_VENV)/pip install --quiet -c constraints.txt --group fuzz
	for target in $(FUZZED); do $(IN_VENV)/python -m tests.fuzz.run $$target $(SECONDS) || exit 1; done

screenshots: $(INSTALLED)
	SCREENSHOTS=docs/images $(IN_VENV)/python -m pytest tests/system/test_interface.py

docs: $(INSTALLED)
	$(IN_VENV)/python -m airflow_mapbox.rules.page > docs/reference/refusals.md

# Every page is read anew: Sphinx does not notice that the code of a page made from code has changed.
SPHINX = $(IN_VENV)/sphinx-build --fail-on-warning --keep-going --nitpicky --quiet --fresh-env

site: $(INSTALLED)
	rm -rf build/site
	$(SPHINX) -b html -d build/doctrees docs build/site
	$(PYTEST) -q tests/site

# Not part of CI: it needs a network, and an outside server that is down must not stop a change. Where only package
# indexes can be reached, it lists each address as broken. build/linkcheck/output.txt has the list.
linkcheck: $(INSTALLED)
	$(SPHINX) -b linkcheck -d build/doctrees docs build/linkcheck

lint: $(INSTALLED)
	$(IN_VENV)/ruff check .
	$(IN_VENV)/ruff format --check .
	$(IN_VENV)/mypy
	$(IN_VENV)/lint-imports --no-cache
	$(IN_VENV)/hadolint docker/Dockerfile
	.ci/secrets $(IN_VENV)/detect-secrets-hook
	$(IN_VENV)/pre-commit validate-config
	$(IN_VENV)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(IN_VENV)/check-jsonschema --builtin-schema vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml
	$(IN_VENV)/check-jsonschema --builtin-schema vendor.github-issue-forms $(filter-out %/config.yml,$(wildcard .github/ISSUE_TEMPLATE/*.yml))

audit: $(INSTALLED)
	$(IN_VENV)/python -m tools.audit

# uv installs in seconds what takes pip a minute and a half; where it does not reach what pip is configured to, pip does it.
$(INSTALLED): pyproject.toml constraints.txt Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "Installing into $(VENV) …"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(IN_VENV)/pip install --quiet --disable-pip-version-check --upgrade -c constraints.txt pip uv
	@$(IN_VENV)/uv pip install --quiet --system-certs --python $(IN_VENV)/python --build-constraints constraints.txt $(WHAT) 2>/dev/null \
	  || PIP_BUILD_CONSTRAINT=constraints.txt $(IN_VENV)/pip install --quiet $(WHAT)
	@touch $@

constraints: $(INSTALLED)
	{ echo "# Every version that the checks of this repository run with; made by: make constraints"; \
	  $(IN_VENV)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --no-header --no-annotate \
	    --extra emulator --extra s3 --extra postgis --extra mbtiles --group test --group lint --group dist --group bench --group docs --group fuzz \
	    pyproject.toml; } > constraints.new
	mv constraints.new constraints.txt

clean:
	rm -rf $(VENV) .demo build dist
