"""A results folder of nnU-Net v2 as a model of this program: `dataset.json`, `plans.json`, a checkpoint for each fold.

Its folds are an ensemble, as they are for nnU-Net; `fold_all` counts where there is no other. Nothing is written: the
folder is translated each time that it is opened.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tasks.model.nnunet_plan import (
    check_resampling,
    configuration_of,
    labels_of,
    network_axes,
    order_of,
    translated_plan,
)
from tasks.model.nnunet_weights import Checkpoint, has_batch_norms, read_checkpoint, to_network
from tasks.model.records import Model
from tasks.scan.errors import CheckpointMismatch, ModelNotFound
from tasks.scan.files import hash_files
from unet import UNet

PLANS, DATASET, CHECKPOINT = "plans.json", "dataset.json", "checkpoint_final.pth"


def is_nnunet(folder: Path) -> bool:
    """Whether `folder` is one that nnU-Net's training wrote, or holds such folders."""
    return (folder / PLANS).is_file() or bool(_beside(folder))


def read_nnunet(folder: Path) -> Model:
    """The model in `folder`. Raises ModelNotFound, CheckpointMismatch or UnsupportedModel."""
    checkpoints = _checkpoints(folder)
    members = [read_checkpoint(path) for path in checkpoints]
    _check_alike(members, checkpoints)
    plans, dataset = _read_json(folder / PLANS), _read_json(folder / DATASET)
    first = members[0]
    try:
        configuration = configuration_of(plans, first.configuration)
        check_resampling(configuration)
        plan = translated_plan(
            plans, configuration, dataset, first.mirror_axes, batch_norms=has_batch_norms(first.weights)
        )
        labels = labels_of(dataset)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise CheckpointMismatch(
            f"'{folder}': {PLANS} or {DATASET} is not as nnU-Net v2 writes it ({type(error).__name__}: {error}); "
            "copy the folder again"
        ) from error
    return Model(
        plan=plan,
        labels=labels,
        weights_sha256=hash_files(checkpoints),
        training={"by": "nnU-Net", "configuration": first.configuration, "plans": plans.get("plans_name")},
    )


def load_nnunet_networks(model: Model, folder: Path) -> list[UNet]:
    """The networks in `folder`, one for each fold, in evaluation mode. Raises CheckpointMismatch."""
    checkpoints = _checkpoints(folder)
    if hash_files(checkpoints) != model.weights_sha256:
        raise CheckpointMismatch(f"the checkpoints in '{folder}' changed while they were in use; run again")
    axes = network_axes(_read_json(folder / PLANS))
    order = order_of(axes[-model.plan.network.dimensions :])
    return [to_network(model.plan.network, read_checkpoint(path).weights, order, path) for path in checkpoints]


def _checkpoints(folder: Path) -> list[Path]:
    """The last checkpoint of each fold, in the order of the folds. Raises ModelNotFound."""
    if not (folder / PLANS).is_file():
        names = ", ".join(f"'{path.name}'" for path in _beside(folder))
        raise ModelNotFound(f"'{folder}' holds several models of nnU-Net ({names}); name one of these folders")
    found = {path.parent.name.removeprefix("fold_"): path for path in folder.glob(f"fold_*/{CHECKPOINT}")}
    folds = sorted((fold for fold in found if fold.isdecimal()), key=int)
    if not found or not (folder / DATASET).is_file():
        raise ModelNotFound(
            f"no trained model of nnU-Net in '{folder}': it needs {DATASET}, {PLANS} and fold_0/{CHECKPOINT}, which "
            "nnU-Net writes when a training ends"
        )
    return [found[fold] for fold in folds or sorted(found)]


def _beside(folder: Path) -> list[Path]:
    """The folders in `folder` that nnU-Net's trainings wrote."""
    return sorted(path.parent for path in folder.glob(f"*/{PLANS}"))


def _check_alike(members: list[Checkpoint], paths: list[Path]) -> None:
    for member, path in zip(members, paths, strict=True):
        if (member.configuration, member.mirror_axes) != (members[0].configuration, members[0].mirror_axes):
            raise CheckpointMismatch(
                f"{path} was trained as '{member.configuration}', {paths[0]} as '{members[0].configuration}', or "
                "mirrored otherwise: they are no ensemble; keep the folds of one training in a folder"
            )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointMismatch(f"{path} cannot be read ({error}); copy the folder again") from error
    return content
