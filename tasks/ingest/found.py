"""What a look at the cohort's files gives: cases to read, and files that are none."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tasks.scan.records import FORBID_UNKNOWN, Source


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestConfig:
    """What is let in."""

    __pydantic_config__ = FORBID_UNKNOWN

    tilt: Literal["refuse", "shear"] = "refuse"
    """A DICOM series with gantry tilt is quarantined, or moved onto an upright grid, where its mask then lies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One case, before its headers were checked: it may yet turn out to be unreadable, but it will be reported."""

    name: str
    image: Source
    reference: Source | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAside:
    """A file or folder that is no case, and why."""

    path: Path
    reason: str
