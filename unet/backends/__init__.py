"""A trained network made ready to run: an image tensor in, logits out, by what this machine multiplies fastest with.

Each backend is one module with one function, `ready`, and is imported only when it is chosen.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Literal, cast

import torch
from torch import Tensor

from unet.config import BackendName
from unet.model import UNet

Network = Callable[[Tensor], Tensor]
"""Logits (B, K, X, Y, Z), float32, on the image's device, for an image (B, C, X, Y, Z) of any size."""


def choose_backend(name: BackendName, device: torch.device) -> Literal["torch", "openvino"]:
    """The backend that `name` stands for on `device`; `auto` is OpenVINO on the CPU, and torch elsewhere.

    Raises RuntimeError when OpenVINO is asked for on another device than the CPU.
    """
    if name == "openvino" and device.type != "cpu":
        raise RuntimeError(f"backend 'openvino' runs on the CPU alone, not on '{device}'; use --backend torch or auto")
    if name == "auto":
        return "openvino" if device.type == "cpu" else "torch"
    return name


def ready(
    network: UNet, backend: Literal["torch", "openvino"], device: torch.device, precision: torch.dtype
) -> Network:
    """`network`, which stays as it is, in evaluation mode on `device`, its convolutions computed in `precision`."""
    return cast(Network, import_module(f"unet.backends.{backend}_backend").ready(network, device, precision))
