"""How long and on what to train, and what of the plan is set by hand."""

from __future__ import annotations

from dataclasses import dataclass, field

from tasks.scan.records import FORBID_UNKNOWN, Shape, Spacing
from unet.config import AugmentConfig, DeviceName, Precision


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """How long and on what to train."""

    __pydantic_config__ = FORBID_UNKNOWN

    minutes: float | None = None
    """Time budget of the training loop."""
    epochs: int | None = None
    """Passes over the training cases, instead of a time: the only way to get the same weights twice."""
    seed: int = 0
    """Seed of weights, patches and augmentation."""
    device: DeviceName = "auto"
    """`auto` is CUDA where there is one, else the CPU."""
    precision: Precision = "auto"
    """`auto` is bfloat16 where the hardware has it, else float32."""
    checkpoint_seconds: float = 30.0
    """How much of a training a kill may cost."""

    def __post_init__(self) -> None:
        if self.minutes is not None and self.epochs is not None:
            raise ValueError("give minutes or epochs, not both")
        lengths = (length for length in (self.minutes, self.epochs) if length is not None)
        if not all(0 < length < float("inf") for length in lengths):
            raise ValueError("minutes and epochs must be above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanConfig:
    """What to set by hand; everything that is None follows from the data and the machine."""

    __pydantic_config__ = FORBID_UNKNOWN

    spacing_mm: Spacing | None = None
    patch: Shape | None = None
    batch_size: int | None = None
    maps: int | None = None
    """Feature maps of the first level; they double from level to level up to 320. None: 16 on a CPU, 32 on a GPU."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """Ranges of the augmentation."""

    def __post_init__(self) -> None:
        given = (*(self.spacing_mm or ()), *(self.patch or ()), self.batch_size, self.maps)
        if not all(0 < number < float("inf") for number in given if number is not None):
            raise ValueError("spacing_mm, patch, batch_size and maps must be above 0")
        if not set(self.augment.mirror_axes) <= {0, 1, 2}:
            raise ValueError("augment.mirror_axes must be from 0 to 2")
