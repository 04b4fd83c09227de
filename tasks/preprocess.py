"""Preprocess: RAS+ axes, crop to non-zero, normalise, resample to the model's spacing, pad. Postprocess undoes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes

from tasks.ingest.quality import grid_flags, intensity_flags, intensity_percentiles, modality_flags
from tasks.ingest.size import check_resampled_size
from tasks.model import Plan, Scheme, Window
from tasks.scan.content import hash_content
from tasks.scan.errors import ChannelMismatch
from tasks.scan.files import hash_files, save_array
from tasks.scan.geometry import canonical_spacing_mm, channels_from_canonical, to_canonical
from tasks.scan.planes import planes
from tasks.scan.records import Case, Geometry, Prepared, Shape, Spacing
from tasks.scan.resample import coarse_axis, resample_image, resampled_shape
from tasks.scan.volume import read_channels

SLAB_VOXELS = 2**24
"""Voxels that are normalised at a time: in float64 the whole of a large scan would be gigabytes."""
Volume = NDArray[np.float32]
N = TypeVar("N", bound=np.generic)


def preprocess_case(case: Case, plan: Plan, work: Path, fingerprint: Mapping[str, Any] | None = None) -> Prepared:
    """`case` on the network's grid, written to `work`. Raises CaseError when the voxels cannot be used.

    All channels are cropped to the one box that holds what is not 0 in any of them. The case's grid is the one
    that was read with the voxels; its warnings now hold the quality flags, too, which compare it with the
    training data's `fingerprint`, if that is given.
    """
    check_channels(case, plan)
    read, geometry = read_channels(case.image, case.name)
    content = hash_content(read, geometry, case.image, case.name)
    voxels, spacing_mm = on_network_axes(read, geometry, plan)
    start, shape = nonzero_box(voxels)
    target_mm = plan.target_mm(spacing_mm)
    check_resampled_size(shape, spacing_mm, target_mm, case.name)
    flags = grid_flags(shape, spacing_mm, fingerprint or {})
    cropped = voxels[(slice(None), *_box(start, shape))]
    intensities = [intensity_percentiles(channel) for channel in cropped]
    for number, (source, window) in enumerate(zip(case.image.channels, plan.windows, strict=True)):
        flags += intensity_flags(intensities[number], fingerprint or {}, number)
        flags += modality_flags(source, case.name, quantitative=window is not None)
    new_shape, thick = resampled_shape(shape, spacing_mm, target_mm), coarse_axis(spacing_mm, target_mm)
    whole, pad_start = padded_shape(plan, new_shape)
    padded = np.zeros((len(cropped), *whole), np.float32)
    for channel, image in zip(padded, normalise_channels(cropped, plan, voxels[0].size), strict=True):
        channel[_box(pad_start, new_shape)] = resample_image(image, new_shape, thick)
    return Prepared(
        case=replace(case, geometry=geometry, warnings=(*case.warnings, *flags)),
        voxels=save_array(work / f"{case.name}.image.npy", padded),
        canonical_shape=voxels.shape[1:],
        crop_start=start,
        crop_shape=shape,
        resampled_shape=new_shape,
        pad_start=pad_start,
        input_sha256=hash_files(case.image.files),
        content_sha256=content,
        intensity=intensities[0],
    )


def check_channels(case: Case, plan: Plan) -> None:
    """Nothing, if the case has as many channels as the network takes. Raises ChannelMismatch."""
    there, needed = len(case.image.channels), plan.network.in_channels
    if there != needed:
        raise ChannelMismatch(
            case.name,
            found=f"a case of {_channels(there)}",
            needed=f"{_channels(needed)}, as the model was trained on",
            remedy="give the case those channels, in the order of the training data (nnU-Net's layout, or the columns "
            "image_2, image_3 … of a manifest), or name another model",
        )


def on_network_axes(voxels: NDArray[N], geometry: Geometry, plan: Plan) -> tuple[NDArray[N], Spacing]:
    """`voxels` (C, X, Y, Z on RAS+ axes) on the axes that the network sees, and their spacing."""
    turned = channels_from_canonical(voxels, geometry) if plan.nnunet and plan.nnunet.stored_axes else voxels
    return turned, network_spacing_mm(geometry, plan)


def network_spacing_mm(geometry: Geometry, plan: Plan) -> Spacing:
    """The scan's spacing along the axes that the network sees."""
    return geometry.spacing_mm if plan.nnunet and plan.nnunet.stored_axes else canonical_spacing_mm(geometry)


def from_network_axes(labels: NDArray[N], geometry: Geometry, plan: Plan) -> NDArray[N]:
    """`labels` (X, Y, Z) on RAS+ axes again: the inverse of `on_network_axes`."""
    return to_canonical(labels, geometry) if plan.nnunet and plan.nnunet.stored_axes else labels


def nonzero_box(voxels: Volume) -> tuple[Shape, Shape]:
    """First index and sides of the box around all voxels that are not 0; the whole volume if all are 0.

    `voxels` are (X, Y, Z), or (C, X, Y, Z) for the box that is common to all channels.
    """
    channels = voxels.reshape(-1, *voxels.shape[-3:])
    start, stop = [], []
    for axis in range(3):
        others = tuple(other for other in range(4) if other != axis + 1)
        used = np.flatnonzero(np.any(channels != 0, axis=others))
        start.append(int(used[0]) if used.size else 0)
        stop.append(int(used[-1]) + 1 if used.size else channels.shape[axis + 1])
    x, y, z = (last - first for first, last in zip(start, stop, strict=True))
    return (start[0], start[1], start[2]), (x, y, z)


def crop(voxels: NDArray[N], start: Shape, shape: Shape) -> NDArray[N]:
    """The box of `voxels` that begins at `start` and measures `shape`."""
    return voxels[_box(start, shape)]


def uncrop(labels: NDArray[N], start: Shape, canonical_shape: Shape) -> NDArray[N]:
    """`labels` of the box, back in a volume of `canonical_shape` whose rest is background."""
    whole = np.zeros(canonical_shape, labels.dtype)
    whole[_box(start, labels.shape)] = labels
    return whole


def _box(start: Shape, shape: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice(first, first + length) for first, length in zip(start, shape, strict=True))


def normalise(cropped: Volume, window: Window | None, whole_size: int) -> Volume:
    """`cropped` by the data set's `window`, else by its own mean and standard deviation.

    Where cropping removed more than a quarter of `whole_size` voxels, those that are 0 are no tissue: they do not
    count, and stay 0.
    """
    if window:
        scaled: Volume = np.clip(cropped, window.lower, window.upper)
        scaled -= window.mean
        scaled /= max(window.sd, 1e-8)
        return scaled
    tissue = cropped != 0 if cropped.size < 0.75 * whole_size else np.ones(cropped.shape, bool)
    slabs = list(planes(cropped, SLAB_VOXELS))
    count = np.count_nonzero(tissue)
    mean = sum(cropped[slab][tissue[slab]].astype(np.float64).sum() for slab in slabs) / count
    squares = sum(((cropped[slab][tissue[slab]].astype(np.float64) - mean) ** 2).sum() for slab in slabs)
    scale = max(float(np.sqrt(squares / count)), 1e-8)
    normalised = np.empty_like(cropped)
    for slab in slabs:
        normalised[slab] = np.where(tissue[slab], (cropped[slab] - mean) / scale, 0)
    return normalised


def normalise_channels(cropped: Volume, plan: Plan, whole_size: int) -> Iterator[Volume]:
    """Each channel of `cropped` (C, X, Y, Z) as `plan` normalises it."""
    if plan.nnunet is None:
        yield from (normalise(*one, whole_size) for one in zip(cropped, plan.windows, strict=True))
        return
    inside = binary_fill_holes(np.any(cropped != 0, axis=0))
    yield from (normalise_by(scheme, one, inside) for one, scheme in zip(cropped, plan.nnunet.schemes, strict=True))


def normalise_by(scheme: Scheme, cropped: Volume, inside: NDArray[np.bool_]) -> Volume:
    """`cropped` (X, Y, Z) as nnU-Net's `scheme` says; `inside` is what lies within the outline of what is not 0."""
    if isinstance(scheme, Window):
        return normalise(cropped, scheme, cropped.size)
    if scheme == "none":
        return cropped
    if scheme == "unit":
        shifted: Volume = cropped - cropped.min()
        shifted /= max(float(shifted.max()), 1e-8)
        return shifted
    tissue = inside if scheme == "z_score_inside" else np.ones(cropped.shape, bool)
    values = cropped[tissue].astype(np.float64)
    scaled = (cropped - values.mean()) / max(float(values.std()), 1e-8)
    return np.where(tissue, scaled, cropped).astype(np.float32)


def padded_shape(plan: Plan, shape: Shape) -> tuple[Shape, Shape]:
    """How large an image of `shape` must be for `plan`, and how many zeros come before its first voxel on each axis.

    Our networks take it as it is; nnU-Net's take it padded up to the patch, half of the zeros on each side.
    """
    if plan.nnunet is None:
        return shape, (0, 0, 0)
    short = [0 if axis == plan.slice_axis else max(0, side - length)
             for axis, (side, length) in enumerate(zip(plan.patch, shape, strict=True))]  # fmt: skip
    x, y, z = (length + missing for length, missing in zip(shape, short, strict=True))
    return (x, y, z), (short[0] // 2, short[1] // 2, short[2] // 2)


def unpad(logits: NDArray[N], shape: Shape, start: Shape) -> NDArray[N]:
    """The `shape` voxels of `logits` (K, X, Y, Z) from `start` on: what is left when the padding is taken away."""
    return logits[(slice(None), *_box(start, shape))]


def _channels(count: int) -> str:
    return f"{count} channel{'s' * (count > 1)}"
