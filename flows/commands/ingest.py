"""`segment-cohort ingest`: what a run would find, from the headers alone."""

from __future__ import annotations

from argparse import Namespace

from flows.commands.arguments import pool_flags
from flows.night import check_cohort
from flows.settings import Settings, load_settings
from tasks.ingest import Intake, find_cases
from tasks.pool import open_pool


def execute(arguments: Namespace) -> int:
    """0 when every case could be ingested, else 1; one line a case, then what was set aside."""
    settings = load_settings(Settings, None, {"references": arguments.references, "pool": pool_flags(arguments)})
    check_cohort(arguments.cohort)
    with open_pool(settings.pool) as pool:
        intake = find_cases(arguments.cohort.resolve(), settings.references, None, settings.ingest, pool)
    _print(intake)
    return 1 if any(outcome.problem for outcome in intake.cases) else 0


def _print(intake: Intake) -> None:
    width = max((len(outcome.name) for outcome in intake.cases), default=4)
    print(f"{'case':<{width}}  {'format':<6}  {'shape':>13}  {'spacing mm':>17}  remarks")
    for outcome in intake.cases:
        if outcome.case is None:
            problem = outcome.problem
            print(f"{outcome.name:<{width}}  {problem and f'{problem.reason}: {problem.message}; {problem.remedy}'}")
            continue
        grid = outcome.case.geometry
        shape = "x".join(str(length) for length in grid.shape)
        spacing = "x".join(f"{length:.4g}" for length in grid.spacing_mm)
        remarks = "; ".join(outcome.case.warnings) or ("" if outcome.case.reference else "no reference")
        print(f"{outcome.name:<{width}}  {outcome.case.image.format:<6}  {shape:>13}  {spacing:>17}  {remarks}")
    for item in intake.set_aside:
        print(f"set aside: {item.path}: {item.reason}")
    print(f"{len(intake.cases)} cases, {sum(1 for outcome in intake.cases if outcome.problem)} with a problem")
