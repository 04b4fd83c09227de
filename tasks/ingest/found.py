"""What a look at the cohort's files gives: cases to read, and files that are none."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tasks.scan.records import FORBID_UNKNOWN, Case, Outcome, Source

MOST_VOXELS = 2_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestConfig:
    """What is let in."""

    __pydantic_config__ = FORBID_UNKNOWN

    tilt: Literal["refuse", "shear"] = "refuse"
    """A DICOM series with gantry tilt is quarantined, or moved onto an upright grid, where its mask then lies."""
    settle_seconds: float = 2.0
    """A file younger than this is looked at twice, this far apart; one that changed between is still being written."""
    most_voxels: int = MOST_VOXELS
    """A scan whose header claims more is refused before anything is allocated: 8 GB in float32."""
    follow_links: bool = False
    """Read what a link leads to outside of the cohort, and say so; false: set the link aside."""
    volume: int | None = None
    """Of a NIfTI file of several volumes, the one to segment, counted from 0; None: such a file is quarantined."""
    key: Path | None = None
    """File with the secret behind the names of cases that must not tell the patient; None: one that is made once."""

    def __post_init__(self) -> None:
        if not 0 <= self.settle_seconds < float("inf"):
            raise ValueError("settle_seconds must be 0 or more")
        if self.most_voxels < 1:
            raise ValueError("most_voxels must be at least 1")
        if self.volume is not None and self.volume < 0:
            raise ValueError("volume must be 0 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One case, before its headers were checked: it may yet turn out to be unreadable, but it will be reported."""

    name: str
    image: Source
    reference: Source | None = None
    warnings: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    """The channels that were found, where they are not those that are `needed`."""
    needed: tuple[str, ...] = ()
    scans: int = 1
    """How many scans lie in the folder that a manifest names: more than one are refused."""
    groups: dict[str, str] = field(default_factory=dict)
    """What the manifest or layout says beside: subject, session, site, scanner …"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAside:
    """A file or folder that is no case, and why: in words, of which those before `:` or `,` always stay the same."""

    path: Path
    reason: str
    dicom: bool = False
    """A DICOM object: its path may be made of what its header says of the patient."""

    @property
    def code(self) -> str:
        """The stable code of the reason.

        >>> SetAside(path=Path("scans.zip"), reason="an archive: unpack it").code
        'archive'
        """
        words = re.sub(r"^(a|an) ", "", re.split("[:,]", self.reason)[0])
        return re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """What a cohort holds: an outcome for every case, and the files that are none."""

    cases: tuple[Outcome[Case], ...]
    set_aside: tuple[SetAside, ...]
