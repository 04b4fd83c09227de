"""The table of `segment-cohort ingest`: what a run would find in a cohort, case by case, and what it would leave."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from tasks.ingest import Intake
from tasks.report.tables import as_csv
from tasks.scan.errors import printable
from tasks.scan.files import write_whole
from tasks.scan.records import Case, Outcome

INTAKE_COLUMNS = (
    *("case", "status", "reason", "message", "remedy"),
    *("format", "channels", "files", "shape", "spacing_mm", "reference", "flags", "path"),
)


def intake_frame(intake: Intake) -> pd.DataFrame:
    """One row a case, sorted, then one for each file that is set aside; a manifest's further columns come last.

    `status` is `found`, `quarantined`, `failed` or `set_aside`; `docs/reasons.md` lists the reasons.
    """
    rows = [_case_row(outcome) for outcome in intake.cases]
    groups = sorted({name for outcome in intake.cases if outcome.case for name in outcome.case.groups})
    rows += [
        {"status": "set_aside", "reason": item.code, "message": item.reason, "path": str(item.path)}
        for item in intake.set_aside
    ]
    taken = set(INTAKE_COLUMNS)
    return pd.DataFrame(rows, columns=[*INTAKE_COLUMNS, *(name for name in groups if name not in taken)])


def write_intake(intake: Intake, path: Path) -> None:
    """Write the table to `path`, whole or not at all."""
    write_whole(path, as_csv(intake_frame(intake)))


def intake_lines(intake: Intake) -> Iterator[str]:
    """The table for people: a line a case with its geometry and warnings or its reason, what is set aside, the sums."""
    width = max((len(outcome.name) for outcome in intake.cases), default=4)
    yield f"{'case':<{width}}  {'format':<7}  {'shape':>13}  {'spacing mm':>17}  remarks"
    has_references = any(outcome.case and outcome.case.reference for outcome in intake.cases)
    for outcome in intake.cases:
        remarks = _remarks(outcome, "no reference" if has_references else "")
        yield printable(f"{outcome.name:<{width}}  {remarks}".rstrip())
    for item in intake.set_aside:
        yield printable(f"set aside: {item.path}: {item.reason}")
    refused = sum(1 for outcome in intake.cases if outcome.problem)
    yield f"{len(intake.cases)} cases, {refused} with a problem; {len(intake.set_aside)} files set aside"


def _case_row(outcome: Outcome[Case]) -> dict[str, Any]:
    row: dict[str, Any] = {"case": outcome.name, "status": "found"}
    if problem := outcome.problem:
        row |= {"status": problem.status, "reason": problem.reason}
        row |= {"message": problem.message, "remedy": problem.remedy}
    if case := outcome.case:
        row |= case.groups | row
        row |= {
            "format": case.image.channels[0].format,
            "channels": len(case.image.channels),
            "shape": "x".join(str(length) for length in case.geometry.shape),
            "spacing_mm": "x".join(f"{length:.6g}" for length in case.geometry.spacing_mm),
            "reference": str(case.reference.files[0]) if case.reference else "",
            "flags": "; ".join(case.warnings),
        }
    if located := outcome.case or outcome.found:
        row |= {"files": len(located.image.files), "path": str(located.image.files[0])}
    return row


def _remarks(outcome: Outcome[Case], without_reference: str) -> str:
    if problem := outcome.problem:
        message = problem.message.removeprefix(f"case '{outcome.name}': ")
        return f"{problem.reason}: {message}; {problem.remedy}"
    if not (case := outcome.case):
        return ""
    shape = "x".join(str(length) for length in case.geometry.shape)
    spacing = "x".join(f"{length:.4g}" for length in case.geometry.spacing_mm)
    remarks = "; ".join(case.warnings) or ("" if case.reference else without_reference)
    channels, form = len(case.image.channels), case.image.channels[0].format
    stored = form if channels == 1 else f"{channels}x{form}"
    return f"{stored:<7}  {shape:>13}  {spacing:>17}  {remarks}"
