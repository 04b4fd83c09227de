"""The version of a stage's code: what counts as a change, on a project of three small modules."""

import pytest

from tasks.ledger import code
from tasks.ledger.code import code_of

STAGE = '''
"""A stage."""
import numpy
from prefect import task
from unet import blur
def run(image):
    """What comes back."""
    return blur(image)  # twice
'''


@pytest.fixture
def project(tmp_path, monkeypatch):
    """`tasks/stage.py` takes `blur` from the package `unet`, which has it from `unet/filters.py`."""
    for name, text in {
        "tasks/__init__.py": "",
        "tasks/stage.py": STAGE,
        "unet/__init__.py": "from unet.filters import blur\nfrom unet.training import fit\n",
        "unet/filters.py": "def blur(image):\n    return image / 2\n",
        "unet/training.py": "def fit():\n    return 1\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(code, "ROOT", tmp_path)
    forget()
    yield tmp_path
    forget()


def forget():
    for function in (code.code_of, code._read):
        function.cache_clear()


def version():
    forget()
    return code_of("tasks.stage")


def edit(project, name, old, new):
    file = project / name
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_a_stage_is_its_module_what_that_takes_from_others_and_packages(project):
    assert set(version()) == {"tasks.stage", "unet.filters", "numpy"}


@pytest.mark.parametrize(
    ("name", "old", "new"), [("tasks/stage.py", "blur(image)", "-blur(image)"), ("unet/filters.py", "2", "3")]
)
def test_a_statement_that_changed_is_another_version(project, name, old, new):
    before = version()
    edit(project, name, old, new)
    assert version() != before


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("tasks/stage.py", "# twice", "# once"),
        ("tasks/stage.py", "What comes back.", "What comes out."),
        ("unet/filters.py", "image / 2", "(image\n        / 2)"),
        ("unet/training.py", "1", "2"),
    ],
)
def test_comments_docstrings_layout_and_modules_it_does_not_use_are_no_change(project, name, old, new):
    before = version()
    edit(project, name, old, new)
    assert version() == before


@pytest.mark.parametrize("name", ['"unet.training"', 'f"unet.train{which}"', 'f"unet.{which}"'])
def test_a_module_that_is_loaded_by_name_counts_whatever_the_name_turns_out_to_be(project, name):
    edit(project, "tasks/stage.py", "blur(image)", f"import_module({name}).fit(image)")
    assert "unet.training" in version()


def test_a_function_that_is_known_by_its_name_counts_with_its_module(project):
    edit(project, "tasks/stage.py", "blur(image)", 'Named("unet.training", "fit")(image)')
    assert "unet.training" in version()


def test_every_stage_of_this_program_counts_the_network_or_the_reader_of_scans():
    assert {"unet.inference", "unet.backends.openvino_backend", "unet.backends.torch_backend"} <= set(
        code_of("tasks.infer.case")
    )
    assert "openvino" in code_of("tasks.infer.case")
    assert {"tasks.scan.nifti", "tasks.scan.resample", "scipy"} <= set(code_of("tasks.preprocess"))
    assert "connected-components-3d" in code_of("tasks.postprocess")
    assert "tasks.evaluate.surfaces" in code_of("tasks.evaluate.evaluate")
    assert "tasks.pool" not in code_of("tasks.preprocess")
