"""Our training step, as `unet.train` makes it."""

from __future__ import annotations

from benchmarks.training_step import BATCH, PATCH, Batch, Step, network, volume
from unet import SamplingConfig, TrainingConfig, Volume
from unet.devices import channels_last, choose_precision
from unet.losses import segmentation_loss
from unet.sampling import draw_batch, foreground_places
from unet.training import _begin, _step


def step() -> Step:
    """How a batch is drawn and learnt from, to be called again and again."""
    config = TrainingConfig(sampling=SamplingConfig(patch=PATCH, spacing_mm=(1.0, 1.0, 1.0), batch_size=BATCH), steps=1)
    parts, volumes = _begin(network(), config), [Volume(*volume())]
    places, device = foreground_places(volumes), next(parts.network.parameters()).device
    precision = choose_precision("auto", device)

    def draw() -> Batch:
        return draw_batch(volumes, places, config.sampling, parts.random)

    def learn(batch: Batch) -> None:
        _step(parts, batch[0].to(memory_format=channels_last(3)), batch[1], segmentation_loss, precision)

    return draw, learn
