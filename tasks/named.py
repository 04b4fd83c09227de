"""Functions that other processes call. Known by name here, so that what they need is imported there and nowhere else.

A process that plans a night, and hands its cases to others, would need a second to import readers of scans, and one and
a half for torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True, slots=True)
class Named:
    """The function `name` of `module`, which is imported where it is called."""

    module: str
    name: str

    def __call__(self, *arguments: Any) -> Any:
        """What the function returns."""
        return getattr(import_module(self.module), self.name)(*arguments)
