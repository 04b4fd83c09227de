"""nnU-Net 2.8.1 on a cohort: its predictor, its preprocessing and export processes, and the plan of our model."""

from __future__ import annotations

import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from benchmarks.inference_peer import arguments, cases, description, network

RESAMPLING = {
    "is_seg": False,
    "order": 3,
    "order_z": 0,
    "force_separate_z": None,
}


def main() -> None:
    """Write one mask a case."""
    given = arguments()
    described = description(given.model)
    plans = PlansManager(plans_of(described["plan"]))
    predictor = nnUNetPredictor(
        tile_step_size=0.5,
        use_gaussian=True,
        use_mirroring=given.mirror,
        perform_everything_on_device=False,
        device=torch.device("cpu"),
        allow_tqdm=False,
    )
    net = network(given.model)
    labels = {"background": 0} | {name: int(value) for value, name in described["labels"].items()}
    predictor.manual_initialization(
        net,
        plans,
        plans.get_configuration("3d_fullres"),
        [net.state_dict()],
        {"channel_names": {"0": "MRI"}, "labels": labels, "file_ending": ".nii.gz", "numTraining": 1},
        "nnUNetTrainer",
        (0, 1, 2),
    )
    named = cases(given.cohort)
    predictor.predict_from_files(
        [[image] for _, image in named],
        [str(given.output / name) for name, _ in named],
        num_processes_preprocessing=2,
        num_processes_segmentation_export=2,
    )


def plans_of(plan: dict) -> dict:
    """nnU-Net's plans for our plan; it reads (z, y, x), which is transposed to our order."""
    configuration = {
        "data_identifier": "plans",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": plan["patch"],
        "median_image_size_in_voxels": plan["patch"],
        "spacing": plan["spacing_mm"],
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": RESAMPLING,
        "resampling_fn_seg_kwargs": RESAMPLING | {"is_seg": True, "order": 1},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": RESAMPLING | {"order": 1},
        "architecture": {"network_class_name": "", "arch_kwargs": {}, "_kw_requires_import": []},
        "batch_dice": True,
    }
    return {
        "dataset_name": "Dataset004_Hippocampus",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": plan["spacing_mm"],
        "original_median_shape_after_transp": plan["patch"],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [2, 1, 0],
        "transpose_backward": [2, 1, 0],
        "configurations": {"3d_fullres": configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": {}},
    }


if __name__ == "__main__":
    main()
