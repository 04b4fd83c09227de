"""nnU-Net 2.8.1's own masks, for `benchmarks/nnunet_model.py`: COHORT.csv FOLDER OUTPUT [--mirror]."""

from __future__ import annotations

import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from benchmarks.inference_peer import arguments, cases


def main() -> None:
    """Write one mask a case."""
    given = arguments()
    rows = cases(given.cohort)
    predictor = nnUNetPredictor(use_mirroring=given.mirror, device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(given.model), None)
    predictor.predict_from_files(
        [[image] for _, image in rows],
        [str(given.output / name) for name, _ in rows],
        num_processes_preprocessing=1,
        num_processes_segmentation_export=1,
    )


if __name__ == "__main__":
    main()
