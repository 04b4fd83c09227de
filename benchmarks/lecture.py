"""Every claim of the lecture on the U-net, shown: `python -m benchmarks.lecture [--seconds 60] [--data FOLDER]`.

R. Souza, "The U-net Model, a fully convolutional neural network model", University of Calgary, W2024. Prints the
reference network layer by layer, then one row a claim, then one row a task on real data beside a trivial answer.
"""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import mse_loss

from benchmarks.lecture_tasks import Answer, Task, load_tasks
from unet import (
    AugmentConfig,
    SamplingConfig,
    TrainingConfig,
    UNet,
    UNetConfig,
    Volume,
    convolution_parameters,
    predict,
    segmentation_loss,
    summary,
    train,
)
from unet.backends import choose_backend, ready
from unet.devices import choose_precision
from unet.metrics import dice, jaccard, mean_absolute_error, mean_squared_error

CPU = torch.device("cpu")
SIDES = {1: (613,), 2: (181, 217), 3: (37, 51, 29)}


def main() -> None:
    """Print all rows; those on real data only where the data are."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument(
        "--data", type=Path, default=Path("../shared/data"), help="folder with ecg, nuclei, hippocampus"
    )
    arguments.add_argument("--seconds", type=float, default=60, help="training time of each task (default: 60)")
    given = arguments.parse_args()
    torch.manual_seed(0)
    print("The reference network, for an image of 256 × 256:\n")
    print(summary(UNet(UNetConfig()), (256, 256)))
    print("\nclaim                                                                   shown by")
    show_parameters()
    show_dimensions()
    show_sizes()
    show_choices()
    show_running_statistics()
    if not given.data.is_dir():
        print(f"\nThe tasks on real data are left out: there is no folder '{given.data}'.")
        return
    print(
        f"\n{f'task, {given.seconds:g} s of training each':<62}{'measure':<22}network   trivial   (the trivial answer)"
    )
    for task in load_tasks(given.data):
        show_task(task, given.seconds)


def show_parameters() -> None:
    """Rows: the parameters of the lecture."""
    row(
        "convolutions of the reference network",
        f"{convolution_parameters(UNet(UNetConfig())):,} parameters (7,846,081)",
    )
    with_norm = sum(parameter.numel() for parameter in UNet(UNetConfig(normalisation="batch")).parameters())
    row("with batch normalisation", f"{with_norm:,} parameters (7,851,969)")


def show_dimensions() -> None:
    """Rows: one description in 1-D, 2-D, 3-D, and with anisotropic pooling and kernels."""
    for dimensions, side in SIDES.items():
        network = UNet(UNetConfig(dimensions=dimensions, features=(8, 16, 32), out_channels=2))
        row(f"{dimensions}-D", _in_and_out(network, side))
    thick = UNetConfig(
        dimensions=3, features=(8, 16, 32), poolings=((2, 2, 1), (2, 2, 2)), kernels=((3, 3, 1), (3, 3, 3), (3, 3, 3))
    )
    row("3-D, thick slices: pooling 2×2×1, kernel 3×3×1 at the finest level", _in_and_out(UNet(thick), (40, 44, 9)))


def show_sizes() -> None:
    """Row: the same weights on every size from 1 to 40, all pairs of unequal ones included."""
    network = UNet(UNetConfig(features=(2, 4, 8, 16, 32))).eval()
    sizes = list(product(range(1, 41), repeat=2))
    with torch.inference_mode():
        kept = sum(tuple(network(torch.zeros(1, 1, *size)).shape[2:]) == size for size in sizes)
    row(
        "any input size, odd and unequal sides; the same weights",
        f"{kept} of {len(sizes)} sizes come out as they went in",
    )


def show_choices() -> None:
    """Row: every upsampling with every normalisation."""
    for upsampling, normalisation in product(("transposed", "nearest", "linear"), ("batch", "instance", "none")):
        config = UNetConfig(features=(8, 16, 32), upsampling=upsampling, normalisation=normalisation)  # type: ignore[arg-type]
        count = sum(parameter.numel() for parameter in UNet(config).parameters())
        row(
            f"upsampling {upsampling}, normalisation {normalisation}",
            f"{_in_and_out(UNet(config), (45, 31))}, {count:,} parameters",
        )


def show_running_statistics() -> None:
    """Row: run = α·run + (1 − α)·batch, by hand and in the network."""
    network = UNet(UNetConfig(features=(4,), normalisation="batch")).train()
    image, alpha = torch.randn(3, 1, 20, 20), 0.9
    with torch.no_grad():
        maps = network.encoder[0][0](image)  # type: ignore[index]
        expected = alpha * 0 + (1 - alpha) * maps.mean(dim=(0, 2, 3))
        network(image)
    difference = float((network.encoder[0][1].running_mean - expected).abs().max())  # type: ignore[index,union-attr]
    row("batch normalisation's running mean, α = 0.9, against a hand count", f"largest difference {difference:.1e}")


def show_task(task: Task, seconds: float) -> None:
    """Rows: what a network trained for `seconds` reaches on volumes it never saw, beside the trivial answer."""
    torch.manual_seed(0)
    dimensions, outputs = len(task.patch), len(task.classes) + 1 if task.classes else 1
    network = UNet(
        UNetConfig(
            dimensions=dimensions,
            features=task.features,
            out_channels=outputs,
            normalisation="batch",
            upsampling="transposed",
        )
    )
    augment = (
        AugmentConfig(rotation_degrees=task.rotation_degrees) if task.classes else AugmentConfig(scale=0, probability=0)
    )
    sampling = SamplingConfig(
        patch=task.patch, spacing_mm=(1.0,) * dimensions, batch_size=task.batch_size, augment=augment
    )
    config = TrainingConfig(sampling=sampling, seconds=seconds)
    loss = segmentation_loss if task.classes else mse_loss
    trained = train(network, task.learnt, config, lambda _step, _network: None, loss)
    run = ready(trained, choose_backend("auto", CPU), CPU, choose_precision("auto", CPU))

    def answer(volume: Volume) -> torch.Tensor:
        output = predict([run], volume.image, task.patch).logits
        return output.argmax(0) if task.classes else output

    for measure, network_value, trivial_value in zip(
        measures(task), judged(task, answer), judged(task, task.trivial), strict=True
    ):
        print(f"{task.name:<62}{measure:<22}{network_value:7.4f}   {trivial_value:7.4f}   ({task.trivial_name})")


def measures(task: Task) -> list[str]:
    """The names of what `judged` returns."""
    return [f"{kind} {name}" for name in task.classes for kind in ("Dice", "Jaccard")] or ["MSE", "MAE"]


def judged(task: Task, answer: Answer) -> list[float]:
    """Means over the unseen volumes of each of `measures`, for what `answer` says of them."""
    rows = []
    for volume in task.unseen:
        said = answer(volume)
        if task.classes:
            pairs = [(said == value, volume.target == value) for value in range(1, len(task.classes) + 1)]
            rows.append([measure(*pair) for pair in pairs for measure in (dice, jaccard)])
        else:
            rows.append([mean_squared_error(said, volume.target), mean_absolute_error(said, volume.target)])
    return [float(value) for value in np.nanmean(rows, axis=0)]


def row(claim: str, shown: str) -> None:
    """Print one row of the table."""
    print(f"{claim:<72}{shown}")


def _in_and_out(network: UNet, side: tuple[int, ...]) -> str:
    with torch.inference_mode():
        output = network.eval()(torch.zeros(1, 1, *side))
    return f"in {' × '.join(map(str, side))}, out {' × '.join(map(str, output.shape[2:]))}"


if __name__ == "__main__":
    main()
