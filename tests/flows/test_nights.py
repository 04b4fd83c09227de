"""Night after night on one output: the second submits nothing, a killed one is finished to the same bytes."""

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta

import pandas as pd
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from flows.outcomes import exit_code
from flows.segment_cohort import segment_cohort
from flows.settings import Settings
from tasks.ingest import IngestConfig
from tasks.pool import PoolConfig
from tasks.report import verify_output
from tasks.scan.errors import UnreadableLedger
from tests.phantoms import box, picture, write_nifti
from tests.tasks.ledger.nights import train_nothing

LABELS = box((12, 10, 8), (2, 2, 2), (8, 5, 6))
SETTINGS = Settings(pool=PoolConfig(workers=1), ingest=IngestConfig(settle_seconds=0))


@pytest.fixture(autouse=True)
def _quick_flows(local_prefect):
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        yield


@pytest.fixture
def home(tmp_path):
    """A folder with a model and a cohort of two scans."""
    train_nothing(tmp_path / "model")
    for number in (1, 2):
        write_nifti(tmp_path / "in" / f"s{number}.nii.gz", picture(LABELS, number))
    return tmp_path


def night(home, **settings):
    return segment_cohort(home / "in", home / "model", home / "out", replace(SETTINGS, **settings), return_state=True)


def tasks_of(state) -> set[str]:
    one = FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))
    with get_client(sync_client=True) as client:
        return {run.name.rsplit("-", 1)[0] for run in client.read_task_runs(flow_run_filter=one)}


def test_a_second_night_submits_nothing_and_has_the_same_tables(home):
    night(home)
    first = {name: (home / "out" / name).read_bytes() for name in ("metrics.csv", "summary.csv")}
    state = night(home)
    assert state.message == "2 of 2 cases segmented, 2 of them unchanged since an earlier night"
    assert exit_code(state) == 0
    assert tasks_of(state) == {"ingest", "recall", "report"}
    assert {name: (home / "out" / name).read_bytes() for name in first} == first
    assert set(pd.read_csv(home / "out" / "cases.csv")["status"]) == {"unchanged"}
    assert verify_output(home / "out") == []


def test_a_ledger_of_a_newer_version_stops_the_run_before_anything_is_touched(home):
    night(home)
    ledger = home / "out" / "ledger.sqlite"
    content = ledger.read_bytes()
    ledger.write_bytes(content[:60] + (99).to_bytes(4, "big") + content[64:])
    before = {path: path.read_bytes() for path in (home / "out").rglob("*") if path.is_file() and path.name != ".lock"}
    with pytest.raises(UnreadableLedger, match="written by another version"):
        exit_code(night(home))
    assert {path: path.read_bytes() for path in before} == before


def rows(home) -> dict[str, dict]:
    table = pd.read_csv(home / "out" / "cases.csv", keep_default_na=False)
    return {row["case"]: row for row in table.to_dict("records")}


def remember_that_they_took(home, seconds):
    """Writes into the ledger how long the cases took, as if they were large."""
    with closing(sqlite3.connect(home / "out" / "ledger.sqlite")) as ledger, ledger:
        for name, took in seconds.items():
            (result,) = ledger.execute("SELECT result FROM cases WHERE name = ?", (name,)).fetchone()
            known = json.loads(result)
            known["costs"] = [{"stage": "infer", "seconds": took, "peak_memory_mb": 1.0, "began": 0.0}]
            ledger.execute("UPDATE cases SET result = ? WHERE name = ?", (json.dumps(known), name))


def test_before_a_deadline_the_longest_that_fit_are_done_and_the_next_night_begins_with_the_rest(home):
    """s2 took thirty years, the others a few seconds. After new weights all are due, and there is a minute or two."""
    for number in (3, 4):
        write_nifti(home / "in" / f"s{number}.nii.gz", picture(LABELS, number))
    night(home)
    remember_that_they_took(home, {"s1": 2.0, "s2": 1e9, "s3": 4.0, "s4": 3.0})
    train_nothing(home / "model", seed=1)
    until = (datetime.now().astimezone() + timedelta(minutes=2)).strftime("%H:%M")
    state = night(home, until=until)
    assert state.message == "1 of 4 cases need attention (3 segmented, 1 carried_over): s2"
    assert exit_code(state) == 1
    assert rows(home)["s2"]["reason"] == "deadline"
    assert f"would not have been done by {until}" in rows(home)["s2"]["message"]
    assert order_of(home, "s1", "s3", "s4") == ["s3", "s4", "s1"]
    assert not (home / "out" / ".work").exists()
    assert verify_output(home / "out") == []
    write_nifti(home / "in" / "s5.nii.gz", picture(LABELS, 5))
    assert night(home).message == "5 of 5 cases segmented, 3 of them unchanged since an earlier night"
    assert order_of(home, "s2", "s5") == ["s2", "s5"]


def order_of(home, *names) -> list[str]:
    """`names` in the order in which they were begun."""
    with closing(sqlite3.connect(home / "out" / "ledger.sqlite")) as ledger:
        results = {name: json.loads(result) for name, result in ledger.execute("SELECT name, result FROM cases")}
    began = {name: cost["began"] for name in names for cost in results[name]["costs"] if cost["stage"] == "preprocess"}
    return sorted(names, key=lambda name: began[name])
