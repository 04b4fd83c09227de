# Two commands matter: `make demo` shows the program at work, `make test` checks it. Both set everything up first.
PYTHON ?= python3.11
VENV := .venv
RUN := $(VENV)/bin
TOOLS := .venv-tools

.PHONY: demo test install check lock audit sbom clean

demo: install
	$(RUN)/segment-cohort demo

# Two processes, since much of it waits; file by file and in their order, since a file's tests share what is slow to make
# and the longest come first.
test: install
	$(RUN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

install: $(VENV)/.installed

$(VENV)/.installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(RUN)/python -m pip install --quiet --requirement requirements.lock
	$(RUN)/python -m pip install --quiet --no-deps --editable .
	touch $@

check: install
	$(RUN)/ruff format .
	$(RUN)/ruff check .
	$(RUN)/mypy

# Only when pyproject.toml changes: resolve anew and write down what was found. torch is pinned without the tag of the
# build that happens to be here, so that the lock holds for the CPU build and for the CUDA build alike.
lock: install
	$(RUN)/pip-compile --quiet --extra demo --extra dev --strip-extras --no-emit-index-url --no-emit-find-links \
		--no-emit-trusted-host --no-header --no-allow-unsafe --output-file requirements.lock pyproject.toml
	sed -i 's/^\(torch==[0-9.]*\)+.*/\1/' requirements.lock

# Is what is installed what the lock says, does it fit together, and is any of it known to be vulnerable? Only the last
# question needs a network; where nobody answers it, that is an error too. The tools live apart: they are no dependency.
audit: install $(TOOLS)/.installed
	$(RUN)/python -m pip check
	$(RUN)/python -m pip install --dry-run --no-index --no-deps --quiet --requirement requirements.lock
	$(TOOLS)/bin/pip-audit --strict --disable-pip --no-deps --progress-spinner off --requirement requirements.lock

# The software bill of materials (CycloneDX, JSON) of what is installed, to sbom.json.
sbom: install $(TOOLS)/.installed
	$(TOOLS)/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --output-file sbom.json \
		$(RUN)/python

$(TOOLS)/.installed: Makefile
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet cyclonedx-bom==7.5.0 pip-audit==2.10.1
	touch $@

clean:
	rm -rf $(VENV) $(TOOLS) demo sbom.json
