"""The paired differences of two `metrics.csv`, second minus first, by label. `docs/metrics.md` defines every column."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import wilcoxon

from tasks.report.summary import mean_interval, quantile
from tasks.scan.errors import UnreadableTable

HIGHER_IS_BETTER = {"dice": True, "jaccard": True, "nsd": True, "hd95_mm": False, "assd_mm": False}
CHANGES = ("better", "worse", "same", "new", "gone")
LABEL_COLUMNS = (
    *("label", "name", "metric", "n_pairs"),
    *(f"n_{change}" for change in CHANGES),
    *("first_mean", "second_mean", "difference_mean", "difference_median"),
    *("difference_ci95_low", "difference_ci95_high", "p_wilcoxon", "p_holm"),
)
CASE_COLUMNS = (
    *("case", "label", "name", "change"),
    *("dice_first", "dice_second", "difference", "status_first", "status_second"),
)
DIGITS = 9
"""Differences are rounded to this: the tables have six digits, and what is left beyond is the computer's arithmetic."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """`labels`: a row per label and metric. `cases`: a row per case and label whose Dice either run has."""

    labels: pd.DataFrame
    cases: pd.DataFrame


def compare_runs(first: Path, second: Path) -> Comparison:
    """The comparison of two output folders, or two tables of metrics. Raises UnreadableTable."""
    both = read_metrics(first).merge(
        read_metrics(second), how="outer", on=["case", "label"], suffixes=("_first", "_second")
    )
    both = both.set_index(["case", "label"]).sort_index()
    both["name"] = both["name_second"].fillna(both["name_first"])
    changes = {metric: find_changes(both, metric) for metric in HIGHER_IS_BETTER}
    rows = [
        {"label": label, "name": both["name"][rows.index].iloc[0], "metric": metric, **describe_change(rows)}
        for metric, change in changes.items()
        for label, rows in change.groupby(level="label")
    ]
    labels = pd.DataFrame(rows, columns=list(LABEL_COLUMNS))
    labels["p_holm"] = labels.groupby("metric")["p_wilcoxon"].transform(lambda p: holm(p.to_numpy()))
    cases = changes["dice"].rename(columns={"first": "dice_first", "second": "dice_second"})
    cases = cases.join(both[["name", "status_first", "status_second"]]).reset_index()
    return Comparison(labels=labels, cases=cases[list(CASE_COLUMNS)])


def read_metrics(path: Path) -> pd.DataFrame:
    """`metrics.csv` at `path`, or in the folder `path`. Raises UnreadableTable."""
    file = path / "metrics.csv" if path.is_dir() else path
    try:
        types = {"case": str, "name": str, "status": str}
        table = pd.read_csv(file, dtype=types, keep_default_na=False, na_values=[""])
    except (OSError, ValueError) as error:
        raise UnreadableTable(f"'{file}': {error}; needed: the metrics.csv of a run, or its folder") from error
    needed = ["case", "label", "name", "status", *HIGHER_IS_BETTER]
    missing = [column for column in needed if column not in table]
    if missing:
        raise UnreadableTable(f"'{file}' lacks the columns {', '.join(missing)}; needed: the metrics.csv of a run")
    twice = table[table.duplicated(["case", "label"])]
    if len(twice):
        raise UnreadableTable(f"'{file}' has case '{twice['case'].iloc[0]}' twice; needed: one row per case and label")
    return table[needed]


def find_changes(both: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Value in the first and the second run, difference and change of every case and label where either has a value.

    A structure that is rightly absent in one run has no Dice. Where the other run has one (it found what is not there),
    the absent one counts as perfect, so that a false alarm is a loss.
    """
    perfect = 1.0 if HIGHER_IS_BETTER[metric] else 0.0
    first, second = both[f"{metric}_first"].astype(float), both[f"{metric}_second"].astype(float)
    values = pd.DataFrame(
        {
            "first": first.mask((both["status_first"] == "both_empty") & second.notna(), perfect),
            "second": second.mask((both["status_second"] == "both_empty") & first.notna(), perfect),
        }
    ).dropna(how="all")
    equal = values["first"] == values["second"]  # two infinite distances too
    with np.errstate(invalid="ignore"):
        difference = (values["second"] - values["first"]).mask(equal, 0.0).round(DIGITS)
    gain = difference if HIGHER_IS_BETTER[metric] else -difference
    cases = [values["first"].isna(), values["second"].isna(), gain > 0, gain < 0]
    change = np.select(cases, ["new", "gone", "better", "worse"], "same")
    return values.assign(difference=difference, change=change)


def describe_change(changes: pd.DataFrame) -> dict[str, Any]:
    """The columns of one label and metric, from `n_pairs` to `p_wilcoxon`; means and differences are about the pairs.

    An infinite difference (a structure that only one of the runs missed) leaves the interval of the mean undefined.
    """
    pairs = changes.dropna(subset=["first", "second"])
    differences = pairs["difference"].to_numpy(dtype=np.float64)
    low, high = mean_interval(differences) if np.isfinite(differences).all() else (np.nan, np.nan)
    return {
        "n_pairs": len(pairs),
        **{f"n_{change}": int((changes["change"] == change).sum()) for change in CHANGES},
        "first_mean": pairs["first"].mean(),
        "second_mean": pairs["second"].mean(),
        "difference_mean": pairs["difference"].mean(),
        "difference_median": quantile(differences, 0.5),
        "difference_ci95_low": low,
        "difference_ci95_high": high,
        "p_wilcoxon": wilcoxon_p(differences),
    }


def wilcoxon_p(differences: NDArray[np.float64]) -> float:
    """The two-sided p of the signed-rank test; 1 where nothing differs, NaN without any difference to look at.

    Zeros are left out, infinite differences have the highest ranks. Source: Wilcoxon, Biometrics Bulletin 1 (1945).
    """
    if not differences.any():
        return 1.0 if len(differences) else np.nan
    return float(wilcoxon(np.nan_to_num(differences, posinf=1e300, neginf=-1e300)).pvalue)


def holm(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Holm's correction of `p` (N,) for having tested N labels; NaN is no test, and stays.

    Source: Holm, Scandinavian Journal of Statistics 6 (1979).

    >>> holm(np.array([0.01, 0.04, 0.03])).tolist()
    [0.03, 0.06, 0.06]
    """
    corrected = p.copy()
    order = np.argsort(p)[: np.count_nonzero(~np.isnan(p))]
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)))
    return corrected


def losses(comparison: Comparison) -> dict[str, float]:
    """By how much the mean Dice of each label fell, over the cases that the first run scored; below 0 where it rose.

    A case that is gone counts as 0: a fixed cohort loses no case. Raises UnreadableTable when none was scored.
    """
    scored = comparison.cases.dropna(subset="dice_first")
    if scored.empty:
        raise UnreadableTable("the first run has no Dice at all; a gate needs a run whose cases have references")
    fallen = scored["dice_first"] - scored["dice_second"].fillna(0.0)
    titles = scored["name"] + " (" + scored["label"].astype(str) + ")"  # two labels may have one name
    return {str(title): round(float(rows.mean()), DIGITS) for title, rows in fallen.groupby(titles)}
