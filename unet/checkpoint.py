"""Weights on disk as safetensors, which hold numbers only: loading one never runs code."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor

from unet.config import UNetConfig
from unet.model import UNet


def save_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> str:
    """SHA-256 of the file `path` that now holds `tensors`, written whole or not at all."""
    content = save({name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}, metadata)
    temporary = path.with_name(f".{path.name}.part")
    temporary.unlink(missing_ok=True)
    with temporary.open("xb") as file:  # x: never through a link
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    return sha256(content).hexdigest()


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors in `path`, on the CPU, and its metadata. Raises ValueError when it is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path.name} is damaged: {error}") from error


def save_weights(networks: Sequence[UNet], path: Path) -> str:
    """SHA-256 of the file `path` that now holds the weights of all `networks`: of number i under the prefix `i.`."""
    states = [network.state_dict() for network in networks]
    return save_tensors({f"{i}.{name}": state[name] for i, state in enumerate(states) for name in state}, path)


def load_weights(config: UNetConfig, path: Path, checksum: str) -> list[UNet]:
    """The networks of `config` with the weights in `path`, in evaluation mode.

    Raises ValueError when the file's SHA-256 is not `checksum`, or its tensors are not those of such networks.
    """
    content = path.read_bytes()
    found = sha256(content).hexdigest()
    if found != checksum:
        raise ValueError(f"{path.name} has SHA-256 {found[:12]}…, its model.json says {checksum[:12]}…")
    members: dict[str, dict[str, Tensor]] = {}
    networks = []
    try:
        for name, tensor in load(content).items():
            member, _, rest = name.partition(".")
            members.setdefault(member, {})[rest] = tensor
        for member in sorted(members, key=int):
            networks.append(UNet(config))
            networks[-1].load_state_dict(members[member])
    except (SafetensorError, RuntimeError, ValueError) as error:
        raise ValueError(f"{path.name} does not hold the weights of the network in model.json: {error}") from error
    return [network.eval() for network in networks]
