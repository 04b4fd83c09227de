"""What the nights before were like: a small table that each report adds its rows to, and the lines drawn from it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tasks.report.charts import Plane, Point, Tick, at, placed_up, round_ticks
from tasks.report.delta import TRENDS, previous_name
from tasks.report.tables import as_csv, case_status, metrics_frame
from tasks.scan.files import write_whole
from tasks.scan.records import Outcome, Scores

UNREAD = f"{TRENDS}.old"
KEPT, SHOWN = 400, 30
"""Nights that the table holds, and that the page shows."""
STATUSES = ("segmented", "unchanged", "quarantined", "failed", "carried_over")
TRENDS_COLUMNS = (
    *("finished", "model_sha256", "n_cases"),
    *(f"n_{status}" for status in STATUSES),
    *("spacing_x_mm", "spacing_y_mm", "spacing_z_mm", "intensity_median"),
    *("label", "name", "dice_n_valid", "dice_mean", "volume_median_ml"),
)
ACQUISITION = {
    "spacing_x_mm": "spacing along the first axis in mm",
    "spacing_y_mm": "spacing along the second axis in mm",
    "spacing_z_mm": "spacing along the third axis in mm",
    "intensity_median": "intensity",
}
FEWEST_NIGHTS, FEWEST_CASES = 5, 3
"""Earlier nights, and cases tonight, below which nobody can say that the acquisition drifts."""
DRIFT_SPREADS, DRIFT_SHARE = 5.0, 0.1
"""A night drifts when its median differs by more than so many robust deviations of earlier nights, and this share."""


def add_night(
    outcomes: Sequence[Outcome[Scores]], labels: Mapping[int, str], run: Mapping[str, Any], output: Path
) -> pd.DataFrame:
    """`trends.csv` in `output` with the rows of this run, one a label, after those of the nights before; written.

    These are what `put_aside` left: rows of a run that was killed before its record was written are not among them.
    The oldest of more than `KEPT` nights go. A table that cannot be read, or has columns that this version does not
    know, is kept as `trends.csv.old`, and begun anew.
    """
    former = read_nights(output)
    if former.empty and (output / previous_name(TRENDS)).exists():
        (output / previous_name(TRENDS)).replace(output / UNREAD)
    nights = pd.concat([former, night_frame(outcomes, labels, run)], ignore_index=True)
    recent = nights["finished"].drop_duplicates(keep="last").tail(KEPT)
    nights = nights[nights["finished"].isin(recent)].reset_index(drop=True)
    write_whole(output / TRENDS, as_csv(nights))
    return nights


def read_nights(output: Path) -> pd.DataFrame:
    """The table that was put aside in `output`, first night first; no rows where there is none that can be read.

    Columns that an older version did not have are empty.
    """
    empty = pd.DataFrame(columns=list(TRENDS_COLUMNS)).astype({"finished": str, "label": "int64"})
    try:
        types = {"finished": str, "model_sha256": str, "name": str}
        table = pd.read_csv(output / previous_name(TRENDS), dtype=types, keep_default_na=False, na_values=[""])
        if set(table.columns) - set(TRENDS_COLUMNS) or not {"finished", "label"} <= set(table.columns):
            return empty
        return table.astype({"label": "int64"}).reindex(columns=list(TRENDS_COLUMNS))
    except (OSError, ValueError, KeyError):
        return empty


def night_frame(outcomes: Sequence[Outcome[Scores]], labels: Mapping[int, str], run: Mapping[str, Any]) -> pd.DataFrame:
    """One row a label: when, with which model, what became of the cases, and the middle of Dice and volume."""
    metrics = metrics_frame(outcomes, labels)
    counts = Counter(case_status(outcome) for outcome in outcomes)
    night = {"finished": run.get("finished", ""), "model_sha256": run.get("model_sha256", "")}
    night |= {"n_cases": len(outcomes)} | {f"n_{status}": counts[status] for status in STATUSES}
    night |= _acquisition(outcomes)
    rows = []
    for label, name in sorted(labels.items()):
        own = metrics[metrics["label"] == label]
        dice = own["dice"].dropna()
        rows.append(
            night
            | {"label": label, "name": name, "dice_n_valid": len(dice)}
            | {"dice_mean": dice.mean(), "volume_median_ml": own["volume_prediction_ml"].median()}
        )
    return pd.DataFrame(rows, columns=list(TRENDS_COLUMNS))


def _acquisition(outcomes: Sequence[Outcome[Scores]]) -> dict[str, float]:
    """The medians over the segmented cases of spacing and of the scan's own median intensity; NaN without any."""
    found = [outcome.value.segmentation for outcome in outcomes if outcome.value]
    spacings = np.array([segmentation.case.geometry.spacing_mm for segmentation in found]).reshape(-1, 3)
    intensities = np.array([one.intensity[1] for one in found if one.intensity])
    medians = [float(np.median(column)) if len(column) else math.nan for column in (*spacings.T, intensities)]
    return dict(zip(ACQUISITION, medians, strict=True))


def drifts(nights: pd.DataFrame) -> list[str]:
    """How the last night's scans are unlike those of the nights before, in words; nothing while nights are few."""
    each = nights.drop_duplicates("finished", keep="last").tail(SHOWN)
    if len(each) <= FEWEST_NIGHTS or each["n_cases"].iloc[-1] < FEWEST_CASES:
        return []
    found = []
    for column, what in ACQUISITION.items():
        *before, tonight = each[column].to_numpy(float)
        known = np.array([value for value in before if not math.isnan(value)])
        if len(known) < FEWEST_NIGHTS or math.isnan(tonight):
            continue
        middle = float(np.median(known))
        spread = 1.4826 * float(np.median(np.abs(known - middle)))
        if abs(tonight - middle) > max(DRIFT_SPREADS * spread, DRIFT_SHARE * abs(middle)):
            range_ = " to ".join(dict.fromkeys(f"{end:.4g}" for end in (known.min(), known.max())))
            found.append(f"{what}: {tonight:.4g} tonight, {range_} in the {len(known)} nights before")
    return found


def trend_lines(nights: pd.DataFrame, labels: Mapping[int, str]) -> list[Plane]:
    """For each of `labels` the mean Dice of the last nights, or the median volume where there is no Dice.

    A point is a night, the newest at the right. None until there are two nights.
    """
    recent = nights["finished"].drop_duplicates(keep="last").tail(SHOWN).tolist()
    if len(recent) < 2:
        return []
    planes = []
    for label, name in sorted(labels.items()):
        own = nights[(nights["label"] == label) & nights["finished"].isin(recent)]
        column = "dice_mean" if own["dice_mean"].notna().any() else "volume_median_ml"
        own = own.dropna(subset=column).drop_duplicates("finished", keep="last")
        if len(own) > 1:
            planes.append(_trend((label, name), own, column, recent))
    return planes


def _trend(label: tuple[int, str], rows: pd.DataFrame, column: str, recent: Sequence[str]) -> Plane:
    values = rows[column].to_numpy(float)
    ticks = round_ticks(float(values.min()), float(values.max()))
    x = np.array([recent.index(finished) for finished in rows["finished"]]) / (len(recent) - 1) * 100
    y = 100 - at(values, ticks)
    points = tuple(
        Point(case=finished, x=float(x_), y=float(y_), text=f"{value:.4g}")
        for finished, x_, y_, value in zip(rows["finished"], x, y, values, strict=True)
    )
    days = [finished[5:10] for finished in recent]
    return Plane(
        label=label[0],
        name=label[1],
        note="mean Dice" if column == "dice_mean" else "median volume in mL",
        points=points,
        across=(Tick(at=0, text=days[0]), Tick(at=100, text=days[-1])),
        up=placed_up(ticks),
    )


def night_counts(nights: pd.DataFrame) -> list[dict[str, Any]]:
    """What became of the cases in each of the last nights, newest first."""
    columns = ["finished", "n_cases", *(f"n_{status}" for status in STATUSES)]
    each = nights.drop_duplicates("finished", keep="last").tail(SHOWN)[columns]
    return [{str(key): value for key, value in row.items()} for row in each[::-1].to_dict("records")]
