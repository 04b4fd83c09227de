"""Report: the tables, the page, and the record of the run; written when all cases are known, run.json last."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from prefect import get_run_logger, runtime, task

from tasks.ingest import SetAside
from tasks.report.groups import GROUPS, write_own_groups
from tasks.report.line import line_times
from tasks.report.page import Beside, write_page
from tasks.report.pictures import draw_pictures
from tasks.report.provenance import MASKS, RETIRED, RUN, describe_run, write_run
from tasks.report.tables import case_problem, case_status, write_tables
from tasks.report.trends import TRENDS, add_night, drifts
from tasks.scan.records import Outcome, Scores

FILES = ("metrics.csv", "summary.csv", "cases.csv", GROUPS, TRENDS, "report.html", RUN)
FOLDERS = (MASKS, "pictures")
"""What a run writes into its output folder, and what it writes files into there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """How many cases became what, and the names of those that were not segmented and scored as asked."""

    output: Path
    counts: dict[str, int]
    troubled: tuple[str, ...]


@task(name="report")
def report(
    outcomes: Sequence[Outcome[Scores]],
    set_aside: Sequence[SetAside],
    labels: Mapping[int, str],
    provenance: Mapping[str, Any],
    output: Path,
    pool: str,
) -> Report:
    """The report of a run, written to `output`; the pictures are drawn by the pool."""
    times = line_times(outcomes, datetime.fromisoformat(provenance["started"]).timestamp())
    run = describe_run(provenance, runtime.flow_run.id) | {"files_set_aside": len(set_aside)} | times
    retire_old_masks(outcomes, output / MASKS)
    write_tables(outcomes, labels, output)
    groups = write_own_groups(outcomes, labels, output)
    pictures = draw_pictures(outcomes, output / "pictures", pool)
    nights = add_night(outcomes, labels, run, output)
    beside = Beside(set_aside=set_aside, pictures=pictures, nights=nights, groups=groups)
    write_page(outcomes, labels, run, output, beside)
    aside = [{"path": str(item.path), "reason": item.reason} for item in set_aside]
    write_run(run, outcomes, aside, output)
    counts = Counter(case_status(outcome) for outcome in outcomes)
    for drift in drifts(nights):
        get_run_logger().warning("report: the scans differ from those of the nights before: %s", drift)
    get_run_logger().info("report: %s, %s", output / "report.html", dict(counts))
    return Report(
        output=output,
        counts=dict(sorted(counts.items(), reverse=True)),
        troubled=tuple(sorted(outcome.name for outcome in outcomes if case_problem(outcome))),
    )


def retire_old_masks(outcomes: Sequence[Outcome[Scores]], masks: Path) -> None:
    """Rename to `CASE.nii.gz.old` every mask that an earlier run left and this one did not write anew.

    Its case could not be segmented tonight, or has left the cohort. Nobody is to take last week's mask for tonight's.
    What a killed run left half written is removed.
    """
    for half in masks.glob(".*.part"):
        half.unlink()
    written = {outcome.value.segmentation.mask for outcome in outcomes if outcome.value}
    for mask in set(masks.glob("*.nii.gz")) - written:
        mask.replace(mask.with_name(f"{mask.name}{RETIRED}"))
