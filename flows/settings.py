"""The settings of a run: one record, composed of the configurations of the stages, from one TOML file and flags."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from tasks.evaluate import EvaluationConfig
from tasks.export import ExportConfig
from tasks.infer import InferenceConfig
from tasks.ingest import IngestConfig
from tasks.pool_config import PoolConfig
from tasks.scan.errors import UnknownSetting
from tasks.scan.records import FORBID_UNKNOWN
from tasks.train import PlanConfig, TrainConfig

S = TypeVar("S")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings of `segment-cohort`."""

    __pydantic_config__ = FORBID_UNKNOWN

    references: Path | None = None
    """Folder with one label map a case; None: those that the cohort itself names."""
    shard: int = 200
    """Cases that pass through the stages together; one Prefect task a stage and shard."""
    until: str | None = None
    """HH:MM, local time: no case is begun that would not be done by then; the rest is carried over."""
    retry: bool = False
    """Try again what was quarantined, though neither scan, settings nor code changed since."""
    worse_dice: float = 0.01
    """By how much the Dice of a label may fall before `delta.csv` calls its case worse."""
    ingest: IngestConfig = field(default_factory=IngestConfig)
    inference: InferenceConfig = field(default_factory=InferenceConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    export: ExportConfig = field(default_factory=ExportConfig)
    pool: PoolConfig = field(default_factory=PoolConfig)

    def __post_init__(self) -> None:
        if self.shard < 1:
            raise ValueError("shard must be at least 1")
        if self.until is not None and not re.fullmatch("([01][0-9]|2[0-3]):[0-5][0-9]", self.until):
            raise ValueError(f"until is a time like 06:00, not '{self.until}'")
        if not 0 <= self.worse_dice <= 1:
            raise ValueError(f"worse_dice is between 0 and 1, not {self.worse_dice:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """Settings of `train-unet`."""

    __pydantic_config__ = FORBID_UNKNOWN

    folds: Path | None = None
    """CSV with the columns case and fold; None: train on all cases."""
    fold: int | None = None
    """The fold that is held out, and scored when the model is there; None: each in turn, for an ensemble."""
    resume: bool = False
    """Go on from the last checkpoint in the output folder."""
    training: TrainConfig = field(default_factory=TrainConfig)
    plan: PlanConfig = field(default_factory=PlanConfig)
    run: Settings = field(default_factory=Settings)
    """How the held-out cases are segmented, and which processes prepare the training cases."""

    def __post_init__(self) -> None:
        if self.folds is None and self.fold is not None:
            raise ValueError("fold needs folds")


def load_settings(kind: type[S], file: Path | None, flags: Mapping[str, Any]) -> S:
    """Settings of `kind` from a TOML `file`, then from `flags` (nested as the record is; None: not given).

    Raises UnknownSetting, naming the setting, when one does not exist or cannot have its value.
    """
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8")) if file else {}
    except (OSError, ValueError, RecursionError) as error:  # ValueError: no TOML, or no text in UTF-8
        raise UnknownSetting(f"settings '{file}': {error}; it must be TOML in UTF-8, as in docs/settings.md") from error
    try:
        return TypeAdapter(kind).validate_python(_merged(content, flags))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "settings"
        raise UnknownSetting(f"{place}: {first['msg']}; docs/settings.md lists what there is") from error


def _merged(content: Mapping[str, Any], flags: Mapping[str, Any]) -> dict[str, Any]:
    """`content` with every flag that was given in its place; a value where a table belongs stays, to be refused."""
    merged = dict(content)
    for key, value in flags.items():
        if isinstance(value, Mapping):
            below = merged.get(key, {})
            merged[key] = _merged(below, value) if isinstance(below, Mapping) else below
        elif value is not None:
            merged[key] = value
    return merged
