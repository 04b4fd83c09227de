"""Night after night on one output: the second submits nothing, a killed one is finished to the same bytes."""

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


def night(home):
    return segment_cohort(home / "in", home / "model", home / "out", SETTINGS, return_state=True)


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
    ledger.write_bytes(content[:60] + (2).to_bytes(4, "big") + content[64:])
    before = {path: path.read_bytes() for path in (home / "out").rglob("*") if path.is_file() and path.name != ".lock"}
    with pytest.raises(UnreadableLedger, match="written by another version"):
        exit_code(night(home))
    assert {path: path.read_bytes() for path in before} == before
