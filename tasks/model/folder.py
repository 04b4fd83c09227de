"""A model on disk: `model.safetensors` and `model.json`, how they are written and read; or a folder of nnU-Net's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from tasks.model.nnunet import is_nnunet, load_nnunet_networks, read_nnunet
from tasks.model.records import DESCRIPTION, WEIGHTS, Model
from tasks.scan.errors import CheckpointMismatch, ModelNotFound
from tasks.scan.files import write_whole
from unet import UNet, load_weights, save_weights

FORMAT = 2
_ADAPTER = TypeAdapter(Model)


def save_model(model: Model, networks: Sequence[UNet], folder: Path) -> Model:
    """`model` with the checksum of the weights just written to `folder`; the description is written last.

    Several networks are an ensemble: inference averages their logits.
    """
    folder.mkdir(parents=True, exist_ok=True)
    checksum = save_weights(networks, folder / WEIGHTS)
    values = {name: getattr(model, name) for name in Model.__slots__}
    saved = Model(**{**values, "weights_sha256": checksum})
    write_whole(folder / DESCRIPTION, _ADAPTER.dump_json(saved, indent=1))
    return saved


def read_model(folder: Path) -> Model:
    """The description of the model in `folder`, ours or nnU-Net's.

    Raises ModelNotFound, CheckpointMismatch, or UnsupportedModel for one of nnU-Net's that cannot be honoured.
    """
    path = folder / DESCRIPTION
    if not path.is_file() and is_nnunet(folder):
        try:
            return read_nnunet(folder)
        except ValueError as error:  # of the record of a model
            raise CheckpointMismatch(f"model '{folder}': {error}") from error
    if not path.is_file() or not (folder / WEIGHTS).is_file():
        raise ModelNotFound(
            f"no model in '{folder}': it needs {DESCRIPTION} and {WEIGHTS}; train one with `segment-cohort train`, "
            "or name a results folder of nnU-Net v2"
        )
    try:
        return _ADAPTER.validate_json(path.read_bytes())
    except ValidationError as error:
        raise CheckpointMismatch(f"{path} is not a model of this version: {_say_why(error)}") from error


def _say_why(error: ValidationError) -> str:
    """Where a description is not as it must be, and what to do; of one of another format, that alone."""
    errors = error.errors()
    if of_format := next((one for one in errors if one["loc"] == ("format",)), None):
        found = of_format["input"]
        return f"format: it is {found!r}, this one reads {FORMAT}; use the version that wrote it, or train anew"
    place = ".".join(str(part) for part in errors[0]["loc"]) or "model"
    return f"{place}: {errors[0]['msg']}; copy the folder again, or train anew"


def load_networks(model: Model, folder: Path) -> list[UNet]:
    """The trained networks of `model`, in evaluation mode. Raises CheckpointMismatch when the files do not fit."""
    if model.plan.nnunet:
        return load_nnunet_networks(model, folder)
    try:
        return load_weights(model.plan.network, folder / WEIGHTS, model.weights_sha256)
    except ValueError as error:
        raise CheckpointMismatch(f"model '{folder}': {error}; copy the whole folder again, or train anew") from error
