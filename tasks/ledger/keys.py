"""What each stage's result depends on beside the scan: the recipe; and the key that scan and recipe give together."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any

from tasks.evaluate import EvaluationConfig
from tasks.export import ExportConfig
from tasks.infer import InferenceConfig, Opened
from tasks.ledger.code import code_of

STAGES = ("preprocess", "infer", "postprocess", "evaluate")
MASK_STAGE = "postprocess"
"""The last stage that the mask depends on."""
_CODE = {
    "preprocess": "tasks.preprocess",
    "infer": "tasks.infer.case",
    "postprocess": "tasks.postprocess",
    "evaluate": "tasks.evaluate.evaluate",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Settings, weights and code that a stage's result depends on, by dotted name, and their checksum."""

    ingredients: Mapping[str, str]
    sha256: str


Recipes = Mapping[str, Recipe]
"""The recipe of each of `STAGES`."""


def describe_recipes(
    opened: Opened, inference: InferenceConfig, evaluation: EvaluationConfig, export: ExportConfig
) -> dict[str, Recipe]:
    """Tonight's recipes."""
    model, resolved = opened.model, asdict(inference) | asdict(opened.machine)
    parts: dict[str, dict[str, Any]] = {
        "preprocess": {"plan": asdict(model.plan), "fingerprint": model.fingerprint},
        "infer": {"model": {"weights_sha256": model.weights_sha256}, "inference": resolved},
        "postprocess": {
            "model": {
                "slice_order": asdict(model.slice_order),
                "keep_largest": asdict(model.keep_largest),
                "labels": model.labels,
            }
        },
        "evaluate": {"evaluation": asdict(evaluation), "export": asdict(export)},
    }
    return {stage: _recipe({**parts[stage], "code": code_of(_CODE[stage])}) for stage in STAGES}


def chain(content: str, recipes: Recipes, reference: str) -> dict[str, str]:
    """The key of each stage for a scan of that `content`: each holds the one before. `reference` counts for the last.

    Of a case whose content could not be read, `content` is something else that says which bytes it was.
    """
    keys: dict[str, str] = {}
    before = content
    for stage in STAGES:
        beside = reference if stage == "evaluate" else ""
        before = keys[stage] = sha256("\0".join((before, recipes[stage].sha256, beside)).encode()).hexdigest()
    return keys


def differences(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """The names of the ingredients in which two recipes of a stage differ."""
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def _recipe(parts: Mapping[str, Any]) -> Recipe:
    ingredients = dict(sorted(_leaves(parts, "").items()))
    return Recipe(ingredients=ingredients, sha256=sha256(json.dumps(ingredients).encode()).hexdigest())


def _leaves(parts: Mapping[Any, Any], above: str) -> dict[str, str]:
    """The leaves of nested mappings as texts, under dotted names; of an empty one, that it is empty."""
    leaves: dict[str, str] = {}
    for key, part in parts.items():
        if isinstance(part, Mapping) and part:
            leaves |= _leaves(part, f"{above}{key}.")
        else:
            leaves[f"{above}{key}"] = repr(part)
    return leaves
