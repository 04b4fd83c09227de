"""The weights in nnU-Net's checkpoints: read without running what is in them, and turned to fit our network.

A `.pth` file is a pickle, and unpickling calls whatever the file names. torch's restricted reader calls nothing but
what makes tensors and plain containers; numbers of numpy, which nnU-Net logs, are allowed too, and nothing else.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy._core.multiarray import scalar
from torch import Tensor, nn
from torch.serialization import safe_globals

from tasks.scan.errors import CheckpointMismatch
from unet import UNet, UNetConfig

_NUMBERS = ("float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool")
_SAFE: list[Any] = [
    (scalar, "numpy.core.multiarray.scalar"),
    (scalar, "numpy._core.multiarray.scalar"),
    np.dtype,
    *{type(np.dtype(name)) for name in _NUMBERS},
]
"""What the numbers in a training's log need: numpy's scalars and the types of their values."""
_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm2d, nn.BatchNorm3d, nn.InstanceNorm2d, nn.InstanceNorm3d)
_REMEDY = "only PlainConvUNet and ResidualEncoderUNet as nnU-Net's own trainers build them can be run"
_WRAPPED = re.compile(r"^((module|_orig_mod)\.)+")
"""What training on several GPUs, or compiled, puts before each name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What of a checkpoint counts: the weights by nnU-Net's names, and how its training mirrored."""

    weights: Mapping[str, Tensor]
    configuration: str
    mirror_axes: tuple[int, ...]
    """Of the network's axes."""


def read_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint in `path`; its tensors are read when they are used. Raises CheckpointMismatch."""
    try:
        with safe_globals(_SAFE):
            content = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointMismatch(f"{path} {_refusal(str(error))}") from error
    except (RuntimeError, OSError, EOFError, ValueError) as error:
        raise CheckpointMismatch(f"{path} is damaged: {str(error).splitlines()[0]}; copy it again") from error
    try:
        return Checkpoint(
            weights={_WRAPPED.sub("", name): tensor for name, tensor in content["network_weights"].items()},
            configuration=str(content["init_args"]["configuration"]),
            mirror_axes=tuple(int(axis) for axis in content.get("inference_allowed_mirroring_axes") or ()),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointMismatch(
            f"{path} is no checkpoint of nnU-Net v2: it lacks {error}; name the folder that its training wrote"
        ) from error


def _refusal(message: str) -> str:
    """Why torch's restricted reader stopped: the name of what the file would have called, where it says so."""
    named = re.search(r"(?:GLOBAL |global:? )`?([\w.]+\.\w+)", message)
    if named is None:
        return "cannot be read: it is no checkpoint of torch, or damaged; copy it again"
    return (
        f"was refused: it would call '{named.group(1)}', which no checkpoint of nnU-Net needs, and what a file calls "
        "can do harm; get it from its makers again, or save it anew with nnU-Net's own trainer"
    )


def to_network(config: UNetConfig, weights: Mapping[str, Tensor], order: Sequence[int], path: Path) -> UNet:
    """The network of `config` with nnU-Net's `weights`, in evaluation mode.

    `order` says for each spatial axis of ours which one of nnU-Net's it is. Raises CheckpointMismatch when the weights
    are not those of such a network.
    """
    network = UNet(config)
    names = {ours: f"{module}.{kind}" for ours, (module, kind) in _tensor_names(network).items()}
    unknown = [name for name in weights if not _accounted(name, set(names.values()))]
    if unknown:
        raise CheckpointMismatch(f"{path} has '{unknown[0]}', which plans.json says nothing of; {_REMEDY}")
    state: dict[str, Tensor] = {}
    for ours, tensor in network.state_dict().items():
        theirs = names[ours]
        if theirs in weights:
            state[ours] = _turned(weights[theirs], order)
        elif theirs.endswith(".conv.bias"):
            state[ours] = torch.zeros_like(tensor)  # nnU-Net lets convolutions have none
        else:
            raise CheckpointMismatch(f"{path} has no '{theirs}', which plans.json says the network has; {_REMEDY}")
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointMismatch(f"{path} does not fit plans.json: {str(error).splitlines()[-1].strip()}") from error
    return network.eval()


def has_batch_norms(weights: Mapping[str, Tensor]) -> bool:
    """Whether the network was built with batch normalisation: nnU-Net's trainers may choose it over their plans."""
    return any(name.endswith(".norm.running_mean") for name in weights)


def _turned(tensor: Tensor, order: Sequence[int]) -> Tensor:
    """A convolution's weights (out, in, X, Y, Z) with their spatial axes in our order; anything else as it is."""
    return tensor.permute(0, 1, *(axis + 2 for axis in order)) if tensor.ndim > 2 else tensor


def _accounted(name: str, used: set[str]) -> bool:
    """Whether a tensor of nnU-Net's is one that is used, another name for it, or an output of deep supervision."""
    return name in used or ".all_modules." in name or name.startswith(("decoder.encoder.", "decoder.seg_layers."))


def _tensor_names(network: UNet) -> dict[str, tuple[str, str]]:
    """For each tensor of `network` the module of nnU-Net's that holds it, and its name there."""
    modules = dict(_module_names(network))
    names = {}
    for name in network.state_dict():
        module, _, kind = name.rpartition(".")
        names[name] = modules[module], kind
    return names


def _module_names(network: UNet) -> Iterator[tuple[str, str]]:
    """Our name and nnU-Net's for each layer with weights."""
    for level, layers in enumerate(network.encoder):
        place = f"encoder.{level}"
        if network.config.encoder == "plain":
            yield from _stack_names(layers, place, f"encoder.stages.{level}.0.convs")
            continue
        yield from _stack_names(layers, place, "encoder.stem.convs")
        first = 3 if level == 0 else 0  # the stem's convolution, norm and activation come before the first block
        for number, block in enumerate(list(layers.children())[first:]):
            yield from _block_names(block, f"{place}.{first + number}", f"encoder.stages.{level}.blocks.{number}")
    for number, layers in enumerate(network.decoder):
        yield f"upsamplings.{number}", f"decoder.transpconvs.{number}"
        yield from _stack_names(layers, f"decoder.{number}", f"decoder.stages.{number}.convs")
    yield "head", f"decoder.seg_layers.{len(network.decoder) - 1}"


def _stack_names(layers: nn.Module, ours: str, theirs: str) -> Iterator[tuple[str, str]]:
    """The names of convolutions, each with its norm, that follow one another."""
    count = -1
    for index, layer in layers.named_children():
        if isinstance(layer, _CONVOLUTIONS):
            count += 1
            yield f"{ours}.{index}", f"{theirs}.{count}.conv"
        elif isinstance(layer, _NORMS):
            yield f"{ours}.{index}", f"{theirs}.{count}.norm"


def _block_names(block: nn.Module, ours: str, theirs: str) -> Iterator[tuple[str, str]]:
    """The names in a residual block: its convolutions, counted from 1, and those of its shortcut."""
    for name, module in _stack_names(block.get_submodule("body"), f"{ours}.body", ""):
        _, count, kind = module.split(".")
        yield name, f"{theirs}.conv{int(count) + 1}.{kind}"
    for index, layer in block.get_submodule("shortcut").named_children():
        if isinstance(layer, _CONVOLUTIONS):
            yield f"{ours}.shortcut.{index}", f"{theirs}.skip.{index}.conv"
        elif isinstance(layer, _NORMS):
            yield f"{ours}.shortcut.{index}", f"{theirs}.skip.{int(index) - 1}.norm"
