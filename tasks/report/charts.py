"""Where everything stands in the charts of the page: plain numbers in percent of the width, or of the height."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.report.summary import quantile

LOST = ("missed", "false_positive")
COMPARED = ("scored", *LOST)
GOLDEN = 0.618034
LIMITS = 1.96
"""Standard deviations either side of the mean difference that hold 95 % of the cases (Bland and Altman, 1986)."""
FEWEST_FOR_BOX, FEWEST_FOR_LIMITS = 4, 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A round number on an axis, and where it is: 0 to 100."""

    at: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A case: its name, where it stands, what is said of it, and whether its structure was missed or made up."""

    case: str
    x: float
    y: float
    text: str
    lost: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """The distribution of one number of a label: every case a point, the middle half in a box."""

    label: int
    name: str
    note: str
    points: tuple[Point, ...]
    ticks: tuple[Tick, ...]
    box: tuple[float, float, float] | None
    """Lower quartile, median and upper quartile; None for fewer than four cases."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plane:
    """Points over two axes; `lines` are levels that run across, with what they are."""

    label: int
    name: str
    note: str
    points: tuple[Point, ...]
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]
    lines: tuple[Tick, ...] = field(default=())


def dice_strips(metrics: pd.DataFrame, labels: Mapping[int, str]) -> list[Strip]:
    """A strip of Dice for each of `labels`, all on one axis; none where nothing could be compared."""
    ticks = dice_ticks(metrics["dice"])
    if not ticks:
        return []
    strips = []
    for label, rows in _by_label(metrics, labels):
        defined = rows.dropna(subset="dice")
        strips.append(_strip((label, labels[label]), defined, "dice", ticks, len(rows)))
    return strips


def volume_strips(metrics: pd.DataFrame, labels: Mapping[int, str]) -> list[Strip]:
    """A strip of the volumes found, in mL, for each of `labels`, on an axis of its own."""
    strips = []
    for label, rows in _by_label(metrics, labels):
        defined = rows.dropna(subset="volume_prediction_ml")
        values = defined["volume_prediction_ml"]
        if len(values):
            ticks = round_ticks(float(values.min()), float(values.max()))
            strips.append(_strip((label, labels[label]), defined, "volume_prediction_ml", ticks, len(rows)))
    return strips


def bland_altman(metrics: pd.DataFrame, labels: Mapping[int, str]) -> list[Plane]:
    """For each of `labels` the difference of the volumes, segmentation minus reference, over their mean, in mL.

    With the mean difference and its 95 % limits of agreement. A structure that was missed, or made up, is in it.
    Source: Bland and Altman, Lancet 327 (1986).
    """
    planes = []
    for label, rows in _by_label(metrics, labels):
        compared = rows[rows["status"].isin(COMPARED)]
        if len(compared):
            planes.append(_bland_altman((label, labels[label]), compared))
    return planes


def _bland_altman(label: tuple[int, str], rows: pd.DataFrame) -> Plane:
    found, truth = rows["volume_prediction_ml"].to_numpy(float), rows["volume_reference_ml"].to_numpy(float)
    means, differences = (found + truth) / 2, found - truth
    bias = float(differences.mean())
    lines = {"mean": bias}
    if len(rows) >= FEWEST_FOR_LIMITS:
        reach = LIMITS * float(differences.std(ddof=1))
        lines |= {"upper limit": bias + reach, "lower limit": bias - reach}
    low = min(0.0, float(differences.min()), *lines.values())
    high = max(0.0, float(differences.max()), *lines.values())
    across, up = round_ticks(float(means.min()), float(means.max())), round_ticks(low, high)
    limits = f", 95 % limits {signed(lines['lower limit'])} to {signed(lines['upper limit'])}" if len(lines) > 1 else ""
    texts = [f"{truth_ml:.3g} mL, found {found_ml:.3g}" for truth_ml, found_ml in zip(truth, found, strict=True)]
    return Plane(
        label=label[0],
        name=label[1],
        note=f"mean {signed(bias)} mL{limits}",
        points=_points(rows, (at(means, across), 100 - at(differences, up)), texts),
        across=placed(across),
        up=placed_up(up),
        lines=tuple(Tick(at=100 - float(at(np.array(level), up)), text=text) for text, level in lines.items()),
    )


def _strip(label: tuple[int, str], rows: pd.DataFrame, metric: str, ticks: Sequence[float], total: int) -> Strip:
    values = rows[metric].to_numpy(float)
    # The golden ratio spreads neighbours over the height of the strip, the same way every night.
    heights: NDArray[np.float64] = np.arange(1, len(values) + 1, dtype=np.float64) * GOLDEN % 1 * 100
    quartiles = np.array([quantile(values, share) for share in (0.25, 0.5, 0.75)])
    q25, median, q75 = (float(place) for place in at(quartiles, ticks))
    digits = 3 if metric == "dice" else 4
    return Strip(
        label=label[0],
        name=label[1],
        note=f"{len(values)} of {total} cases",
        points=_points(rows, (at(values, ticks), heights), [f"{value:.{digits}g}" for value in values]),
        ticks=placed(ticks),
        box=(q25, median, q75) if len(values) >= FEWEST_FOR_BOX else None,
    )


def _points(
    rows: pd.DataFrame, places: tuple[NDArray[np.float64], NDArray[np.float64]], texts: Sequence[str]
) -> tuple[Point, ...]:
    return tuple(
        Point(
            case=str(case),
            x=float(x),
            y=float(y),
            text=status.replace("_", " ") if status in LOST else text,
            lost=status in LOST,
        )
        for case, status, x, y, text in zip(rows["case"], rows["status"], *places, texts, strict=True)
    )


def _by_label(metrics: pd.DataFrame, labels: Mapping[int, str]) -> list[tuple[int, pd.DataFrame]]:
    return [(label, metrics[metrics["label"] == label]) for label in sorted(labels)]


def dice_ticks(dice: pd.Series[float]) -> list[float]:
    """The ticks of the Dice axis, the first one at or below every value, the last one 1; empty without values.

    >>> dice_ticks(pd.Series([0.83, 0.91]))
    [0.8, 0.85, 0.9, 0.95, 1.0]
    """
    if dice.isna().all():
        return []
    room = 1 - float(dice.min())
    step = next(step for step in (0.02, 0.05, 0.1, 0.2) if room <= 5 * step)
    first = min(math.floor(round(float(dice.min()) / step, 6)), round(1 / step) - 1)
    return [round(float(tick), 2) for tick in np.arange(first, round(1 / step) + 1) * step]


def round_ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers, the first at or below `low`, the last at or above `high`.

    >>> round_ticks(1.23, 3.9)
    [1.0, 2.0, 3.0, 4.0]
    """
    room = high - low or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(room / 4))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if room / (factor * power) <= 4)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(tick * step, 12) for tick in range(first, max(last, first + 1) + 1)]


def at(values: NDArray[np.float64], ticks: Sequence[float]) -> NDArray[np.float64]:
    """Where `values` stand between the first and the last tick: 0 to 100."""
    place: NDArray[np.float64] = (values - ticks[0]) / (ticks[-1] - ticks[0]) * 100
    return place


def placed(ticks: Sequence[float]) -> tuple[Tick, ...]:
    """`ticks` on an axis that goes across."""
    places = at(np.array(ticks), ticks)
    return tuple(Tick(at=float(at), text=f"{tick:g}") for at, tick in zip(places, ticks, strict=True))


def placed_up(ticks: Sequence[float]) -> tuple[Tick, ...]:
    """`ticks` on an axis that goes up: counted from the top, as the page does."""
    return tuple(Tick(at=100 - tick.at, text=tick.text) for tick in placed(ticks))


def signed(number: float) -> str:
    """`number` with three significant digits and its sign.

    >>> signed(-0.01234)
    '−0.0123'
    """
    return f"{'−' if number < 0 else '+'}{abs(number):.3g}"
