"""Two nights by the command line: what the terminal, `explain` and `verify` say of the second."""

import json

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, LogFilter, LogFilterFlowRunId
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from flows.command_line import main
from tasks import artifacts
from tests.phantoms import box, picture, truncate, write_nifti
from tests.tasks.ledger.nights import train_nothing

LABELS = box((12, 10, 8), (2, 2, 2), (8, 5, 6))


def run(home) -> int:
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        return main(
            ["run", str(home / "in"), "--model", str(home / "model"), "--output", str(home / "out"), "--workers", "1"]
        )


@pytest.fixture(scope="module")
def home(local_prefect, tmp_path_factory):
    """The output of two nights; between them one scan changed, one broke, one came, and one stayed."""
    home = tmp_path_factory.mktemp("nights")
    train_nothing(home / "model")
    for number, name in enumerate(("changed", "broken", "same")):
        write_nifti(home / "in" / f"{name}.nii.gz", picture(LABELS, number))
    assert run(home) == 0
    write_nifti(home / "in" / "changed.nii.gz", picture(LABELS, 7))
    truncate(home / "in" / "broken.nii.gz", 0.5)
    write_nifti(home / "in" / "came.nii.gz", picture(LABELS, 8))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(artifacts, "EVERY_SECONDS", 0.0)
        assert run(home) == 1
    return home


def test_the_record_and_the_table_say_what_is_other_than_the_night_before(home):
    said = json.loads((home / "out" / "run.json").read_text())["since_last_night"]
    assert said.split(": ", 1)[1] == (
        "1 failed (broken: unreadable_image), 0 worse, 0 fixed, 1 new, 1 changed, 1 unchanged"
    )
    rows = [line.split(",")[:2] for line in (home / "out" / "delta.csv").read_text().splitlines()[1:]]
    assert rows == [["broken", "failed"], ["came", "new"], ["changed", "changed"], ["same", "unchanged"]]


def test_the_page_of_the_run_in_prefect_has_progress_summary_and_report(home):
    record = json.loads((home / "out" / "run.json").read_text())
    of_run = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[record["flow_run"]]))
    with get_client(sync_client=True) as client:
        told = {one.key: one for one in client.read_artifacts(artifact_filter=of_run)}
    assert told["cases-progress"].data == 100.0
    assert told["summary"].description.startswith("4 cases: ")
    assert '"name": "head"' in told["summary"].data
    assert str(home / "out" / "report.html") in told["report"].data


def test_the_last_lines_in_the_terminal_say_it_too(home, capsys):
    capsys.readouterr()
    assert run(home) == 1
    *_, since, table, page = capsys.readouterr().out.splitlines()
    assert since.split(": ", 1)[1] == "0 failed, 0 worse, 0 fixed, 0 new, 0 changed, 1 failed again, 3 unchanged"
    assert (table[:6], page[:5]) == ("table:", "page:")


def test_explain_says_what_was_done_to_a_case_when_by_what_and_why(home, capsys):
    assert main(["explain", str(home / "out"), "changed"]) == 0
    said = capsys.readouterr().out
    assert "recall: case 'changed' is to be done: new\n" in said
    assert "recall: case 'changed' is to be done: the scan changed\n" in said
    assert [
        word for word in ("made 20", "torch  ", "inference.backend", "model.weights_sha256") if word not in said
    ] == []
    stages = said[said.index("stage ") : said.index("made by")].splitlines()[1:6]
    assert [line.split()[0] for line in stages] == ["ingest", "preprocess", "infer", "postprocess", "evaluate"]


def test_verify_finds_all_as_it_was_written_and_a_result_that_nobody_wrote(home, capsys):
    assert main(["verify", str(home / "out")]) == 0
    assert capsys.readouterr().out.endswith("files are as they were written, and the ledger agrees\n")
    stranger = home / "out" / "segmentations" / "stranger.nii.gz"
    stranger.touch()
    assert main(["verify", str(home / "out")]) == 1
    assert capsys.readouterr().out == "segmentations/stranger.nii.gz: not of this run\n"
    stranger.unlink()


def test_verify_does_not_say_that_a_ledger_agrees_which_is_not_there(home, capsys):
    (home / "out" / "ledger.sqlite").rename(home / "away")
    assert main(["verify", str(home / "out")]) == 0
    (home / "away").rename(home / "out" / "ledger.sqlite")
    assert capsys.readouterr().out.endswith("there is no ledger: a run into this folder does every case\n")


def test_cases_that_are_well_are_in_the_journal_and_not_in_the_servers_database(home):
    record = json.loads((home / "out" / "run.json").read_text())
    of_run = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[record["flow_run"]]))
    with get_client(sync_client=True) as client:
        told = [log.message for log in client.read_logs(of_run)]
    assert [line for line in told if "done in" in line or "' is to be done" in line] == []
    assert "ingest: case 'same' done in" in (home / "out" / "log.jsonl").read_text()
