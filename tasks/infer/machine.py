"""What computes, and with which weights: the settings of the stage, what they are on this machine, and the networks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from tasks.model import Model, load_networks
from tasks.scan.errors import UnknownSetting
from tasks.scan.records import FORBID_UNKNOWN
from unet import choose_device, choose_precision
from unet.backends import BackendName, Network, choose_backend, ready
from unet.devices import DeviceName, Precision
from unet.memory import OPENVINO_BFLOAT16, OPENVINO_FLOAT32, TORCH_BFLOAT16, TORCH_FLOAT32, Appetite
from unet.slices import by_slice


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceConfig:
    """Where and how the network runs."""

    __pydantic_config__ = FORBID_UNKNOWN

    device: DeviceName = "auto"
    """`auto` is CUDA where there is one, else the CPU."""
    precision: Precision = "auto"
    """`auto` is bfloat16 where the hardware has it, else float32."""
    backend: BackendName = "auto"
    """`auto` is OpenVINO on the CPU, torch on a GPU."""
    memory_gb: float = 0.0
    """What a case may need of the device's memory at most; 0: what is free when its turn comes."""
    mirror: bool = False
    """Average over the flips of the axes that training mirrored: slower, a little better."""

    def resolved(self) -> Machine:
        """What this is on this machine. Raises UnknownSetting where it does not have it."""
        try:
            device = choose_device(self.device)
            backend = choose_backend(self.backend, device)
        except RuntimeError as error:
            raise UnknownSetting(str(error)) from error
        return Machine(device=device, precision=choose_precision(self.precision, device), backend=backend)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What computes: the device, the number type of the convolutions, and the library that runs them."""

    device: torch.device
    precision: torch.dtype
    backend: Literal["torch", "openvino"]

    @property
    def appetite(self) -> Appetite:
        """What it needs in memory; measured on the CPU, where a GPU's allocator keeps about as much."""
        narrow = self.precision == torch.bfloat16
        if self.backend == "openvino":
            return OPENVINO_BFLOAT16 if narrow else OPENVINO_FLOAT32
        return TORCH_BFLOAT16 if narrow else TORCH_FLOAT32


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Where the networks of a model are, and which of them to use."""

    folder: Path
    member: int | None = None
    """Of an ensemble, the one network that never saw the cases in hand; None: all of them."""

    def ready(self, model: Model, machine: Machine) -> list[Network]:
        """The networks, ready to run on `machine`. Raises CheckpointMismatch."""
        networks = load_networks(model, self.folder)
        used = networks if self.member is None else [networks[self.member]]
        runs = [ready(network, machine.backend, machine.device, machine.precision) for network in used]
        axis = model.plan.slice_axis
        return runs if axis is None else [by_slice(run, axis) for run in runs]
