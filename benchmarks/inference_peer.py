"""What the peers' scripts share: the command line, the cohort, and the network with our model's weights."""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

from unet import UNet, UNetConfig, load_weights


def arguments() -> argparse.Namespace:
    """Cohort, model, output, mirror."""
    parser = argparse.ArgumentParser()
    for name in ("cohort", "model", "output"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--mirror", action="store_true")
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    return given


def cases(cohort: Path) -> list[tuple[str, str]]:
    """Name and image of each case."""
    with cohort.open() as file:
        return [(row["case"], row["image"]) for row in csv.DictReader(file)]


def description(model: Path) -> dict[str, Any]:
    """`model.json`."""
    content: dict[str, Any] = json.loads((model / "model.json").read_text())
    return content


def network(model: Path) -> UNet:
    """The first network of the model."""
    described = description(model)
    fields = {
        name: tuple(tuple(part) if isinstance(part, list) else part for part in value)
        if isinstance(value, list)
        else value
        for name, value in described["plan"]["network"].items()
    }
    return load_weights(UNetConfig(**fields), model / "model.safetensors", described["weights_sha256"])[0]
