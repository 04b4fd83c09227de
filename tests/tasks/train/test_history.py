"""The table and the pictures of a training."""

import logging
from contextlib import contextmanager

import matplotlib.image
import pytest
import torch

from tasks.progress import progress_bar
from tasks.train import history
from tasks.train.history import draw_curves, draw_samples, read_rows, watch
from unet import SamplingConfig, Step, UNet, UNetConfig, Volume

NETWORK = UNet(UNetConfig(dimensions=1, features=(2,)))


def step(number: int, total: int = 10, loss: float = 1.0) -> Step:
    return Step(number=number, share=number / total, seconds=float(number), learning_rate=0.1, loss=loss)


@contextmanager
def watched(folder, fold=0, validate=lambda _: {"head": 0.5}):
    with pytest.MonkeyPatch.context() as patch, progress_bar("train", 1) as bar:
        patch.setattr(history, "get_run_logger", lambda: logging.getLogger("train"))
        yield watch(bar, folder, fold, ["head"], validate)


def train(folder, numbers, **changes) -> list[dict[str, str]]:
    with watched(folder, **changes) as on_step:
        for number in numbers:
            on_step(step(number), NETWORK)
    return read_rows(folder / "training.csv")


def test_each_hundredth_of_the_way_has_a_row_with_its_mean_loss(tmp_path):
    with watched(tmp_path) as on_step:
        for number in range(1, 401):
            on_step(step(number, total=400, loss=float(number)), NETWORK)
    rows = read_rows(tmp_path / "training.csv")
    assert len(rows) == 100
    assert rows[0] == {
        "fold": "0",
        "step": "4",
        "seconds": "4.0",
        "learning_rate": "0.1",
        "loss": "2.5000",
        "dice_head": "0.5000",
    }


def test_a_training_that_goes_on_replaces_only_what_comes_again(tmp_path):
    train(tmp_path, range(1, 11), fold=0)
    train(tmp_path, range(1, 8), fold=1)
    rows = train(tmp_path, range(5, 11), fold=1)
    assert [(row["fold"], int(row["step"])) for row in rows] == [
        *(("0", number) for number in range(1, 11)),
        *(("1", number) for number in range(1, 11)),
    ]


def test_a_validation_that_takes_long_is_made_rarely_but_at_the_end(tmp_path, monkeypatch):
    clock = iter(range(0, 1000, 2))
    monkeypatch.setattr(history, "monotonic", lambda: next(clock))
    rows = train(tmp_path, range(1, 11))
    assert [row["step"] for row in rows if row["dice_head"]] == ["1", "10"]


def test_a_label_without_a_value_is_an_empty_cell(tmp_path):
    (row,) = train(tmp_path, [10], validate=lambda _: {"head": float("nan")})
    assert row["dice_head"] == ""


def test_curves_and_samples_are_pictures(tmp_path):
    train(tmp_path, range(1, 11), fold=None)
    draw_curves(tmp_path)
    labels = torch.zeros(8, 8, 8, dtype=torch.uint8)
    labels[2:6, 2:6, 2:6] = 1
    config = SamplingConfig(patch=(8, 8, 8), spacing_mm=(1.0, 1.0, 1.0), batch_size=3)
    draw_samples([Volume(labels[None].float(), labels)], config, tmp_path)
    for name in ("training.png", "samples.png"):
        picture = matplotlib.image.imread(tmp_path / name)
        assert picture.shape[0] > 400
        assert picture[..., :3].std() > 0.05
