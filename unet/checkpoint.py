"""Weights on disk as safetensors, which hold numbers only: loading one never runs code."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save

from unet.model import UNet, UNetConfig


def save_weights(network: UNet, path: Path) -> str:
    """SHA-256 of the file `path` that now holds the weights of `network`, written whole or not at all."""
    content = save({name: tensor.contiguous().cpu() for name, tensor in network.state_dict().items()})
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_bytes(content)
    temporary.replace(path)
    return sha256(content).hexdigest()


def load_weights(config: UNetConfig, path: Path, checksum: str) -> UNet:
    """The network of `config` with the weights in `path`, in evaluation mode.

    Raises ValueError when the file's SHA-256 is not `checksum`, or its tensors are not those of the network.
    """
    content = path.read_bytes()
    found = sha256(content).hexdigest()
    if found != checksum:
        raise ValueError(f"{path.name} has SHA-256 {found[:12]}…, its model.json says {checksum[:12]}…")
    network = UNet(config)
    try:
        network.load_state_dict(load(content))
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(f"{path.name} does not hold the weights of the network in model.json: {error}") from error
    return network.eval()
