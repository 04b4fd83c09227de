"""How far a stage is, on the page of the run that it belongs to."""

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.runtime import flow_run
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from tasks import artifacts
from tasks.progress import progress_bar


@flow(name="four-steps")
def four_steps() -> str:
    with progress_bar("infer", 4) as bar:
        for _ in range(4):
            bar.advance()
    return str(flow_run.id)


def told(local_prefect) -> list:
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        run = four_steps()
    with get_client(sync_client=True) as client:
        of_run = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run]))
        return [(one.key, one.data) for one in client.read_artifacts(artifact_filter=of_run)]


def test_a_long_stage_tells_its_progress_to_the_end(local_prefect, monkeypatch):
    monkeypatch.setattr(artifacts, "EVERY_SECONDS", 0.0)
    assert told(local_prefect) == [("infer-progress", 100.0)]


def test_a_short_stage_has_nothing_to_tell(local_prefect):
    assert told(local_prefect) == []
