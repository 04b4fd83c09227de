"""nnU-Net 2.8.1's own masks, for `benchmarks/nnunet_model.py`: FOLDER COHORT.csv OUTPUT [--mirror]."""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor


def main() -> None:
    """Write one mask a case."""
    arguments = argparse.ArgumentParser()
    for name in ("folder", "cohort", "output"):
        arguments.add_argument(name, type=Path)
    arguments.add_argument("--mirror", action="store_true")
    given = arguments.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    with given.cohort.open() as file:
        rows = [(row["case"], row["image"]) for row in csv.DictReader(file)]
    predictor = nnUNetPredictor(use_mirroring=given.mirror, device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(given.folder), None)
    predictor.predict_from_files(
        [[image] for _, image in rows],
        [str(given.output / name) for name, _ in rows],
        num_processes_preprocessing=1,
        num_processes_segmentation_export=1,
    )


if __name__ == "__main__":
    main()
