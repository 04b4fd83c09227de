"""What a command imports is what it needs: imports are most of the time that a short command takes."""

import subprocess
import sys

HEAVY = (
    *("torch", "prefect", "dask", "distributed", "pandas", "numpy", "nibabel", "SimpleITK", "pydicom", "scipy"),
    *("matplotlib", "openvino", "highdicom", "safetensors", "cc3d", "jinja2"),
)
RARE = {"matplotlib", "highdicom", "openvino"}
"""Imported by who draws a training, exports DICOM, or runs a network on the CPU, when it does."""


def imported_by(code: str) -> set[str]:
    """Which of the heavy modules Python has imported after `code`."""
    script = f"import sys\ntry:\n    {code}\nexcept SystemExit:\n    pass\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(HEAVY) & {name for line in done.stdout.splitlines() for name in line.split()}


def test_help_imports_nothing_heavy():
    assert imported_by("from flows.command_line import main; main(['--help'])") == set()


def test_a_refused_argument_imports_nothing_heavy():
    assert imported_by("from flows.command_line import main; main(['run'])") == set()


def test_the_network_alone_needs_no_pipeline():
    assert imported_by("import unet") <= {"torch", "numpy", "safetensors"}


def test_a_night_imports_nothing_that_few_nights_need():
    assert imported_by("import flows.commands.run") & RARE == set()


def test_a_process_of_the_pool_knows_the_stages_but_neither_tables_nor_the_network_s_library():
    known = imported_by("import tasks.newborn")
    assert known & {*RARE, "pandas"} == set()
    assert known >= {"distributed", "nibabel", "cc3d"}


def test_the_stage_of_the_network_needs_neither_the_pool_nor_readers_of_scans():
    needed = {"distributed", "dask", "nibabel", "SimpleITK", "pydicom", "pandas"}
    assert imported_by("import tasks.infer") & needed == set()
