"""What the settings are on this machine, and the networks of a model made ready to run there."""

from __future__ import annotations

import torch

from tasks.infer.config import InferenceConfig, Machine, Weights
from tasks.model import Model
from tasks.model.folder import load_networks
from tasks.scan.errors import UnknownSetting
from unet import UNet, choose_device, choose_precision
from unet.backends import Network, choose_backend, ready
from unet.memory import OPENVINO_BFLOAT16, OPENVINO_FLOAT32, TORCH_BFLOAT16, TORCH_FLOAT32, Appetite
from unet.slices import by_slice

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def resolve(config: InferenceConfig) -> Machine:
    """What `config` is on this machine. Raises UnknownSetting where it does not have it."""
    try:
        device = choose_device(config.device)
        backend = choose_backend(config.backend, device)
    except RuntimeError as error:
        raise UnknownSetting(str(error)) from error
    precision = choose_precision(config.precision, device)
    return Machine(
        device="cuda" if device.type == "cuda" else "cpu",
        precision="bfloat16" if precision == torch.bfloat16 else "float32",
        backend=backend,
    )


def appetite_of(machine: Machine) -> Appetite:
    """What `machine` needs in memory; measured on the CPU, where a GPU's allocator keeps about as much."""
    narrow = machine.precision == "bfloat16"
    if machine.backend == "openvino":
        return OPENVINO_BFLOAT16 if narrow else OPENVINO_FLOAT32
    return TORCH_BFLOAT16 if narrow else TORCH_FLOAT32


def ready_on(machine: Machine, network: UNet) -> Network:
    """`network`, ready to run on `machine`."""
    return ready(network, machine.backend, torch.device(machine.device), _DTYPES[machine.precision])


def make_ready(weights: Weights, model: Model, machine: Machine) -> list[Network]:
    """The networks of `weights`, ready to run on `machine`. Raises CheckpointMismatch."""
    networks = load_networks(model, weights.folder)
    used = networks if weights.member is None else [networks[weights.member]]
    runs = [ready_on(machine, network) for network in used]
    axis = model.plan.slice_axis
    return runs if axis is None else [by_slice(run, axis) for run in runs]
