"""Flags that several sub-commands share, as the settings nest them."""

from __future__ import annotations

from argparse import Namespace
from typing import Any


def pool_flags(arguments: Namespace) -> dict[str, Any]:
    """The settings of the Dask pool; None where a flag was not given."""
    return {"workers": arguments.workers, "address": arguments.dask}
