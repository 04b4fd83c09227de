"""The three tables of a night, `metrics.csv`, `summary.csv` and `cases.csv`, as `docs/metrics.md` describes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tasks.report.summary import summary_frame
from tasks.scan.errors import printable
from tasks.scan.files import write_whole
from tasks.scan.records import Case, Outcome, Problem, Score, Scores

pd.set_option("mode.string_storage", "python")  # where pyarrow is installed, it cannot hold a name that is not UTF-8
STAGES = ("ingest", "preprocess", "infer", "postprocess", "evaluate")
METRICS_COLUMNS = ("case", *(field.name for field in fields(Score)))
FORMULA_STARTS = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
CASES_COLUMNS = (
    "case",
    "status",
    *("stage", "reason", "message", "remedy"),
    *(f"{stage}_seconds" for stage in STAGES),
    "peak_memory_mb",
    "spacing_mm",
    "shape",
    "volumes_ml",
    "flags",
    "input_sha256",
    "output_sha256",
)


def write_tables(outcomes: Sequence[Outcome[Scores]], labels: Mapping[int, str], output: Path) -> None:
    """Write `metrics.csv`, `summary.csv` and `cases.csv` into `output`, each whole or not at all.

    `labels` names the foreground labels by value: a case without scores has one row `not_segmented` for each.
    """
    output.mkdir(parents=True, exist_ok=True)
    write_metrics(outcomes, labels, output / "metrics.csv")
    write_whole(output / "summary.csv", as_csv(summary_frame(metrics_frame(outcomes, labels), labels)))
    write_whole(output / "cases.csv", as_csv(cases_frame(outcomes)))


def write_metrics(outcomes: Sequence[Outcome[Scores]], labels: Mapping[int, str], path: Path) -> None:
    """Write the table of metrics alone to `path`, and beside it as Parquet where pyarrow is installed."""
    metrics = metrics_frame(outcomes, labels)
    write_whole(path, as_csv(metrics))
    parquet = path.with_suffix(".parquet")
    if find_spec("pyarrow"):
        write_whole(parquet, metrics.to_parquet(index=False))
    else:
        parquet.unlink(missing_ok=True)  # one that an earlier run left would not belong to this table


def metrics_frame(outcomes: Sequence[Outcome[Scores]], labels: Mapping[int, str]) -> pd.DataFrame:
    """One row per case and label, for every case there is, sorted by case and label."""
    rows = [{"case": outcome.name, **asdict(score)} for outcome in outcomes for score in scores_of(outcome, labels)]
    return _frame(rows, METRICS_COLUMNS).sort_values(["case", "label"], ignore_index=True)


def scores_of(outcome: Outcome[Scores], labels: Mapping[int, str]) -> list[Score]:
    """Exactly one score per label, sorted: the case's own, or one `not_segmented` without numbers."""
    numbers: dict[str, Any] = {field.name: np.nan for field in fields(Score)}
    own = {score.label: score for score in outcome.value.scores} if outcome.value else {}
    return [
        own.get(label) or Score(**{**numbers, "label": label, "name": labels[label], "status": "not_segmented"})
        for label in sorted(labels)
    ]


def cases_frame(outcomes: Sequence[Outcome[Scores]]) -> pd.DataFrame:
    """One row per case, sorted by case: what became of it, why, what it cost, and what went in and came out."""
    rows = [_case_row(outcome) for outcome in outcomes]
    return _frame(rows, CASES_COLUMNS).sort_values("case", ignore_index=True)


def _frame(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    # A file name that is not UTF-8 reaches a message as lone surrogates, which neither UTF-8 nor Arrow can hold; they
    # are written as `\udcff`, because a strange name must not cost a night its tables.
    clean = [{key: _in_utf8(cell) if isinstance(cell, str) else cell for key, cell in row.items()} for row in rows]
    return pd.DataFrame(clean, columns=list(columns))


def _in_utf8(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def case_status(outcome: Outcome[Scores]) -> str:
    """The status of the problem; without one, `segmented`, or `unchanged` where that was done on an earlier night."""
    problem = case_problem(outcome)
    done = "unchanged" if outcome.unchanged else "segmented"
    return problem.status if problem else done


def case_problem(outcome: Outcome[Scores]) -> Problem | None:
    """Why a case is not `segmented`; a case that nobody accounted for gets a problem that says so."""
    if outcome.problem or outcome.value:
        return outcome.problem
    return Problem(
        stage=outcome.costs[-1].stage if outcome.costs else "ingest",
        status="failed",
        reason="unaccounted",
        message=f"case '{outcome.name}': it has neither scores nor a problem; needed: one of them",
        remedy="report this as a defect of the program and run the case again",
    )


def _case_row(outcome: Outcome[Scores]) -> dict[str, Any]:
    row: dict[str, Any] = {"case": outcome.name}
    if problem := case_problem(outcome):
        row |= asdict(problem)
    row["status"] = case_status(outcome)
    for cost in outcome.costs:  # a stage that was tried again counts every try
        column = f"{cost.stage}_seconds"
        row[column] = row.get(column, 0.0) + cost.seconds
    row["peak_memory_mb"] = max((cost.peak_memory_mb for cost in outcome.costs), default=np.nan)
    if case := case_of(outcome):
        row |= {
            "spacing_mm": "x".join(f"{length:.6g}" for length in case.geometry.spacing_mm),
            "shape": "x".join(str(length) for length in case.geometry.shape),
            "flags": "; ".join(case.warnings),
        }
    if outcome.value:
        segmentation = outcome.value.segmentation
        row |= {
            "volumes_ml": ";".join(f"{label}={ml:.6g}" for label, ml in sorted(segmentation.volumes_ml.items())),
            "input_sha256": segmentation.input_sha256,
            "output_sha256": segmentation.mask_sha256,
        }
    return row


def case_of(outcome: Outcome[Scores]) -> Case | None:
    """The case behind an outcome, None where not even its headers could be read."""
    return outcome.value.segmentation.case if outcome.value else outcome.case


def as_csv(frame: pd.DataFrame) -> bytes:
    """`frame` in UTF-8: a header, `.` decimals, six significant digits, `inf`, nothing where undefined, and `\\n`."""
    safe = frame.apply(lambda column: column if column.dtype.kind in "if" else column.map(_safe_cell))
    text: str = safe.to_csv(index=False, float_format="%.6g", na_rep="", lineterminator="\n")
    return text.encode("utf-8", "backslashreplace")  # of a file name that is not UTF-8, escapes


def _safe_cell(cell: object) -> object:
    # A spreadsheet runs a text that begins like a formula, unless an apostrophe stands before it. White space is
    # folded, so that a row is a line and no leading tab hides such a beginning; what does not print is escaped.
    if not isinstance(cell, str):
        return cell
    text = printable(" ".join(cell.split()))
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text
