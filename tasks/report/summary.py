"""One row per label: what became of the cases, and the distribution of each metric over those where it is defined."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

SCORE_STATUSES = (
    "scored",
    "both_empty",
    "false_positive",
    "missed",
    "no_reference",
    "reference_refused",
    "not_segmented",
)
METRICS = ("dice", "jaccard", "hd95_mm", "assd_mm", "nsd", "volume_error")
STATISTICS = ("n_valid", "mean", "sd", "median", "q25", "q75", "ci95_low", "ci95_high")
SUMMARY_COLUMNS = (
    "label",
    "name",
    "n_cases",
    *(f"n_{status}" for status in SCORE_STATUSES),
    *(f"{metric}_{statistic}" for metric in METRICS for statistic in STATISTICS),
)
RESAMPLES = 2000
SEED = 0


def summary_frame(metrics: pd.DataFrame, labels: Mapping[int, str]) -> pd.DataFrame:
    """One row per label of `labels`, in the columns of `summary.csv`, from the rows of `metrics.csv`."""
    rows = [_summary_row(metrics[metrics["label"] == label], label, labels[label]) for label in sorted(labels)]
    return pd.DataFrame(rows, columns=list(SUMMARY_COLUMNS))


def _summary_row(metrics: pd.DataFrame, label: int, name: str) -> dict[str, Any]:
    row: dict[str, Any] = {"label": label, "name": name, "n_cases": len(metrics)}
    row |= {f"n_{status}": int((metrics["status"] == status).sum()) for status in SCORE_STATUSES}
    for metric in METRICS:
        values = metrics[metric].to_numpy(dtype=np.float64)
        row |= {f"{metric}_{name}": value for name, value in describe(values[~np.isnan(values)]).items()}
    return row


def describe(values: NDArray[np.float64]) -> dict[str, float]:
    """The `STATISTICS` of defined values, infinite ones included; NaN where too few values define one.

    One infinite distance (a missed structure) makes the mean infinite, as it should, and leaves the spread undefined;
    the quartiles go on describing the rest.
    """
    n = len(values)
    mean = values.mean() if n else np.nan
    spread = values.std(ddof=1) if n > 1 and np.isfinite(mean) else np.nan
    low, high = mean_interval(values)
    quartiles = {name: quantile(values, share) for name, share in {"median": 0.5, "q25": 0.25, "q75": 0.75}.items()}
    return {"n_valid": n, "mean": mean, "sd": spread, **quartiles, "ci95_low": low, "ci95_high": high}


def mean_interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """The 95 % bootstrap percentile interval of the mean; (NaN, NaN) for fewer than two values.

    The seed is fixed and the order of the cases is too, so the same results give the same interval.
    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.
    """
    if len(values) < 2:
        return np.nan, np.nan
    shares, infinite = _resamples(len(values)), np.isinf(values)
    means = shares @ np.where(infinite, 0.0, values)
    means[shares[:, infinite].any(axis=1)] = np.inf
    return quantile(means, 0.025), quantile(means, 0.975)


@lru_cache(maxsize=1)
def _resamples(count: int) -> NDArray[np.float64]:
    """The weight of each of `count` values in each resample (RESAMPLES, count): drawn once, for all metrics."""
    times_drawn = np.random.default_rng(SEED).multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    return times_drawn / count


def quantile(values: NDArray[np.float64], share: float) -> float:
    """The linearly interpolated quantile (Hyndman and Fan, type 7); NaN for no values.

    `numpy.quantile` computes ∞ − ∞ = NaN as soon as a neighbour is infinite. Here [1, 2, ∞] has median 2.
    """
    if not len(values):
        return np.nan
    ordered, position = np.sort(values), share * (len(values) - 1)
    below, above = float(ordered[int(np.floor(position))]), float(ordered[int(np.ceil(position))])
    return below if below == above else below + (above - below) * (position % 1)
