"""`segment-cohort run`: the nightly flow, in this process, recorded by the Prefect server."""

from __future__ import annotations

from argparse import Namespace

from flows.commands.arguments import pool_flags
from flows.outcomes import exit_code, say_state, wrote_report
from flows.segment_cohort import segment_cohort
from flows.services import recorded_by_server
from flows.settings import Settings, load_settings
from tasks.report import read_run


def execute(arguments: Namespace) -> int:
    """The exit code of the run."""
    flags = {
        "references": arguments.references,
        "until": arguments.until,
        "retry": arguments.retry,
        "inference": {
            "device": arguments.device,
            "precision": arguments.precision,
            "backend": arguments.backend,
            "mirror": arguments.mirror,
        },
        "pool": pool_flags(arguments),
    }
    settings = load_settings(Settings, arguments.settings, flags)
    with recorded_by_server():
        state = segment_cohort(arguments.cohort, arguments.model, arguments.output, settings, return_state=True)
    code = exit_code(state)
    print(say_state(state))
    if wrote_report(state, arguments.output):
        print(read_run(arguments.output).since_last_night)
        print(f"table:  {arguments.output / 'metrics.csv'}\npage:   {arguments.output / 'report.html'}")
    return code
