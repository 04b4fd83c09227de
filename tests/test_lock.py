"""`requirements.lock` is what `pyproject.toml` asks for, and what is installed here is what it says."""

import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LINES = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if line and line.strip()[0] not in "#-"]
LOCKED = {canonicalize_name(one.name): one for one in map(Requirement, LINES)}
ASKED = [
    Requirement(text)
    for texts in (PROJECT["dependencies"], *(PROJECT["optional-dependencies"][extra] for extra in ("demo", "dev")))
    for text in texts
]


def version_of(one: Requirement) -> str:
    (exactly,) = one.specifier
    return exactly.version


@pytest.mark.parametrize("asked", ASKED, ids=lambda one: one.name)
def test_what_the_project_asks_for_is_locked_within_its_range(asked):
    assert asked.specifier.contains(version_of(LOCKED[canonicalize_name(asked.name)]))


@pytest.mark.parametrize("one", LOCKED.values(), ids=lambda one: one.name)
def test_what_is_locked_is_one_version_and_the_one_that_is_installed(one):
    assert (one.url, one.marker, [part.operator for part in one.specifier]) == (None, None, ["=="])
    try:
        installed = distribution(one.name).version
    except PackageNotFoundError:
        pytest.fail(f"{one.name} is locked, but not installed: `make install`")
    assert one.specifier.contains(installed, prereleases=True)


def test_what_locked_packages_need_is_locked_too():
    """For this machine: of what is needed under a condition, what the condition is met for."""
    needed = {
        (name, canonicalize_name(part.name))
        for name, one in LOCKED.items()
        for part in map(Requirement, distribution(one.name).requires or ())
        if part.marker is None or part.marker.evaluate({"extra": ""})
    }
    here = {
        "nvidia",
        "triton",
        "cuda",
        "pip",
        "setuptools",
    }  # torch locks what its build for GPUs needs; a venv has pip
    assert {(name, part) for name, part in needed if part not in LOCKED and part.split("-")[0] not in here} == set()
