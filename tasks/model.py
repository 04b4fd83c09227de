"""A model on disk: `model.safetensors` and `model.json`, and how the second is written and read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from tasks.scan.errors import CheckpointMismatch, ModelNotFound
from tasks.scan.files import write_whole
from tasks.scan.records import FORBID_UNKNOWN, Shape, Spacing
from unet import AugmentConfig, UNet, UNetConfig, load_weights, save_weights

WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"
LARGEST_LABEL = 65535
"""A mask's voxels have 16 bits at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """How quantitative intensities (CT) are normalised: clip to `lower`–`upper`, then (x − `mean`) / `sd`."""

    lower: float
    upper: float
    mean: float
    sd: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the training data decided: the grid the network works on, its shape, and what one step holds."""

    network: UNetConfig
    spacing_mm: Spacing
    patch: Shape
    batch_size: int
    window: Window | None = None
    """None: every image is z-scored by itself."""
    further_windows: tuple[Window | None, ...] = ()
    """The same for each channel beyond the first."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """How far training patches were from the scans; its `mirror_axes` are the only ones that inference may mirror."""

    def __post_init__(self) -> None:
        if self.network.dimensions != 3:
            raise ValueError("network must have 3 dimensions")
        if self.network.in_channels != len(self.windows):
            raise ValueError(
                f"a network of {self.network.in_channels} input channels needs {self.network.in_channels - 1} "
                f"further_windows, but {len(self.further_windows)} are there"
            )
        if not all(0 < length < math.inf for length in (*self.spacing_mm, *self.patch, self.batch_size)):
            raise ValueError("spacing_mm, patch and batch_size must be above 0")
        if not set(self.augment.mirror_axes) <= {0, 1, 2}:
            raise ValueError("mirror_axes must be from 0 to 2")

    @property
    def windows(self) -> tuple[Window | None, ...]:
        """How each channel is normalised."""
        return (self.window, *self.further_windows)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepLargest:
    """Of what only the largest connected component (26 neighbours) is kept, and the held-out Dice that decided it."""

    foreground: bool = False
    """All labels taken together as one structure."""
    labels: tuple[int, ...] = ()
    """Each of these by itself, after that."""
    evidence: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """Everything that turns a scan into a label map; `model.json` is this record."""

    __pydantic_config__ = FORBID_UNKNOWN

    plan: Plan
    labels: dict[int, str]
    """Names of the foreground labels, by value."""
    weights_sha256: str
    keep_largest: KeepLargest = field(default_factory=KeepLargest)
    fingerprint: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    format: Literal[2] = 2

    def __post_init__(self) -> None:
        if not self.labels or not all(1 <= value <= LARGEST_LABEL for value in self.labels):
            raise ValueError(f"labels must have values from 1 to {LARGEST_LABEL}")
        if self.plan.network.out_channels != len(self.labels) + 1:
            raise ValueError(
                f"a network of {self.plan.network.out_channels} output maps has background and "
                f"{self.plan.network.out_channels - 1} labels, but {len(self.labels)} are named"
            )
        if not set(self.keep_largest.labels) <= set(self.labels):
            raise ValueError("keep_largest.labels must be among labels")


_ADAPTER = TypeAdapter(Model)


def save_model(model: Model, networks: Sequence[UNet], folder: Path) -> Model:
    """`model` with the checksum of the weights just written to `folder`; the description is written last.

    Several networks are an ensemble: inference averages their logits.
    """
    folder.mkdir(parents=True, exist_ok=True)
    checksum = save_weights(networks, folder / WEIGHTS)
    values = {name: getattr(model, name) for name in Model.__slots__}
    saved = Model(**{**values, "weights_sha256": checksum})
    write_whole(folder / DESCRIPTION, _ADAPTER.dump_json(saved, indent=1))
    return saved


def read_model(folder: Path) -> Model:
    """The description of the model in `folder`. Raises ModelNotFound or CheckpointMismatch."""
    path = folder / DESCRIPTION
    if not path.is_file() or not (folder / WEIGHTS).is_file():
        raise ModelNotFound(
            f"no model in '{folder}': it needs {DESCRIPTION} and {WEIGHTS}; train one with `segment-cohort train`"
        )
    try:
        return _ADAPTER.validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "model"
        raise CheckpointMismatch(
            f"{path} is not a model of this version: {place}: {first['msg']}; copy the folder again, or train anew"
        ) from error


def load_networks(model: Model, folder: Path) -> list[UNet]:
    """The trained networks of `model`, in evaluation mode. Raises CheckpointMismatch when the files do not fit."""
    try:
        return load_weights(model.plan.network, folder / WEIGHTS, model.weights_sha256)
    except ValueError as error:
        raise CheckpointMismatch(f"model '{folder}': {error}; copy the whole folder again, or train anew") from error
