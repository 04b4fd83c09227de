"""What the documents name must exist, and what exists must be in the documents."""

import dataclasses
import re
import tomllib
from pathlib import Path

import pytest
import yaml

from flows.command_line import parser
from flows.settings import Settings, TrainSettings

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "deployments").glob("*.md")])


def commands() -> set[str]:
    (subparsers,) = (action for action in parser()._actions if action.dest == "command")
    return set(subparsers.choices)


def settings_of(record: type, prefix: str = "") -> set[str]:
    names = set()
    for field in dataclasses.fields(record):
        default = field.default_factory() if callable(field.default_factory) else None
        if dataclasses.is_dataclass(default):
            names |= settings_of(type(default), f"{prefix}{field.name}.")
        else:
            names.add(prefix + field.name)
    return names


def test_the_readme_is_short_and_says_what_this_is_and_is_not():
    assert len(README.splitlines()) < 150
    assert "segments" in README.splitlines()[2].lower()
    assert "not a medical device" in README.lower()


def test_the_readme_names_every_command():
    assert {command for command in commands() if f"segment-cohort {command}" not in README} == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_a_document_names_exists(document):
    named = set(re.findall(r"segment-cohort ([a-z]+)\b(?!\.)", "\n".join(code_of(document.read_text()))))
    assert named - commands() == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_to_a_file_leads_somewhere(document):
    links = re.findall(r"\]\((?!http)([^)#]+)", document.read_text())
    assert [link for link in links if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("record", [Settings, TrainSettings])
def test_every_setting_is_documented(record):
    text = (ROOT / "docs" / "settings.md").read_text()
    assert {name for name in settings_of(record) if f"`{name}`" not in text} == set()


def test_every_dependency_has_its_reason():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = [*project["dependencies"], *project["optional-dependencies"]["demo"]]
    names = {re.split(r"[<>=\[]", requirement)[0] for requirement in listed}
    text = (ROOT / "docs" / "dependencies.md").read_text()
    assert {name for name in names if f"`{name}`" not in text} == set()


def test_the_deployments_in_the_readme_are_those_of_prefect_yaml():
    deployments = yaml.safe_load((ROOT / "deployments" / "prefect.yaml").read_text())["deployments"]
    names = {f"{d['entrypoint'].split(':')[1].replace('_', '-')}/{d['name']}" for d in deployments}
    assert names == {"segment-cohort/nightly", "train-unet/train"}
    assert {name for name in names if name not in README} == set()


def test_the_lock_holds_the_pins_that_keep_the_server_alive():
    lock = dict(re.findall(r"^([a-zA-Z0-9-]+)==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    assert tuple(int(part) for part in lock["fastapi"].split(".")[:2]) < (0, 151)
    assert lock["sqlalchemy"].startswith("2.0.")
    assert lock["prefect"].startswith("3.8.")
    assert lock["torch"] == "2.13.0"


def code_of(text: str) -> list[str]:
    """The code blocks and code spans of a document."""
    return [*re.findall(r"```[a-z]*\n(.*?)```", text, re.DOTALL), *re.findall(r"`([^`\n]+)`", text)]
