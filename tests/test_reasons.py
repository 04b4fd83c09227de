"""Every reason that the program can give is in `docs/reasons.md`, and that page lists no other."""

import ast
import re
from pathlib import Path

import pytest

from tasks.ingest import SetAside
from tasks.scan import errors

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "reasons.md").read_text()


def documented(heading: str) -> list[tuple[str, ...]]:
    """The cells of the table under `heading`."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in section.splitlines() if line.startswith("| `")]
    return [tuple(cell.strip() for cell in row) for row in rows]


def codes(heading: str) -> set[str]:
    return {code for row in documented(heading) for code in re.findall(r"`(\w+)`", row[0])}


def literals(node: ast.AST, constants: dict[str, str]) -> list[str]:
    """The texts that an expression can be; of an f-string, what stands before its first value."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if isinstance(node, ast.JoinedStr):
        return literals(node.values[0], constants)
    if isinstance(node, ast.IfExp):
        return literals(node.body, constants) + literals(node.orelse, constants)
    return [constants[node.id]] if isinstance(node, ast.Name) and node.id in constants else []


def constants_of(tree: ast.Module) -> dict[str, str]:
    return {
        statement.targets[0].id: statement.value.value
        for statement in tree.body
        if isinstance(statement, ast.Assign)
        and isinstance(statement.targets[0], ast.Name)
        and isinstance(statement.value, ast.Constant)
    }


def set_aside_reasons(sources: list[Path]) -> set[str]:
    """Codes of all texts in `sources` that are given as a reason, called one, or returned by a `_not_a…` function."""
    trees = [ast.parse(source.read_text()) for source in sources]
    constants = {name: text for tree in trees for name, text in constants_of(tree).items()}
    given: list[ast.AST] = []
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.keyword) and node.arg in ("reason", "aside"):
            given.append(node.value)
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "reason":
            given.append(node.value)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict) and "_NOT_SCANS" in ast.unparse(node):
            given += node.value.values
        if isinstance(node, ast.FunctionDef) and node.name.startswith("_not_a"):
            given += [part.value for part in ast.walk(node) if isinstance(part, ast.Return) and part.value]
    return {SetAside(path=Path(), reason=text).code for one in given for text in literals(one, constants) if text}


def test_every_reason_of_a_quarantined_case_is_documented():
    assert codes("Quarantined") == {error.reason() for error in errors.CaseError.__subclasses__()}
    assert all(error.__subclasses__() == [] for error in errors.CaseError.__subclasses__())


def test_every_reason_to_set_a_file_aside_is_documented():
    found = set_aside_reasons(sorted((ROOT / "tasks" / "ingest").glob("*.py")))
    assert len(found) > 10
    assert codes("Set aside") == found


def test_every_error_that_stops_a_run_is_documented():
    assert codes("The run could not start") == {error.__name__ for error in errors.SetupError.__subclasses__()}


def test_every_other_reason_is_documented():
    """Elsewhere a reason is an error's own, the name of an error of Python, or a text that the page lists as failed."""
    texts = set()
    for floor in ("tasks", "flows"):
        for source in (ROOT / floor).rglob("*.py"):
            calls = [node for node in ast.walk(ast.parse(source.read_text())) if isinstance(node, ast.Call)]
            made = [call for call in calls if ast.unparse(call.func) == "Problem"]
            given = [keyword.value for call in made for keyword in call.keywords if keyword.arg == "reason"]
            texts |= {ast.unparse(value) for value in given}
    assert texts == {"error.reason()", "type(error).__name__", "'unaccounted'", "'deadline'"}
    assert codes("Failed") >= {"unaccounted"}
    assert codes("Carried over") == {"deadline"}


@pytest.mark.parametrize("heading", ["Quarantined", "Failed", "Carried over", "Set aside", "The run could not start"])
def test_every_reason_says_what_it_means_and_what_to_do(heading):
    assert all(len(row) == 3 and all(row) for row in documented(heading))


def test_the_tree_at_the_top_of_the_errors_is_the_tree():
    drawn = set(re.findall(r"── (\w+)", errors.__doc__ or ""))
    assert drawn == {name for name, value in vars(errors).items() if isinstance(value, type)} - {"PipelineError"}
