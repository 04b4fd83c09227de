"""What a command imports is what it needs: imports are most of the time that a short command takes."""

import subprocess
import sys

HEAVY = ("torch", "prefect", "dask", "distributed", "pandas", "numpy", "nibabel", "SimpleITK", "matplotlib", "openvino")


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
    assert imported_by("import unet") <= {"torch", "numpy"}
