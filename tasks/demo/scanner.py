"""What a scanner makes of a brain: a grid, the brain seen on it, and a picture with shading and noise."""

# mypy: allow-untyped-calls
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from nibabel.affines import apply_affine
from nibabel.orientations import axcodes2ornt
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation
from scipy.spatial.transform import Rotation

from tasks.demo.fields import Field, Numbers, draw_field, field_at
from tasks.demo.template import AIR, WHOLE, Template
from tasks.scan.geometry import as_affine
from tasks.scan.records import Geometry, Spacing

MARGIN_MM = 10.0
"""What a scan shows beyond the template's brain on each side, so that a person's larger brain fits as well."""

SHIFT_MM = 3.0
"""How far, along each axis, the middle of a scan may lie from the middle of the brain."""

SHADING = 0.15
"""Standard deviation of the logarithm of the coil's sensitivity, which changes smoothly over `SHADING_WIDTH_MM`."""

SHADING_WIDTH_MM = 50.0
NOISE = (8.0, 24.0)
"""Standard deviation of the noise, least and most, where white matter is about 800."""

_GAIN = (3.5, 4.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How a scan is taken.

    `axes`: where the stored axes (column, row, slice) point, for example "LPS". `tilt_degrees`: how far the head is
    turned in the scanner, about two axes.
    """

    axes: str
    spacing_mm: Spacing
    tilt_degrees: float = 0.0


def place_grid(template: Template, protocol: Protocol, random: np.random.Generator) -> Geometry:
    """A grid of `protocol` around the template's brain, its middle a little off."""
    brain_mm = np.abs(template.affine[:3, :3] @ (np.array(template.t1.shape) - 2 * AIR))
    middle_mm = apply_affine(template.affine, (np.array(template.t1.shape) - 1) / 2)
    middle_mm = middle_mm + random.uniform(-SHIFT_MM, SHIFT_MM, 3)
    directions = _directions(protocol)
    # The box around the ellipsoid that fills the template's box. For a tilted grid, its corners would need far more.
    sides_mm = np.linalg.norm(directions * brain_mm[:, None], axis=0) + 2 * MARGIN_MM
    shape = np.ceil(sides_mm / protocol.spacing_mm).astype(int)
    affine = np.eye(4)
    affine[:3, :3] = directions * protocol.spacing_mm
    affine[:3, 3] = middle_mm - affine[:3, :3] @ ((shape - 1) / 2)
    return Geometry(shape=(int(shape[0]), int(shape[1]), int(shape[2])), affine=as_affine(affine))


def extent_mm(geometry: Geometry) -> Spacing:
    """The sides of the box that the voxels of a grid fill."""
    x, y, z = (length * step_mm for length, step_mm in zip(geometry.shape, geometry.spacing_mm, strict=True))
    return (x, y, z)


def see(
    maps: Sequence[NDArray[np.uint8]], affine: NDArray[np.float64], geometry: Geometry, deformation: Field | None
) -> list[Numbers]:
    """Each of `maps` (on the grid `affine`) on the grid of `geometry`: interpolated once, averaged over each slice.

    `deformation` is in mm along the axes of `geometry`, its box beginning at the outer corner of the first voxel: a
    place of the scan shows the maps at the place that lies the displacement away. The maps have `AIR` on all sides.
    """
    views = [np.zeros(geometry.shape, np.float32) for _ in maps]
    near = binary_dilation(np.any(maps, axis=0))
    for index in range(geometry.shape[2]):
        places_mm = _slice_places(geometry, index, deformation)
        indices = _map_indices(places_mm, geometry, affine)
        seen = np.flatnonzero(near[_nearest(indices, near.shape)])  # most of a scan is air: the maps are not asked
        for view, values in zip(views, interpolate(maps, indices.reshape(3, -1)[:, seen]), strict=True):
            layers = np.zeros(indices.shape[1:], np.float32)
            layers.flat[seen] = values
            view[:, :, index] = layers.mean(axis=-1)
    return views


def interpolate(maps: Sequence[NDArray[np.uint8]], indices: Numbers) -> list[Numbers]:
    """Each of `maps` (one shape) at N places (3, N), trilinear. No place may be outside, or on the far border.

    What the maps have in common is computed once: scipy's `map_coordinates` takes several times as long for three maps.
    """
    corners = np.floor(indices)
    shares = [(1 - far, far) for far in indices - corners]
    first = np.ravel_multi_index(tuple(corners.astype(np.intp)), maps[0].shape)
    flat = [one.ravel() for one in maps]
    values = [np.zeros(first.shape, np.float32) for _ in maps]
    for x, y, z in product((0, 1), repeat=3):
        corner = first + np.ravel_multi_index((x, y, z), maps[0].shape)
        share = shares[0][x] * shares[1][y] * shares[2][z]
        for total, one in zip(values, flat, strict=True):
            np.add(total, one.take(corner) * share, out=total)
    return values


def label_tissue(grey: Numbers, white: Numbers) -> NDArray[np.uint8]:
    """Label map: 1 where grey matter takes the largest share of a voxel, 2 where white matter does, 0 elsewhere."""
    rest = WHOLE - grey - white
    is_grey, is_white = (grey > rest) & (grey >= white), (white > rest) & (white > grey)
    return is_grey + 2 * is_white.astype(np.uint8)


def expose(t1: Numbers, geometry: Geometry, random: np.random.Generator) -> Numbers:
    """The picture of `t1`: scaled, smoothly shaded, with the noise of a magnitude image (Rician: never negative)."""
    axes = _axes_mm(geometry)
    shading = field_at(draw_field(1, extent_mm(geometry), SHADING_WIDTH_MM, random), *axes)[0]
    signal = t1 * np.exp(np.float32(SHADING) * shading) * np.float32(random.uniform(*_GAIN))
    noise = random.standard_normal((2, *geometry.shape), dtype=np.float32) * np.float32(random.uniform(*NOISE))
    picture: Numbers = np.hypot(signal + noise[0], noise[1])
    return picture


def _directions(protocol: Protocol) -> NDArray[np.float64]:
    """Unit vectors (columns) of the stored axes in RAS+."""
    directions = np.zeros((3, 3))
    for stored, (world, sign) in enumerate(axcodes2ornt(protocol.axes)):
        directions[int(world), stored] = sign
    turn = Rotation.from_euler("xz", [protocol.tilt_degrees, protocol.tilt_degrees / 2], degrees=True)
    return turn.as_matrix() @ directions


def _axes_mm(geometry: Geometry) -> list[Numbers]:
    """Places of the voxels' centres along each axis of the grid, from the outer corner of the first voxel."""
    pairs = zip(geometry.shape, geometry.spacing_mm, strict=True)
    return [((np.arange(length) + 0.5) * step_mm).astype(np.float32) for length, step_mm in pairs]


def _slice_places(geometry: Geometry, index: int, deformation: Field | None) -> Numbers:
    """Places (3, X, Y, T) in mm from the grid's outer corner that one slice is made of: T layers about 1 mm apart."""
    x_mm, y_mm, _ = _axes_mm(geometry)
    step_mm = geometry.spacing_mm[2]
    layers = max(1, round(step_mm))
    z_mm = (index * step_mm + (np.arange(layers) + 0.5) * step_mm / layers).astype(np.float32)
    places = np.stack(np.meshgrid(x_mm, y_mm, z_mm, indexing="ij"))
    return places if deformation is None else places + field_at(deformation, x_mm, y_mm, z_mm)


def _map_indices(places_mm: Numbers, geometry: Geometry, affine: NDArray[np.float64]) -> Numbers:
    """The (fractional) indices on the grid `affine` of places given in mm from the outer corner of `geometry`."""
    to_map = np.linalg.inv(affine) @ np.array(geometry.affine)
    matrix = to_map[:3, :3] / geometry.spacing_mm
    offset = to_map[:3, 3] - to_map[:3, :3] @ (0.5, 0.5, 0.5)
    indices = np.tensordot(matrix.astype(np.float32), places_mm, axes=1)
    moved: Numbers = indices + offset.astype(np.float32).reshape(3, 1, 1, 1)
    return moved


def _nearest(indices: Numbers, shape: Sequence[int]) -> tuple[NDArray[np.intp], ...]:
    """The voxel nearest to each place, which is one at the border for a place outside `shape`."""
    last = np.array(shape, np.float32).reshape(3, 1, 1, 1) - 1
    return tuple(np.rint(indices).clip(0, last).astype(np.intp))
