"""The U-Net and its mathematics on tensors. Knows torch; knows no file format, no geometry, no orchestration.

What is here is imported when it is asked for: a process that only reads a network's description needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unet.checkpoint import load_weights, save_weights
    from unet.config import AugmentConfig, UNetConfig
    from unet.devices import choose_device, choose_precision
    from unet.inference import predict
    from unet.layer_table import summary
    from unet.losses import segmentation_loss, soft_dice_loss
    from unet.model import UNet, convolution_parameters
    from unet.sampling import SamplingConfig, Volume
    from unet.training import Step, TrainingConfig, train

_HOMES = {
    "checkpoint": ("load_weights", "save_weights"),
    "config": ("AugmentConfig", "UNetConfig"),
    "devices": ("choose_device", "choose_precision"),
    "inference": ("predict",),
    "layer_table": ("summary",),
    "losses": ("segmentation_loss", "soft_dice_loss"),
    "model": ("UNet", "convolution_parameters"),
    "sampling": ("SamplingConfig", "Volume"),
    "training": ("Step", "TrainingConfig", "train"),
}

__all__ = [
    "AugmentConfig",
    "SamplingConfig",
    "Step",
    "TrainingConfig",
    "UNet",
    "UNetConfig",
    "Volume",
    "choose_device",
    "choose_precision",
    "convolution_parameters",
    "load_weights",
    "predict",
    "save_weights",
    "segmentation_loss",
    "soft_dice_loss",
    "summary",
    "train",
]


def __getattr__(name: str) -> Any:
    """What `unet` has under `name` (PEP 562)."""
    home = next((home for home, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module 'unet' has no attribute {name!r}")
    return getattr(import_module(f"unet.{home}"), name)
