"""A results folder as nnU-Net v2 writes it, with tiny networks of known weights: the layout of its files, typed in."""

import json
import math
from pathlib import Path
from zlib import crc32

import numpy as np
import torch

HEAD = ((1.0, -0.5), (-0.6, 0.9), (0.2, -1.1))
HEAD_BIAS = {
    ("PlainConvUNet", 3): (-0.75, 0.45, -0.11),
    ("ResidualEncoderUNet", 3): (-0.79, 0.47, -0.12),
    ("PlainConvUNet", 2): (-0.75, 0.45, -0.11),
}
"""Of background, head and body: so that each is somewhere in the mask of the test's scan."""
RESAMPLING = {"order_z": 0, "force_separate_z": None}
DATASET = {
    "channel_names": {"0": "MRI"},
    "labels": {"background": 0, "head": 1, "body": 2},
    "numTraining": 2,
    "file_ending": ".nii.gz",
}


def architecture(name: str, dimensions: int) -> dict:
    """Two levels of 2 and 3 maps, the first with thin kernels where there are three axes."""
    counts = {"PlainConvUNet": "n_conv_per_stage", "ResidualEncoderUNet": "n_blocks_per_stage"}[name]
    return {
        "network_class_name": f"dynamic_network_architectures.architectures.unet.{name}",
        "arch_kwargs": {
            "n_stages": 2,
            "features_per_stage": [2, 3],
            "conv_op": f"torch.nn.modules.conv.Conv{dimensions}d",
            "kernel_sizes": [[1, 3, 3][-dimensions:], [3, 3, 3][-dimensions:]],
            "strides": [[1, 1, 1][-dimensions:], [1, 2, 2][-dimensions:]],
            counts: [1, 2],
            "n_conv_per_stage_decoder": [1],
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dimensions}d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def plans(name: str = "PlainConvUNet", dimensions: int = 3) -> dict:
    """The plans of one configuration, `3d_fullres` or `2d`, whose network sees (y, z, x)."""
    configuration = {
        "data_identifier": "nnUNetPlans",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [6, 4, 8][-dimensions:],
        "median_image_size_in_voxels": [12, 6, 10][-dimensions:],
        "spacing": [1.2, 4.0, 0.9][-dimensions:],
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [True],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, **RESAMPLING},
        "resampling_fn_seg_kwargs": {"is_seg": True, "order": 1, **RESAMPLING},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {"is_seg": False, "order": 1, **RESAMPLING},
        "architecture": architecture(name, dimensions),
        "batch_dice": True,
    }
    return {
        "dataset_name": "Dataset999_Tiny",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [1.2, 4.0, 0.9],
        "original_median_shape_after_transp": [12, 6, 10],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [1, 0, 2],
        "transpose_backward": [1, 0, 2],
        "configurations": {"3d_fullres" if dimensions == 3 else "2d": configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            "0": {"mean": 60.0, "std": 30.0, "percentile_00_5": 5.0, "percentile_99_5": 110.0}
        },
    }


def shapes(name: str, dimensions: int) -> dict[str, tuple[int, ...]]:
    """The tensors of such a network, by nnU-Net's names."""
    thin, thick, one, pool = (sizes[-dimensions:] for sizes in ((1, 3, 3), (3, 3, 3), (1, 1, 1), (1, 2, 2)))
    if name == "PlainConvUNet":
        convolutions = {
            "encoder.stages.0.0.convs.0": (2, 1, *thin),
            "encoder.stages.1.0.convs.0": (3, 2, *thick),
            "encoder.stages.1.0.convs.1": (3, 3, *thick),
        }
    else:
        convolutions = {
            "encoder.stem.convs.0": (2, 1, *thin),
            "encoder.stages.0.blocks.0.conv1": (2, 2, *thin),
            "encoder.stages.0.blocks.0.conv2": (2, 2, *thin),
            "encoder.stages.1.blocks.0.conv1": (3, 2, *thick),
            "encoder.stages.1.blocks.0.conv2": (3, 3, *thick),
            "encoder.stages.1.blocks.0.skip.1": (3, 2, *one),
            "encoder.stages.1.blocks.1.conv1": (3, 3, *thick),
            "encoder.stages.1.blocks.1.conv2": (3, 3, *thick),
        }
    convolutions["decoder.stages.0.convs.0"] = (2, 4, *thin)
    found: dict[str, tuple[int, ...]] = {}
    for place, shape in convolutions.items():
        found[f"{place}.conv.weight"] = shape
        if ".skip." not in place:
            found[f"{place}.conv.bias"] = shape[:1]
        found |= {f"{place}.norm.weight": shape[:1], f"{place}.norm.bias": shape[:1]}
    found |= {"decoder.transpconvs.0.weight": (3, 2, *pool), "decoder.transpconvs.0.bias": (2,)}
    return found | {"decoder.seg_layers.0.weight": (3, 2, *one), "decoder.seg_layers.0.bias": (3,)}


def weights(name: str = "PlainConvUNet", dimensions: int = 3, seed: int = 0) -> dict[str, torch.Tensor]:
    """Numbers that follow from the names alone; also under the second name that nnU-Net saves each of some under."""
    found = {}
    for key, shape in shapes(name, dimensions).items():
        pace = 1 + (crc32(key.encode()) + seed) % 1000 / 1000
        numbers = torch.cos(torch.arange(math.prod(shape), dtype=torch.float64) * pace) * 0.7
        found[key] = numbers.reshape(shape).float()
    found["decoder.seg_layers.0.weight"] = torch.tensor(HEAD).reshape(3, 2, *[1] * dimensions)
    found["decoder.seg_layers.0.bias"] = torch.tensor(HEAD_BIAS[name, dimensions])
    found["decoder.encoder." + next(iter(found)).removeprefix("encoder.")] = next(iter(found.values()))
    return found


def checkpoint(tensors: dict[str, torch.Tensor], configuration: str, **more: object) -> dict:
    """What nnU-Net's trainer saves, logs with numpy's numbers included."""
    return {
        "network_weights": tensors,
        "optimizer_state": {"state": {}, "param_groups": [{"lr": 0.01}]},
        "grad_scaler_state": None,
        "logging": {"mean_fg_dice": [np.float64(0.5)], "train_losses": [np.float32(1.5)], "epochs": [np.int64(3)]},
        "_best_ema": np.float64(0.5),
        "current_epoch": 1,
        "init_args": {"configuration": configuration, "fold": 0, "device": torch.device("cpu")},
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1, 2)[: 3 if configuration == "3d_fullres" else 2],
        **more,
    }


def write_nnunet(
    folder: Path, name: str = "PlainConvUNet", dimensions: int = 3, folds: tuple[object, ...] = (0,)
) -> Path:
    """`folder`, which now holds such a model."""
    configuration = "3d_fullres" if dimensions == 3 else "2d"
    write_json(folder, plans(name, dimensions), DATASET)
    for number, fold in enumerate(folds):
        save(folder, fold, checkpoint(weights(name, dimensions, seed=number), configuration))
    return folder


def write_json(folder: Path, plans: dict, dataset: dict) -> None:
    """Both descriptions in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset))


def save(folder: Path, fold: object, content: object) -> Path:
    """The checkpoint of `fold`."""
    path = folder / f"fold_{fold}" / "checkpoint_final.pth"
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return path
