"""The U-Net and its mathematics on tensors. Knows torch; knows no file format, no geometry, no orchestration."""

from unet.augment import AugmentConfig
from unet.checkpoint import load_weights, save_weights
from unet.devices import choose_device, choose_precision
from unet.inference import predict
from unet.losses import segmentation_loss, soft_dice_loss
from unet.model import UNet, UNetConfig, convolution_parameters
from unet.sampling import SamplingConfig, Volume
from unet.summary import summary
from unet.training import Step, TrainingConfig, train

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
