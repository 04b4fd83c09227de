"""What a run's end means."""

from uuid import UUID

from prefect.client.schemas.objects import StateDetails
from prefect.states import Failed

from flows.outcomes import wrote_report
from tasks.report.provenance import write_run
from tests.flows.test_explain import RUN

FIRST, SECOND = UUID(int=1), UUID(int=2)


def test_a_report_is_of_the_run_whose_record_it_is(tmp_path):
    (tmp_path / "report.html").touch()
    write_run({**RUN, "flow_run": str(FIRST)}, [], [], tmp_path)
    assert wrote_report(Failed(state_details=StateDetails(flow_run_id=FIRST)), tmp_path)
    assert not wrote_report(Failed(state_details=StateDetails(flow_run_id=SECOND)), tmp_path)
    assert not wrote_report(Failed(state_details=StateDetails(flow_run_id=FIRST)), tmp_path / "gone")
