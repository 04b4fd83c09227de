"""Why a case has the result it has, also when the output is not what it was."""

import pytest

from flows.command_line import main
from tasks.ledger import LEDGER
from tasks.ledger.table import writing_cases
from tasks.report.delta import put_aside
from tasks.report.provenance import write_run
from tests.tasks.report.cases import broken

RUN = dict.fromkeys(("started", "finished", "flow_run", "model", "model_sha256", "device", "precision"), "known")


@pytest.fixture
def output(tmp_path):
    """The output of a run that knows the case A."""
    for name in ("cases.csv", "metrics.csv"):
        (tmp_path / name).write_text("case,status\nA,segmented\n")
    (tmp_path / "report.html").touch()
    write_run(RUN, [broken("A")], [], tmp_path)
    return tmp_path


@pytest.mark.parametrize("table", ["cases.csv", "metrics.csv"])
@pytest.mark.parametrize("content", [None, b"", b"name\nA\n", b"case,x\nA,\xff\n"])
def test_a_case_whose_tables_were_damaged_is_refused_by_name(output, table, content, capsys):
    assert main(["explain", str(output), "A"]) == 0
    (output / table).unlink() if content is None else (output / table).write_bytes(content)
    assert main(["explain", str(output), "A"]) == 2
    printed = capsys.readouterr().err
    assert f"UnreadableRun: '{output / table}' cannot be read" in printed
    assert printed.count("\n") == 1


def test_a_case_that_the_run_does_not_know_is_told_with_those_it_knows(output, capsys):
    assert main(["explain", str(output), "B"]) == 2
    assert "has no case 'B'; it has A …" in capsys.readouterr().err


def test_while_a_run_is_at_work_what_the_one_before_made_is_explained_by_a_ledger_that_is_locked(output, capsys):
    """A run puts the record of the one before aside, and holds the ledger for as long as it works."""
    put_aside(output)
    (output / "cases.csv").write_text("half a table")
    with writing_cases(output / LEDGER, {}):
        assert main(["explain", str(output), "A"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("a run is at work here, or was killed")
    assert "cannot be read" not in printed
    assert "the ledger does not know this case" in printed
