"""What a command imports is what it needs: imports are most of the time that a short command takes."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from tasks.named import Named

ROOT = Path(__file__).parents[2]

HEAVY = (
    *("torch", "prefect", "dask", "distributed", "pandas", "numpy", "nibabel", "SimpleITK", "pydicom", "scipy"),
    *("matplotlib", "openvino", "highdicom", "safetensors", "cc3d", "jinja2"),
)
RARE = {"matplotlib", "highdicom", "openvino"}
"""Imported by who draws a training, exports DICOM, or runs a network on the CPU, when it does."""
COMPUTING = {"torch", "safetensors", "scipy", "nibabel", "SimpleITK", "pydicom", "cc3d"}
"""Imported by the processes that read scans and compute: a second or two for one that hands them on."""


NAMED = [
    Named(*(argument.value for argument in node.args))
    for path in sorted((ROOT / "tasks").rglob("*.py"))
    for node in ast.walk(ast.parse(path.read_text()))
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "Named"
]
"""Every function that the code knows by its name alone."""


def imported_by(code: str) -> set[str]:
    """Which of the heavy modules Python has imported after `code`."""
    script = f"import sys\ntry:\n    {code}\nexcept SystemExit:\n    pass\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(HEAVY) & {name for line in done.stdout.splitlines() for name in line.split()}


def test_help_imports_nothing_heavy():
    assert imported_by("from flows.command_line import main; main(['--help'])") == set()


def test_a_refused_argument_imports_nothing_heavy():
    assert imported_by("from flows.command_line import main; main(['run'])") == set()


def test_the_network_alone_needs_no_pipeline_and_its_description_no_torch():
    assert imported_by("from unet import UNet, predict, train") <= {"torch", "numpy", "safetensors"}
    assert imported_by("from unet import UNetConfig") == set()


def test_a_night_hands_scans_on_and_imports_nothing_that_reads_them_or_computes():
    assert imported_by("import flows.commands.run") & {*RARE, *COMPUTING} == set()


@pytest.mark.parametrize("command", ["verify", "explain", "ingest"])
def test_a_short_command_imports_nothing_that_reads_scans_or_computes(command):
    assert imported_by(f"import flows.commands.{command}") & {*RARE, *COMPUTING} == set()


def test_a_process_of_the_pool_knows_the_stages_but_neither_prefect_nor_tables_nor_the_network_s_library():
    known = imported_by("import tasks.newborn")
    assert known & {*RARE, "prefect", "pandas"} == set()
    assert known >= {"distributed", *COMPUTING}


def test_the_network_s_process_needs_neither_the_pool_nor_readers_of_scans():
    needed = {"distributed", "dask", "prefect", "SimpleITK", "pandas", "cc3d"}
    assert imported_by("import tasks.infer.there") & needed == set()


@pytest.mark.parametrize("named", NAMED, ids=lambda one: one.name)
def test_what_is_known_by_name_is_there(named):
    assert callable(getattr(import_module(named.module), named.name))
