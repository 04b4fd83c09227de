# Two commands matter: `make demo` shows the program at work, `make test` checks it. Both set everything up first.
PYTHON ?= python3.11
VENV := .venv
RUN := $(VENV)/bin

.PHONY: demo test install check lock clean

demo: install
	$(RUN)/segment-cohort demo

test: install
	$(RUN)/python -m pytest

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
		--no-emit-trusted-host --no-header --allow-unsafe --output-file requirements.lock pyproject.toml
	sed -i 's/^\(torch==[0-9.]*\)+.*/\1/' requirements.lock

clean:
	rm -rf $(VENV) demo
