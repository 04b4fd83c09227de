"""How segmentations are compared with references."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tasks.scan.errors import UnknownSetting
from tasks.scan.records import FORBID_UNKNOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationConfig:
    """How segmentations are compared with references."""

    __pydantic_config__ = FORBID_UNKNOWN

    nsd_tolerance_mm: float = 1.0
    """How far apart two surfaces may be and still agree, for the normalised surface Dice."""
    nsd_tolerance_mm_of: Mapping[str, float] = field(default_factory=dict)
    """The tolerance of single labels, by name, where it is another."""

    def __post_init__(self) -> None:
        if not all(tolerance > 0 for tolerance in (self.nsd_tolerance_mm, *self.nsd_tolerance_mm_of.values())):
            raise ValueError("nsd_tolerance_mm must be above 0")

    def tolerances_mm(self, labels: Mapping[int, str]) -> dict[int, float]:
        """The tolerance of each of `labels` (name by value). Raises UnknownSetting for a name that none of them has."""
        unknown = sorted(set(self.nsd_tolerance_mm_of) - set(labels.values()))
        if unknown:
            known = ", ".join(sorted(labels.values()))
            raise UnknownSetting(
                f"evaluation.nsd_tolerance_mm_of: no label is called {unknown[0]!r}; there are {known}"
            )
        return {value: self.nsd_tolerance_mm_of.get(name, self.nsd_tolerance_mm) for value, name in labels.items()}
