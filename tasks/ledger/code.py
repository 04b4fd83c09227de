"""The version of a stage's code: a checksum of what it executes, which nobody can forget to raise.

A stage is the module that defines it and all modules of this project that it imports, and those import, and so on;
comments, docstrings and layout do not count. Packages of others count by their version.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, distribution, distributions, packages_distributions, version
from pathlib import Path

TRIES = 20
ROOT = Path(__file__).resolve().parents[2]
FLOORS = ("tasks", "unet")
LOADERS = ("import_module", "Named")
"""What takes a module by its name."""
ORCHESTRATION = frozenset(
    {
        f"tasks.{name}"
        for name in (
            "apart",
            "attempt",
            "belt",
            "case_log",
            "cluster",
            "deaths",
            "lanes",
            "nursery",
            "pool",
            "pool_config",
            "progress",
            "restart",
            "scan.errors",
            "work",
        )
    }
)
"""Modules of ours that decide where and when a stage runs and how it is told, never what comes out of it."""
ORCHESTRATORS = frozenset({"prefect", "dask", "distributed", "pydantic", "rich", "psutil", "jinja2", "matplotlib"})
"""Packages of others of which the same is true."""


@cache
def code_of(module: str) -> dict[str, str]:
    """What the result of a stage that `module` defines depends on: our modules with their checksums, and packages."""
    ours, others = _reached(module)
    packages = {name for package in others for name in _distributions_of(package)}
    return {name: _read(name).checksum for name in sorted(ours)} | {name: version(name) for name in sorted(packages)}


@cache
def _distributions_of(package: str) -> list[str]:
    """What is installed that has `package`: most are called as it is, some say it, and else all files are looked at."""
    try:
        return [distribution(package).metadata["Name"]]
    except PackageNotFoundError:
        say = [one for one in distributions() if package in (one.read_text("top_level.txt") or "").split()]
        return [one.metadata["Name"] for one in say] or list(_distributions().get(package, ()))


@cache
def _distributions() -> Mapping[str, list[str]]:
    return packages_distributions()


def _reached(module: str) -> tuple[set[str], set[str]]:
    """The modules of ours that `module` leads to, itself included, and the top-level packages of others."""
    ours: set[str] = set()
    others: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in ours or name in ORCHESTRATION:
            continue
        ours.add(name)
        for imported in _imports(name):
            if imported.split(".")[0] in FLOORS:
                waiting.append(imported)
            else:
                others.add(imported.split(".")[0])
    return ours, others - ORCHESTRATORS - sys.stdlib_module_names


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """A module of ours: what it executes, as a checksum, and what it takes from which module."""

    checksum: str
    modules: frozenset[str]
    names: tuple[tuple[str, str], ...]
    """The module, and the name there, of each `from module import name`."""


@cache
def _read(module: str) -> _Source:
    tree = _tree(module)
    modules: set[str] = set()
    names: list[tuple[str, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [(node.module, alias.name) for alias in node.names]
        elif isinstance(node, ast.Call) and _called(node.func) in LOADERS:
            modules |= _by_name(node.args[0])
        elif isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [one for one in node.body if not _is_text(one)] or [ast.Pass()]
    checksum = sha256(ast.dump(tree).encode()).hexdigest()[:16]
    return _Source(checksum=checksum, modules=frozenset(modules), names=tuple(names))


def _imports(module: str) -> set[str]:
    """All modules that a module of ours takes something from; what it takes from a package of ours, where that is."""
    source = _read(module)
    return {*source.modules, *(_home(*name) for name in source.names)}


def _called(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _by_name(name: ast.expr) -> set[str]:
    """The modules that `import_module(name)` may load: of a name that is known in part, all that begin with it."""
    if isinstance(name, ast.Constant):
        return {str(name.value)}
    parts = name.values if isinstance(name, ast.JoinedStr) else []
    package, _, begin = "".join(str(one.value) for one in parts[:1] if isinstance(one, ast.Constant)).rpartition(".")
    files = ROOT.joinpath(*package.split(".")).glob(f"{begin}*.py") if package else ()
    return {f"{package}.{file.stem}" for file in files if file.stem != "__init__"}


def _home(module: str, name: str) -> str:
    """The module that `from module import name` leads to: through the shop window of a package of ours, behind it."""
    if _file(f"{module}.{name}"):
        return f"{module}.{name}"
    file = _file(module)
    if file is None or file.name != "__init__.py":
        return module
    return next((home for home, shown in _read(module).names if shown == name), module)


def _is_text(statement: ast.stmt) -> bool:
    """A docstring of a module, class, function or field."""
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _tree(module: str) -> ast.Module:
    file = _file(module)
    if file is None:
        raise ModuleNotFoundError(f"{module} is no module below {ROOT}")
    for _ in range(TRIES):
        try:
            return ast.parse(file.read_bytes())
        except SystemError:  # Python 3.11 counts the depth of what all threads parse in one place (cpython#106905)
            continue
    return ast.parse(file.read_bytes())


def _file(module: str) -> Path | None:
    """The file of a module of ours; None for anything else."""
    path = ROOT.joinpath(*module.split("."))
    if module.split(".", maxsplit=1)[0] not in FLOORS:
        return None
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)
