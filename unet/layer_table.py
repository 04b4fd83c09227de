"""The layer table of a network, as the lecture's slides show it: maps, size and parameters of each layer."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unet.model import UNet


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One row: where the layer is, what it is, what comes out of it for one image, and how many numbers it learns."""

    name: str
    kind: str
    maps: int
    size: tuple[int, ...]
    parameters: int


def layers(network: UNet, size: tuple[int, ...]) -> list[Layer]:
    """The layers of `network` in the order they compute, for an image (1, C, *size). Nothing is computed."""
    shadow, rows = deepcopy(network).to("meta").eval(), list[Layer]()
    for name, module in shadow.named_modules():
        if not list(module.children()):
            module.register_forward_hook(_recorder(name, rows))
    shadow(torch.zeros(1, network.config.in_channels, *size, device="meta"))
    return rows


def summary(network: UNet, size: tuple[int, ...]) -> str:
    """The table of `layers` as text, with the sum of all parameters below."""
    lines = [f"{'layer':<18}{'kind':<18}{'maps':>6}  {'size':<14}{'parameters':>12}"]
    for row in layers(network, size):
        shape = " × ".join(str(length) for length in row.size)
        lines.append(f"{row.name:<18}{row.kind:<18}{row.maps:>6}  {shape:<14}{row.parameters:>12,}")
    total = sum(parameter.numel() for parameter in network.parameters())
    return "\n".join([*lines, f"{'total':<56}{total:>12,}"])


def _recorder(name: str, rows: list[Layer]) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
    def record(module: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        count = sum(parameter.numel() for parameter in module.parameters())
        shape = tuple(output.shape)
        rows.append(Layer(name=name, kind=type(module).__name__, maps=shape[1], size=shape[2:], parameters=count))

    return record
