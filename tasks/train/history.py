"""What a person sees of a training: a bar, a table of loss and held-out Dice, its plot, and what the network is fed."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from io import BytesIO, StringIO
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import numpy as np
import torch
from prefect import get_run_logger

from tasks.progress import Bar
from tasks.scan.files import write_whole
from unet import SamplingConfig, Step, UNet, Volume
from unet.sampling import draw_batch, foreground_places

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOG_SECONDS = 30.0
ROWS = 100
VALIDATION_SHARE = 0.03
"""Of the time so far, how much may go into looking at held-out cases."""
TABLE, CURVES, SAMPLES = "training.csv", "training.png", "samples.png"
Row = dict[str, str]
Validate = Callable[[UNet], dict[str, float]]
Progress = Callable[[Step, UNet], None]


def watch(bar: Bar, folder: Path, fold: int | None, labels: Sequence[str], validate: Validate) -> Progress:
    """What is done after each step: `bar` and the log show it, and a hundredth of the way apart it gets a row.

    A row of `training.csv` in `folder` holds the mean loss since the last one and, when a validation is affordable, the
    Dice by label that `validate` finds. Rows of other folds, and of this one before the first step seen, are kept.
    """
    columns = ["fold", "step", "seconds", "learning_rate", "loss", *(f"dice_{name}" for name in labels)]
    logger, write_event = get_run_logger(), _tensorboard(folder, fold)
    rows: list[Row] = []
    losses: list[float] = []
    seen = {"share": 0.0, "seconds": 0.0, "validating": 0.0, "validation": 0.0}

    def on_step(step: Step, network: UNet) -> None:
        if not losses and not rows:
            rows.extend(_rows_before(folder / TABLE, fold, step.number))
        losses.append(step.loss)
        bar.show(step.share, f"loss {step.loss:.3f}")
        if step.seconds // LOG_SECONDS > seen["seconds"] // LOG_SECONDS:
            logger.info("train step %d, %.0f %% of the budget, loss %.3f", step.number, 100 * step.share, step.loss)
        if step.share == 1 or int(step.share * ROWS) > int(seen["share"] * ROWS):
            dice: dict[str, float] = {}
            if step.share == 1 or seen["validating"] + seen["validation"] <= VALIDATION_SHARE * step.seconds:
                start = monotonic()
                dice = validate(network)
                seen["validation"] = monotonic() - start
                seen["validating"] += seen["validation"]
            rows.append(_row(fold, step, float(np.mean(losses)), dice))
            write_event(step, rows[-1])
            losses.clear()
            write_whole(folder / TABLE, _as_csv(rows, columns))
        seen.update(share=step.share, seconds=step.seconds)

    return on_step


def read_rows(table: Path) -> list[Row]:
    """The rows of `training.csv`, none if it is not there."""
    if not table.is_file():
        return []
    with table.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def draw_curves(folder: Path) -> None:
    """`training.png` in `folder`: loss, and held-out Dice by label, over the minutes; one line a fold."""
    rows = read_rows(folder / TABLE)
    figure = _new_figure(figsize=(9, 7), dpi=110)
    loss, dice = figure.subplots(2, 1, sharex=True)
    names = [name for name in (rows[0] if rows else {}) if name.startswith("dice_")]
    for fold in dict.fromkeys(row["fold"] for row in rows):
        of_fold = [row for row in rows if row["fold"] == fold]
        loss.plot(*_points(of_fold, "loss"), label=f"fold {fold}" if fold else "all cases")
        for number, name in enumerate(names):
            label = name.removeprefix("dice_") if of_fold[0] is rows[0] else None
            dice.plot(*_points(of_fold, name), color=f"C{number}", marker=".", label=label)
    loss.set(ylabel="loss (cross-entropy + soft Dice)", yscale="symlog", title="Training")
    dice.set(ylabel="Dice of held-out cases, on the network's grid", xlabel="minutes", ylim=(0, 1))
    for axes in (loss, dice):
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    _save(figure, folder / CURVES)


def draw_samples(volumes: Sequence[Volume], config: SamplingConfig, folder: Path) -> None:
    """`samples.png` in `folder`: the middle slice of eight patches as the network is fed them, classes outlined."""
    random = torch.Generator().manual_seed(0)
    places = foreground_places(volumes)
    batches = [draw_batch(volumes, places, config, random) for _ in range(-(-8 // config.batch_size))]
    patches = [pair for images, targets in batches for pair in zip(images, targets, strict=True)]
    figure = _new_figure(figsize=(12, 6.4), dpi=90)
    for axes, (image, target) in zip(figure.subplots(2, 4).flat, patches[:8], strict=True):
        middle = image.shape[-1] // 2
        axes.imshow(image[0, ..., middle].T.numpy(), cmap="gray", origin="lower", interpolation="nearest")
        classes = target[..., middle].T.numpy()
        for value in np.unique(classes[classes > 0]):
            axes.contour(classes == value, levels=[0.5], colors=f"C{value - 1}")
        axes.set_axis_off()
    figure.suptitle("Patches as the network sees them: turned, scaled, with other intensities; classes in colour")
    _save(figure, folder / SAMPLES)


def _row(fold: int | None, step: Step, loss: float, dice: dict[str, float]) -> Row:
    row = {
        "fold": "" if fold is None else str(fold),
        "step": str(step.number),
        "seconds": f"{step.seconds:.1f}",
        "learning_rate": f"{step.learning_rate:.3g}",
        "loss": f"{loss:.4f}",
    }
    return row | {f"dice_{name}": f"{value:.4f}" for name, value in dice.items() if np.isfinite(value)}


def _rows_before(table: Path, fold: int | None, step: int) -> list[Row]:
    """The rows that stay when training goes on with `step`: all of other folds, and what came before."""
    own = "" if fold is None else str(fold)
    return [row for row in read_rows(table) if row["fold"] != own or int(row["step"]) < step]


def _as_csv(rows: Sequence[Row], columns: Sequence[str]) -> bytes:
    text = StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _points(rows: Sequence[Row], column: str) -> tuple[list[float], list[float]]:
    """Minutes and values of the rows that have a value."""
    found = [row for row in rows if row.get(column)]
    return [float(row["seconds"]) / 60 for row in found], [float(row[column]) for row in found]


def _tensorboard(folder: Path, fold: int | None) -> Callable[[Step, Row], None]:
    """How a row is also told to TensorBoard, where that is installed; else nothing is."""
    if not find_spec("tensorboard"):
        return lambda _step, _row: None
    writer = import_module("torch.utils.tensorboard").SummaryWriter(folder / "tensorboard" / f"fold-{fold}")

    def write(step: Step, row: Row) -> None:
        for name in row.keys() - {"fold", "step", "seconds"}:
            writer.add_scalar(name, float(row[name]), step.number)
        writer.flush()

    return write


def _new_figure(figsize: tuple[float, float], dpi: int) -> Figure:
    """An empty figure; matplotlib takes a third of a second to import, and a night draws none."""
    figure: Figure = import_module("matplotlib.figure").Figure(figsize=figsize, dpi=dpi, layout="constrained")
    return figure


def _save(figure: Figure, path: Path) -> None:
    content = BytesIO()
    figure.savefig(content, format="png")
    write_whole(path, content.getvalue())
