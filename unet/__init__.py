"""The U-Net and its mathematics on tensors. Knows torch; knows no file format, no geometry, no orchestration.

What is here is imported when it is asked for: a process that only reads a network's description needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unet.checkpoint import load_weights as load_weights
    from unet.checkpoint import save_weights as save_weights
    from unet.config import AugmentConfig as AugmentConfig
    from unet.config import UNetConfig as UNetConfig
    from unet.devices import choose_device as choose_device
    from unet.devices import choose_precision as choose_precision
    from unet.inference import predict as predict
    from unet.layer_table import summary as summary
    from unet.losses import segmentation_loss as segmentation_loss
    from unet.losses import soft_dice_loss as soft_dice_loss
    from unet.model import UNet as UNet
    from unet.model import convolution_parameters as convolution_parameters
    from unet.sampling import SamplingConfig as SamplingConfig
    from unet.sampling import Volume as Volume
    from unet.training import Step as Step
    from unet.training import TrainingConfig as TrainingConfig
    from unet.training import train as train

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

__all__ = [name for names in _HOMES.values() for name in names]


def __getattr__(name: str) -> Any:
    """What `unet` has under `name` (PEP 562)."""
    home = next((home for home, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module 'unet' has no attribute {name!r}")
    return getattr(import_module(f"unet.{home}"), name)
