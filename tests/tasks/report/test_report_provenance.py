"""The record of a run: everything comes back from it as it was, and a damaged one is refused by name."""

import json

from tasks.report.provenance import write_run
from tests.tasks.report.cases import broken


def written(output, *outcomes, **run):
    """The record of a run of these outcomes, as another program reads it."""
    (output / "report.html").touch()
    write_run(run, outcomes, [{"path": "notes\udcff.txt", "reason": "no format of a scan"}], output)
    return json.loads((output / "run.json").read_text(encoding="utf-8"))


def test_a_file_name_that_is_not_utf8_comes_back_as_it_was(tmp_path):
    assert written(tmp_path, broken("A"))["set_aside"][0]["path"] == "notes\udcff.txt"
