"""Since last night: what is new, changed, worse, fixed or failed, beside what the run before left in its tables.

The run before is the last one that wrote its report. When the next one begins, its record and tables are put aside
under the names of `previous_name`: so a run that is killed, even while it writes, costs no comparison, and is no night
in the trends.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tasks.report.provenance import RUN, check_record
from tasks.report.tables import CASES_COLUMNS, METRICS_COLUMNS, as_csv
from tasks.scan.files import temporary_name, write_whole

DELTA, CASES, METRICS, TRENDS = "delta.csv", "cases.csv", "metrics.csv", "trends.csv"
CHANGES = ("failed", "worse", "fixed", "new", "changed", "failed_again", "carried_over", "gone", "unchanged")
"""What a case can be beside the night before, in the order in which somebody should look at it."""
DELTA_COLUMNS = (
    *("case", "change", "status_before", "status", "reason"),
    *("label", "name", "dice_before", "dice", "difference", "volume_before_ml", "volume_ml"),
)
GOOD, TROUBLED = ("segmented", "unchanged"), ("quarantined", "failed")
NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """`table` has a row a case, those to look at first on top. `since`: when the run before ended; empty: none did."""

    since: str
    table: pd.DataFrame

    @property
    def counts(self) -> dict[str, int]:
        """How many cases each of `CHANGES` has."""
        return {change: int((self.table["change"] == change).sum()) for change in CHANGES}


def previous_name(name: str) -> str:
    """What a file of the run before is called.

    >>> previous_name("run.json")
    'run.previous.json'
    """
    stem, dot, kind = name.rpartition(".")
    return f"{stem}.previous{dot}{kind}"


def check_runs_before(output: Path) -> None:
    """Raises UnreadableRun when a newer version of this program wrote to `output`."""
    for name in (RUN, previous_name(RUN)):
        check_record(output / name)


def put_aside(output: Path) -> None:
    """The record of the run before, and its tables, under their previous names; the record last, for it is the sign.

    Nothing where the run before left no record: it was killed, and what was put aside is of the one before it.
    """
    if not (output / RUN).exists():
        return
    for name in (CASES, METRICS, TRENDS):
        aside = output / previous_name(name)
        aside.unlink(missing_ok=True)
        if (output / name).exists():
            temporary = temporary_name(aside)
            temporary.unlink(missing_ok=True)
            shutil.copyfile(output / name, temporary)
            temporary.replace(aside)
    (output / RUN).replace(output / previous_name(RUN))


def write_delta(output: Path, worse_dice: float) -> Delta:
    """What became of each case since the run before, by the tables in `output`; written there as `delta.csv`.

    A case is worse when the Dice of one of its labels fell by more than `worse_dice`.
    """
    before = _read(output / previous_name(CASES), CASES_COLUMNS)
    tonight = _read(output / CASES, CASES_COLUMNS)
    scores = _changed_most(
        _read(output / previous_name(METRICS), METRICS_COLUMNS), _read(output / METRICS, METRICS_COLUMNS)
    )
    both = before.merge(tonight, how="outer", on="case", suffixes=("_before", "")).merge(scores, how="left", on="case")
    both["change"] = _changes(both, worse_dice)
    place = both["change"].map({change: number for number, change in enumerate(CHANGES)})
    ordered = both.assign(place=place).sort_values(["place", "case"], ignore_index=True)
    delta = Delta(since=_finished(output / previous_name(RUN)), table=ordered[list(DELTA_COLUMNS)])
    write_whole(output / DELTA, as_csv(delta.table))
    return delta


def say_delta(delta: Delta, *, names: bool) -> str:
    """`delta` in one line; with `names`, those of the first cases that failed or are worse."""
    counts, parts = delta.counts, []
    for change in CHANGES:
        if not counts[change] and change not in ("new", "changed", "worse", "fixed", "failed", "unchanged"):
            continue
        first = delta.table[delta.table["change"] == change].head(NAMED).to_dict("records")
        told = [*map(_told, first)] if names and change in ("failed", "worse") else []
        told += [f"{counts[change] - NAMED} more"] if told and counts[change] > NAMED else []
        which = f" ({', '.join(told)})" if told else ""
        parts.append(f"{counts[change]} {change.replace('_', ' ')}{which}")
    return f"{f'since {delta.since}' if delta.since else 'the first night'}: {', '.join(parts)}"


def _told(row: Mapping[Any, Any]) -> str:
    if row["change"] == "failed":
        return f"{row['case']}: {row['reason']}"
    return f"{row['case']}: {row['name']} {row['dice_before']:.3f} → {row['dice']:.3f}"


def _changes(both: pd.DataFrame, worse_dice: float) -> np.ndarray:
    """One of `CHANGES` for each row of `both`, which has the two statuses, NaN where a night has no such case."""
    is_new, good = both["status_before"].isna(), both["status"].isin(GOOD)
    was_good, was_troubled = both["status_before"].isin(GOOD), both["status_before"].isin(TROUBLED)
    same_scan = (both["status"] == "unchanged") | (both["input_sha256"] == both["input_sha256_before"])
    same = same_scan & (both["output_sha256"] == both["output_sha256_before"]) & (both["differs"] != True)  # noqa: E712 - of a case without scores, it is NaN
    rules: dict[str, pd.Series[bool]] = {
        "gone": both["status"].isna(),
        "carried_over": both["status"] == "carried_over",
        "failed_again": ~good & was_troubled,
        "failed": ~good,
        "new": is_new,
        "fixed": ~was_good,
        "worse": both["difference"] < -worse_dice,
        "unchanged": same,
    }
    return np.select(list(rules.values()), list(rules), "changed")


def _changed_most(before: pd.DataFrame, tonight: pd.DataFrame) -> pd.DataFrame:
    """By case: whether any cell of its scores `differs`, and the label that lost most, else changed most.

    No label is named of a case that has neither scores nor volumes in one of the nights. A structure that both lack has
    no Dice; where one of the nights found what is not there, the other counts as 1.
    """
    keys = ["case", "label"]
    both = before.merge(tonight, on=keys, suffixes=("_before", "")).set_index(keys)
    cells = [column for column in METRICS_COLUMNS if column not in keys]
    former = both[[f"{column}_before" for column in cells]].set_axis(cells, axis=1)
    differs = former.ne(both[cells]) & former.notna()  # what an older version did not write is no change
    scored = pd.DataFrame({"differs": differs.any(axis=1), "name": both["name"]})
    for when in ("_before", ""):
        dice = pd.to_numeric(both[f"dice{when}"], errors="coerce")
        other = both["dice" if when else "dice_before"]
        scored[f"dice{when}"] = dice.mask((both[f"status{when}"] == "both_empty") & (other != ""), 1.0)
        scored[f"volume{when}_ml"] = pd.to_numeric(both[f"volume_prediction_ml{when}"], errors="coerce")
    scored["difference"] = (scored["dice"] - scored["dice_before"]).round(9)
    moved = (scored["volume_ml"] - scored["volume_before_ml"]).abs()
    comparable = scored["difference"].notna() | moved.notna()
    order = scored.assign(
        fallen=scored["difference"].clip(upper=0), change=scored["difference"].abs().fillna(0), moved=moved.fillna(0)
    )[comparable].sort_values(["fallen", "change", "moved"], ascending=[True, False, False], kind="stable")
    most = order.reset_index("label").groupby(level="case").head(1).drop(columns=["fallen", "change", "moved"])
    return most.assign(differs=scored.groupby(level="case")["differs"].any())


def _read(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    """The table at `path` as texts, columns that an older version did not have NaN.

    Without rows where there is no table, or none that can be read: it is a memory.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        table = table.drop_duplicates(["case", *({"label"} & set(columns))])
        return table.reindex(columns=list(columns))
    except (OSError, ValueError, KeyError):
        return pd.DataFrame(columns=list(columns), dtype=str)


def _finished(record: Path) -> str:
    try:
        finished = datetime.fromisoformat(json.loads(record.read_text(encoding="utf-8"))["finished"])
        return finished.isoformat(timespec="seconds")
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""


def worth_a_look(delta: Delta, most: int) -> Iterator[dict[str, Any]]:
    """The first `most` rows that are not `unchanged`, as the page shows them."""
    changed = delta.table[delta.table["change"] != "unchanged"].head(most)
    yield from ({str(key): cell for key, cell in row.items()} for row in changed.to_dict("records"))
