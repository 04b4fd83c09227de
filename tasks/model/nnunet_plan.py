"""nnU-Net's plans for one configuration, in this program's words and order of axes; what it cannot honour is refused.

nnU-Net's arrays are (z, y, x), which its plans may transpose once more. Here everything is turned to (x, y, z) instead,
the network's kernels too, so that no stage knows of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tasks.model.records import NnunetRules, Plan, Scheme, Window
from tasks.scan.errors import UnsupportedModel
from tasks.scan.records import Shape
from unet import AugmentConfig, UNetConfig

Json = Mapping[str, Any]
SLICES_VOXELS = 2**19
"""Of a 2-D network, as many slices pass at once as have about this many voxels together."""
_READERS = {
    "SimpleITKIO": True,
    "NibabelIO": True,
    "SimpleITKIOWithReorient": False,
    "NibabelIOWithReorient": False,
}
"""Whether what reads a scan for nnU-Net leaves the axes as the file has them; otherwise they are turned to RAS+."""
_SCHEMES: Mapping[str, Scheme] = {
    "NoNormalization": "none",
    "RescaleTo01Normalization": "unit",
    "RescaleTo01": "unit",
}
_ARCHITECTURES = {"PlainConvUNet": "n_conv_per_stage", "ResidualEncoderUNet": "n_blocks_per_stage"}
_ACTIVATIONS = {"LeakyReLU": "leaky", "ReLU": "relu"}
_EXPECTED: Mapping[str, tuple[Any, ...]] = {
    "norm_op_kwargs": ({"eps": 1e-5, "affine": True},),
    "nonlin_kwargs": ({"inplace": True}, {}, None),
    "nonlin_first": (False,),
    "block": (None, "dynamic_network_architectures.building_blocks.residual.BasicBlockD"),
    "bottleneck_channels": (None,),
    "stem_channels": (None,),
}
"""The only values of these that are known here; where they are missing, they have one of them."""
_READ = frozenset(
    (
        "n_stages",
        "features_per_stage",
        "conv_op",
        "kernel_sizes",
        "strides",
        "n_conv_per_stage",
        "n_blocks_per_stage",
        "conv_bias",
        "norm_op",
        "n_conv_per_stage_decoder",
        "dropout_op",
        "dropout_op_kwargs",
        "nonlin",
        "deep_supervision",
    )
)
"""What of a network's description is used here, or (dropout, deep supervision) does nothing at inference."""


def configuration_of(plans: Json, name: str) -> dict[str, Any]:
    """The configuration `name` of `plans`, with what it inherits. Raises UnsupportedModel."""
    found = plans["configurations"].get(name)
    if found is None:
        raise UnsupportedModel(f"plans.json has no configuration '{name}', which the checkpoint was trained with")
    parent = found.get("inherits_from")
    inherited = configuration_of({"configurations": _without(plans["configurations"], name)}, parent) if parent else {}
    merged = {**inherited, **found}
    if merged.get("previous_stage"):
        raise UnsupportedModel(
            f"configuration '{name}' is the second stage of a cascade, which needs masks of "
            f"'{merged['previous_stage']}'; name the folder of '3d_fullres' or of '{merged['previous_stage']}'"
        )
    return merged


def network_axes(plans: Json) -> tuple[int, ...]:
    """For each axis of nnU-Net's network, which one of the scan's (x, y, z) it is."""
    return tuple(2 - axis for axis in plans["transpose_forward"])


def order_of(axes: Sequence[int]) -> tuple[int, ...]:
    """For each of `axes`, in ascending order, its place in `axes`."""
    return tuple(axes.index(axis) for axis in sorted(axes))


def translated_plan(
    plans: Json, configuration: Json, dataset: Json, mirrored: Sequence[int], *, batch_norms: bool
) -> Plan:
    """The plan of `configuration`; `mirrored` are the network's axes that training mirrored.

    Raises UnsupportedModel for what this program has no word for.
    """
    axes, dimensions = network_axes(plans), len(configuration["patch_size"])
    flat = dimensions == 2
    used = axes[1:] if flat else axes
    channels = len(dataset.get("channel_names") or dataset["modality"])
    network = network_config(architecture_of(configuration), order_of(used), channels, len(labels_of(dataset)) + 1)
    patch, spacing = list(configuration["patch_size"]), list(configuration["spacing"])
    if flat:
        patch = [max(1, SLICES_VOXELS // (patch[0] * patch[1])), *patch]
        spacing = [plans["original_median_spacing_after_transp"][0], *spacing]
    return Plan(
        network=replace(network, normalisation="batch") if batch_norms else network,
        spacing_mm=tuple(float(length) for length in _turned(spacing, axes)),  # type: ignore[arg-type]
        patch=_shape(_turned(patch, axes)),
        batch_size=configuration["batch_size"],
        augment=AugmentConfig(mirror_axes=tuple(sorted(used[axis] for axis in mirrored))),
        slice_axis=axes[0] if flat else None,
        nnunet=NnunetRules(schemes=_schemes(plans, configuration, channels), stored_axes=_stored_axes(plans)),
        further_windows=(None,) * (channels - 1),
    )


def labels_of(dataset: Json) -> dict[int, str]:
    """Names of the foreground labels, by value. Raises UnsupportedModel."""
    named = {name: value for name, value in dataset["labels"].items() if name != "ignore"}
    regions = [name for name, value in named.items() if isinstance(value, list) and len(value) > 1]
    if regions:
        raise UnsupportedModel(
            f"dataset.json has regions ('{regions[0]}' is of several labels), which overlap: one label a voxel cannot "
            "say that; train on the labels themselves"
        )
    values = {int(value[0] if isinstance(value, list) else value): str(name) for name, value in named.items()}
    if sorted(values) != list(range(len(values))):
        raise UnsupportedModel(f"dataset.json has the labels {sorted(values)}; nnU-Net needs 0, 1, 2 … without a gap")
    return {value: name for value, name in sorted(values.items()) if value}


def check_resampling(configuration: Json) -> None:
    """Nothing, if scans and logits are resampled as nnU-Net does by default. Raises UnsupportedModel."""
    expected = {
        "resampling_fn_data": (3, "resampling_fn_data_kwargs"),
        "resampling_fn_probabilities": (1, "resampling_fn_probabilities_kwargs"),
    }
    for name, (order, keywords) in expected.items():
        given = {"order": order, "order_z": 0, "force_separate_z": None, **configuration.get(keywords, {})}
        usual = {"is_seg": False, "order": order, "order_z": 0, "force_separate_z": None}
        function = configuration.get(name, "resample_data_or_seg_to_shape")
        if function != "resample_data_or_seg_to_shape" or any(usual.get(key) != value for key, value in given.items()):
            raise UnsupportedModel(
                f"plans.json resamples by '{function}' with {given}; only nnU-Net's default is known here"
            )
    if configuration.get("preprocessor_name", "DefaultPreprocessor") != "DefaultPreprocessor":
        raise UnsupportedModel(f"the preprocessor '{configuration['preprocessor_name']}' is not known here")


def architecture_of(configuration: Json) -> Json:
    """Class and arguments of the network, also of plans from before nnU-Net 2.4."""
    if "architecture" in configuration:
        found: Json = configuration["architecture"]
        return {"name": found["network_class_name"].rpartition(".")[2], **found["arch_kwargs"]}
    name, counts = configuration["UNet_class_name"], configuration["n_conv_per_stage_encoder"]
    base, most = configuration["UNet_base_num_features"], configuration["unet_max_num_features"]
    return {
        "name": name,
        "features_per_stage": [min(base * 2**level, most) for level in range(len(counts))],
        "kernel_sizes": configuration["conv_kernel_sizes"],
        "strides": configuration["pool_op_kernel_sizes"],
        _ARCHITECTURES.get(name, "n_conv_per_stage"): counts,
        "n_conv_per_stage_decoder": configuration["n_conv_per_stage_decoder"],
        "norm_op": "InstanceNorm",
        "nonlin": "torch.nn.LeakyReLU",
    }


def network_config(described: Json, order: Sequence[int], channels: int, classes: int) -> UNetConfig:
    """Our description of nnU-Net's network, its axes in `order`. Raises UnsupportedModel."""
    name = described["name"]
    if name not in _ARCHITECTURES:
        raise UnsupportedModel(f"the network '{name}' is not known here; only {' and '.join(_ARCHITECTURES)} are")
    _check_arguments(described)
    strides = [tuple(stride[axis] for axis in order) for stride in described["strides"]]
    if any(step != 1 for step in strides[0]):
        raise UnsupportedModel(f"the network's first stride is {described['strides'][0]}; only 1 is known here")
    return UNetConfig(
        dimensions=len(order),
        in_channels=channels,
        out_channels=classes,
        features=tuple(described["features_per_stage"]),
        poolings=tuple(strides[1:]),
        kernels=tuple(tuple(kernel[axis] for axis in order) for kernel in described["kernel_sizes"]),
        upsampling="transposed",
        normalisation="batch" if "BatchNorm" in described["norm_op"] else "instance",
        activation=_ACTIVATIONS[described["nonlin"].rpartition(".")[2]],  # type: ignore[arg-type]
        downsampling="strided",
        encoder="plain" if name == "PlainConvUNet" else "residual",
        convolutions=tuple(described[_ARCHITECTURES[name]]),
        decoder_convolutions=tuple(reversed(described["n_conv_per_stage_decoder"])),
    )


def _check_arguments(described: Json) -> None:
    for key, known in _EXPECTED.items():
        if key in described and described[key] not in known:
            raise UnsupportedModel(f"the network's '{key}' is {described[key]}; only {known[0]} is known here")
    unknown = set(described) - _READ - set(_EXPECTED) - {"name"}
    if unknown:
        raise UnsupportedModel(f"the network has '{min(unknown)}', which is not known here")
    if not any(kind in str(described["norm_op"]) for kind in ("InstanceNorm", "BatchNorm")):
        raise UnsupportedModel(f"the network's norm is {described['norm_op']}; only instance and batch are known here")
    if str(described["nonlin"]).rpartition(".")[2] not in _ACTIVATIONS:
        raise UnsupportedModel(
            f"the network's 'nonlin' is {described['nonlin']}; only {' and '.join(_ACTIVATIONS)} are known here"
        )


def _schemes(plans: Json, configuration: Json, channels: int) -> tuple[Scheme, ...]:
    """How each channel is normalised. Raises UnsupportedModel."""
    schemes: list[Scheme] = []
    named, masked = configuration["normalization_schemes"], configuration["use_mask_for_norm"]
    statistics = (
        plans.get("foreground_intensity_properties_per_channel") or plans["foreground_intensity_properties_by_modality"]
    )
    for channel in range(channels):
        name = named[channel]
        if name == "ZScoreNormalization":
            schemes.append("z_score_inside" if masked[channel] else "z_score")
        elif name == "CTNormalization":
            known = statistics[str(channel)]
            lower, upper = known["percentile_00_5"], known["percentile_99_5"]
            schemes.append(Window(lower=lower, upper=upper, mean=known["mean"], sd=known["std"]))
        elif name in _SCHEMES:
            schemes.append(_SCHEMES[name])
        else:
            raise UnsupportedModel(f"channel {channel} is normalised by '{name}', which is not known here")
    return tuple(schemes)


def _stored_axes(plans: Json) -> bool:
    reader = plans["image_reader_writer"]
    if reader not in _READERS:
        raise UnsupportedModel(
            f"the model reads its images by '{reader}'; only medical volumes are read here, as by {', '.join(_READERS)}"
        )
    return _READERS[reader]


def _turned(values: Sequence[Any], axes: Sequence[int]) -> list[Any]:
    """`values` of the network's axes, in the order of the scan's."""
    return [values[place] for place in order_of(axes)]


def _shape(values: Sequence[int]) -> Shape:
    x, y, z = values
    return (int(x), int(y), int(z))


def _without(configurations: Json, name: str) -> dict[str, Any]:
    """`configurations` without `name`, so that what inherits from itself ends."""
    return {key: value for key, value in configurations.items() if key != name}
