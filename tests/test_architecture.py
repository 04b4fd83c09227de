"""The house: imports point one way, and every room stays small enough to read."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = ("flows", "tasks", "unet")
FORBIDDEN = {
    "unet": {"flows", "tasks", "prefect", "dask", "distributed", "nibabel", "SimpleITK", "pydicom", "pandas"},
    "tasks": {"flows"},
    "flows": {"torch", "nibabel", "SimpleITK", "pydicom", "numpy", "unet"},
}
SOURCES = sorted(path for floor in FLOORS for path in (ROOT / floor).rglob("*.py"))
MOST_LINES, MOST_FUNCTION_LINES = 300, 40
NO_ROOM = {"utils", "common", "helpers", "core", "misc"}


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports(tree: ast.AST) -> set[str]:
    """The top-level packages that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


def lines_without_docstring(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = function.body[0]
    docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    length = (function.end_lineno or 0) - function.lineno + 1
    return length - ((first.end_lineno or 0) - first.lineno + 1 if docstring else 0)


def test_there_are_sources_on_every_floor():
    assert {path.relative_to(ROOT).parts[0] for path in SOURCES} == set(FLOORS)


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_imports_point_one_way(path):
    floor = path.relative_to(ROOT).parts[0]
    assert imports(ast.parse(path.read_text())) & FORBIDDEN[floor] == set()


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_nothing_is_imported_inside_a_function(path):
    functions = (n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.FunctionDef))
    hidden = [f.name for f in functions for n in ast.walk(f) if isinstance(n, ast.Import | ast.ImportFrom)]
    assert hidden == []


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_files_and_functions_are_small(path):
    text = path.read_text()
    assert len(text.splitlines()) <= MOST_LINES
    functions = (n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))
    assert [f.name for f in functions if lines_without_docstring(f) > MOST_FUNCTION_LINES] == []


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_prefect_keeps_no_answer_of_a_task_and_reads_no_cohort_to_find_one(path):
    """By default a task makes a key of all that it is given, as JSON, and looks for an answer under it."""
    decorators = [
        d for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.FunctionDef) for d in n.decorator_list
    ]
    tasks = [ast.unparse(d) for d in decorators if ast.unparse(d).split("(")[0] == "task"]
    assert [task for task in tasks if "cache_policy=NO_CACHE" not in task] == []


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_no_room_is_called_by_no_name(path):
    assert not NO_ROOM & {*path.relative_to(ROOT).parts[:-1], path.stem}


def test_the_story_of_a_night_is_short_and_has_no_detail():
    tree = ast.parse((ROOT / "flows" / "segment_cohort.py").read_text())
    assert not [n for n in ast.walk(tree) if isinstance(n, ast.Try | ast.BinOp | ast.Lambda)]
