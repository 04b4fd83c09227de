"""The record of a run: everything comes back from it as it was, and a damaged one is refused by name."""

import json

import pytest

from tasks.report.delta import check_runs_before
from tasks.report.provenance import describe_run, read_run, verify_output, write_run
from tasks.scan.errors import UnreadableRun
from tests.tasks.report.cases import broken

OF_A_RUN = describe_run(
    {
        "started": "2026-11-25T01:00:00+00:00",
        "model": "m",
        "model_sha256": "w",
        "device": "cpu",
        "precision": "float32",
    },
    None,
)


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


def test_a_record_of_an_older_version_without_a_format_is_read(tmp_path):
    content = written(tmp_path, broken("A"), **OF_A_RUN)
    del content["format"]
    (tmp_path / "run.json").write_text(json.dumps(content))
    assert list(read_run(tmp_path).cases) == ["A"]


def test_a_record_of_a_newer_version_is_refused_by_name(tmp_path):
    content = written(tmp_path, broken("A"), **OF_A_RUN) | {"format": 2, "versions": {"segment-cohort": "3.0"}}
    (tmp_path / "run.json").write_text(json.dumps(content))
    for look in (read_run, verify_output, check_runs_before):
        with pytest.raises(UnreadableRun, match="newer version of this program .3.0, format 2, this one reads up to 1"):
            look(tmp_path)


@pytest.mark.parametrize("damaged", ["[]", "3", "{", "[" * 100_000, '{"format": "x"}', '{"format": true}'])
def test_a_record_that_cannot_be_read_does_not_stop_the_next_run(tmp_path, damaged):
    (tmp_path / "run.previous.json").write_text(damaged)
    check_runs_before(tmp_path)


def test_a_record_that_names_files_elsewhere_is_told_so_and_they_are_not_read(tmp_path):
    (tmp_path / "secret").write_text("x")
    (tmp_path / "out").mkdir()
    content = written(tmp_path / "out", broken("A"), **OF_A_RUN)
    forged = {"../secret": "0", str(tmp_path / "secret"): "0"}
    (tmp_path / "out" / "run.json").write_text(json.dumps({**content, "files": forged}))
    assert verify_output(tmp_path / "out") == [f"{name}: not in this folder" for name in forged]
