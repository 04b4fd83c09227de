"""Report: the tables, the page, and the record of the run; written when all cases are known, run.json last."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
from prefect import get_run_logger, runtime, task
from prefect.cache_policies import NO_CACHE

from tasks.artifacts import summary_artifacts
from tasks.export import DICOM
from tasks.ingest import SetAside
from tasks.report.delta import DELTA, TRENDS, say_delta, write_delta
from tasks.report.groups import GROUPS, write_own_groups
from tasks.report.line import line_times
from tasks.report.page import Beside, write_page
from tasks.report.pictures import draw_pictures
from tasks.report.provenance import MASKS, RETIRED, RUN, describe_run, write_run
from tasks.report.summary import summary_frame
from tasks.report.tables import as_csv, case_problem, case_status, metrics_frame, write_tables
from tasks.report.trends import add_night, drifts
from tasks.scan.records import Outcome, Scores

FILES = ("metrics.csv", "summary.csv", "cases.csv", GROUPS, TRENDS, DELTA, "report.html", RUN)
FOLDERS = (MASKS, "pictures", DICOM)
"""What a run writes into its output folder, and what it writes files into there."""
BRIEF = (
    "name",
    "n_cases",
    "dice_n_valid",
    "dice_mean",
    "dice_ci95_low",
    "dice_ci95_high",
    "n_missed",
    "hd95_mm_median",
)
"""The columns of the summary that the run's page in Prefect shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """How many cases became what, and the names of those that were not segmented and scored as asked."""

    output: Path
    counts: dict[str, int]
    troubled: tuple[str, ...]


@task(name="report", cache_policy=NO_CACHE)
def report(
    outcomes: Sequence[Outcome[Scores]],
    set_aside: Sequence[SetAside],
    labels: Mapping[int, str],
    provenance: Mapping[str, Any],
    output: Path,
    pool: str,
) -> Report:
    """The report of a run, written to `output`; the pictures are drawn by the pool."""
    started = datetime.fromisoformat(provenance["started"]).timestamp()
    times = line_times(outcomes, started, provenance["clock_moved_seconds"] or 0)
    run = describe_run(provenance, runtime.flow_run.id) | {"files_set_aside": len(set_aside)} | times
    retire_old_masks(outcomes, output / MASKS)
    write_tables(outcomes, labels, output)
    groups = write_own_groups(outcomes, labels, output)
    pictures = draw_pictures(outcomes, output / "pictures", pool)
    nights = add_night(outcomes, labels, run, output)
    delta = write_delta(output, provenance["settings"]["worse_dice"])
    run |= {"since_last_night": say_delta(delta, names=True)}
    beside = Beside(set_aside=set_aside, pictures=pictures, nights=nights, groups=groups, delta=delta)
    write_page(outcomes, labels, run, output, beside)
    aside = [{"path": str(item.path), "reason": item.reason} for item in set_aside]
    write_run(run, outcomes, aside, output)
    counts = Counter(case_status(outcome) for outcome in outcomes)
    said = f"{say_counts(counts)}; {say_delta(delta, names=False)}"
    summary_artifacts(brief_summary(outcomes, labels), output / "report.html", said)
    for drift in drifts(nights):
        get_run_logger().warning("report: the scans differ from those of the nights before: %s", drift)
    get_run_logger().info("report: %s", run["since_last_night"])
    get_run_logger().info("report: %s, %s", output / "report.html", dict(counts))
    return Report(
        output=output,
        counts=dict(sorted(counts.items(), reverse=True)),
        troubled=tuple(sorted(outcome.name for outcome in outcomes if case_problem(outcome))),
    )


def say_counts(counts: Mapping[str, int]) -> str:
    """What became of the cases, in a line.

    >>> say_counts({"segmented": 3, "failed": 1})
    '4 cases: 3 segmented, 1 failed'
    """
    return f"{sum(counts.values())} cases: " + ", ".join(f"{count} {status}" for status, count in counts.items())


def brief_summary(outcomes: Sequence[Outcome[Scores]], labels: Mapping[int, str]) -> list[dict[str, str]]:
    """The middle columns of the summary, a row a label, as texts: what there is no number for is empty."""
    table = summary_frame(metrics_frame(outcomes, labels), labels)[list(BRIEF)]
    texts = pd.read_csv(BytesIO(as_csv(table)), dtype=str, keep_default_na=False)
    return [{str(name): str(cell) for name, cell in row.items()} for row in texts.to_dict("records")]


def retire_old_masks(outcomes: Sequence[Outcome[Scores]], masks: Path) -> None:
    """Rename to `CASE.nii.gz.old` every mask, and `CASE.dcm.old` every DICOM SEG, that this run did not write anew.

    Its case could not be segmented tonight, or has left the cohort. Nobody is to take last week's mask for tonight's.
    What a killed run left half written is removed, and what was put aside of a case that has a mask again.
    """
    exported = masks.with_name(DICOM)
    for half in [*masks.glob(".*.part"), *exported.glob(".*.part")]:
        half.unlink()
    found = [outcome.value.segmentation for outcome in outcomes if outcome.value]
    written = {path for one in found for path in (one.mask, one.dicom_seg)}
    for former in {*masks.glob("*.nii.gz"), *exported.glob("*.dcm")} - written:
        former.replace(former.with_name(f"{former.name}{RETIRED}"))
    for aside in [*masks.glob(f"*{RETIRED}"), *exported.glob(f"*{RETIRED}")]:
        if aside.with_suffix("") in written:
            aside.unlink()
