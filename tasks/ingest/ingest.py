"""The cases of a cohort, from their headers alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from prefect import get_run_logger, task

from tasks.ingest.discover import discover, ingest_case
from tasks.ingest.found import IngestConfig, SetAside
from tasks.ingest.series import shear_tilted
from tasks.pool import logged, map_cases
from tasks.scan.errors import EmptyCohort
from tasks.scan.records import Case, Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """What a cohort holds: an outcome for every case, and the files that are none."""

    cases: tuple[Outcome[Case], ...]
    set_aside: tuple[SetAside, ...]


def find_cases(cohort: Path, references: Path | None, output: Path | None, config: IngestConfig, pool: str) -> Intake:
    """Every case of `cohort`, its headers read in parallel. Raises EmptyCohort when there is none.

    `output`, where it lies inside of `cohort`, is not searched: last night's masks are not tonight's scans.
    """
    found, set_aside = discover(cohort, references, excluded=(output,) if output else ())
    if not found:
        raise EmptyCohort(f"'{cohort}' holds no scan ({len(set_aside)} other files); is the share mounted?")
    if config.tilt == "shear":
        found = [shear_tilted(one) for one in found]
    cases = map_cases(pool, "ingest", ingest_case, [Outcome(name=one.name, value=one) for one in found])
    return Intake(cases=tuple(cases), set_aside=tuple(set_aside))


@task(name="ingest")
def ingest(cohort: Path, references: Path | None, output: Path, config: IngestConfig, pool: str) -> Intake:
    """Every case of `cohort` outside of `output`, its headers read in parallel."""
    intake = find_cases(cohort, references, output, config, pool)
    logged("ingest", list(intake.cases))
    for reason, count in Counter(item.reason for item in intake.set_aside).items():
        get_run_logger().info("ingest: %d files set aside: %s", count, reason)
    return intake
