"""The record of a run: everything comes back from it as it was, and a damaged one is refused by name."""

import json

import pytest

from tasks.report.provenance import read_run, verify_output, write_run
from tasks.scan.errors import UnreadableRun
from tests.tasks.report.cases import broken


def written(output, *outcomes, **run):
    """The record of a run of these outcomes, as another program reads it."""
    (output / "report.html").touch()
    write_run(run, outcomes, [{"path": "notes\udcff.txt", "reason": "no format of a scan"}], output)
    return json.loads((output / "run.json").read_text(encoding="utf-8"))


def test_a_file_name_that_is_not_utf8_comes_back_as_it_was(tmp_path):
    assert written(tmp_path, broken("A"))["set_aside"][0]["path"] == "notes\udcff.txt"


@pytest.mark.parametrize("damaged", ["[]", "{}", "3", '{"cases": {"A": 3}}', "{", "\udcff"])
def test_a_damaged_record_is_refused_by_name(tmp_path, damaged):
    (tmp_path / "run.json").write_bytes(damaged.encode("utf-8", "surrogateescape"))
    for command in (read_run, verify_output):
        with pytest.raises(UnreadableRun, match="is damaged .*; run the night again|holds no finished run"):
            command(tmp_path)
