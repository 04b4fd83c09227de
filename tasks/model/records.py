"""What a model is: how scans are prepared for its networks, what they say, and what is kept of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from tasks.scan.records import FORBID_UNKNOWN, Shape, Spacing
from unet import AugmentConfig, UNetConfig

WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"
"""The files of a model of this program."""
LARGEST_LABEL = 65535
"""A mask's voxels have 16 bits at most."""
LONGEST_NAME = 200
"""Characters of a label's name: it stands in tables, logs and on the page."""


def is_label_name(name: str) -> bool:
    """Whether a label may be called `name`."""
    return name.isprintable() and 0 < len(name) <= LONGEST_NAME


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """How quantitative intensities (CT) are normalised: clip to `lower`–`upper`, then (x − `mean`) / `sd`."""

    lower: float
    upper: float
    mean: float
    sd: float


Scheme = Window | Literal["z_score", "z_score_inside", "unit", "none"]
"""How nnU-Net normalises a channel: by a window; by the mean and deviation of the image, or of what lies inside the
outline of what is not 0; from its least and largest value to 0 and 1; or not at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NnunetRules:
    """How nnU-Net prepares a scan where this program does otherwise; only its models have them.

    Beside what is here: an image smaller than the patch is padded to it, half of the zeros on each side; tiles are
    never larger than the patch (instance normalisation sees all of one); logits are not interpolated through thick
    slices.
    """

    schemes: tuple[Scheme, ...]
    """How each channel is normalised."""
    stored_axes: bool
    """Whether the network sees the axes as the file has them; else the closest to RAS+."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the training data decided: the grid the network works on, its shape, and what one step holds."""

    __pydantic_config__ = FORBID_UNKNOWN

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
    slice_axis: int | None = None
    """Of a 2-D network: the axis along which it sees one slice after the other, as they are spaced in the scan; there
    the patch is how many pass at once."""
    nnunet: NnunetRules | None = None

    def __post_init__(self) -> None:
        if self.network.dimensions != (3 if self.slice_axis is None else 2):
            raise ValueError("network must have 3 dimensions, or 2 and a slice_axis")
        if self.slice_axis not in (None, 0, 1, 2):
            raise ValueError("slice_axis must be from 0 to 2")
        if self.nnunet and len(self.nnunet.schemes) != len(self.windows):
            raise ValueError("nnunet.schemes must be one for each channel")
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

    @property
    def fixed_tile(self) -> bool:
        """Whether the network only ever sees its patch: its answer would change with what is around."""
        return self.nnunet is not None or self.slice_axis is not None

    def target_mm(self, spacing_mm: Spacing) -> Spacing:
        """The grid the network works on, for a scan of `spacing_mm`: between the slices of a 2-D network the scan's."""
        x, y, z = (own if axis == self.slice_axis else new
                   for axis, (own, new) in enumerate(zip(spacing_mm, self.spacing_mm, strict=True)))  # fmt: skip
        return (x, y, z)


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceOrder:
    """Labels that follow one another along an axis, one in each slice, and the held-out Dice that decided it."""

    axis: int = 0
    """Of the scan on RAS+ axes."""
    labels: tuple[int, ...] = ()
    """All labels, from low coordinates to high ones; none where slices may hold several."""
    evidence: dict[str, Any] = field(default_factory=dict)


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
    slice_order: SliceOrder = field(default_factory=SliceOrder)
    """Done first."""
    keep_largest: KeepLargest = field(default_factory=KeepLargest)
    fingerprint: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    format: Literal[2] = 2

    def __post_init__(self) -> None:
        if not self.labels or not all(1 <= value <= LARGEST_LABEL for value in self.labels):
            raise ValueError(f"labels must have values from 1 to {LARGEST_LABEL}")
        if not all(is_label_name(name) for name in self.labels.values()):
            raise ValueError(f"labels must have names of 1 to {LONGEST_NAME} characters that can be printed")
        if self.plan.network.out_channels != len(self.labels) + 1:
            raise ValueError(
                f"a network of {self.plan.network.out_channels} output maps has background and "
                f"{self.plan.network.out_channels - 1} labels, but {len(self.labels)} are named"
            )
        if self.slice_order.axis not in (0, 1, 2):
            raise ValueError("slice_order.axis must be from 0 to 2")
        if self.slice_order.labels and sorted(self.slice_order.labels) != sorted(self.labels):
            raise ValueError("slice_order.labels must be all labels, each once")
        if not set(self.keep_largest.labels) <= set(self.labels):
            raise ValueError("keep_largest.labels must be among labels")
