"""`segment-cohort ingest`: what a run would find, from the headers alone."""

from __future__ import annotations

from argparse import Namespace

from flows.commands.arguments import pool_flags
from flows.night import check_cohort
from flows.server import state_folder
from flows.settings import Settings, load_settings
from tasks.ingest.ingest import find_cases
from tasks.pool import open_pool
from tasks.report.intake import intake_lines, write_intake
from tasks.scan.errors import UnwritableOutput


def execute(arguments: Namespace) -> int:
    """0 when every case could be ingested, else 1; one line a case, then what was set aside; `--output` as CSV too."""
    flags = {"references": arguments.references, "pool": pool_flags(arguments)}
    settings = load_settings(Settings, arguments.settings, flags)
    check_cohort(arguments.cohort)
    cohort = arguments.cohort.resolve()
    with open_pool(settings.pool) as pool:
        intake = find_cases(cohort, settings.references, None, settings.ingest, pool, state_folder())
    for line in intake_lines(intake):
        print(line)
    if arguments.output:
        try:
            write_intake(intake, arguments.output)
        except OSError as error:
            raise UnwritableOutput(f"'{arguments.output}': {error.strerror}; choose another --output") from error
    return 1 if any(outcome.problem for outcome in intake.cases) else 0
