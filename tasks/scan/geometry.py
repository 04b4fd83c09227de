"""Where the voxels are: the stored grid, the closest RAS+ grid, and the distance between two grids.

RAS+ means that x grows to the patient's Right, y to Anterior, z to Superior (nibabel's convention). The canonical grid
holds the same voxels in the axis order and directions closest to RAS+; nothing is resampled.
"""

# mypy: allow-untyped-calls
from __future__ import annotations

from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform
from numpy.typing import NDArray

from tasks.scan.errors import UnusableGeometry
from tasks.scan.records import Affine, Geometry, Shape, Spacing

Scalar = TypeVar("Scalar", bound=np.generic)

GRID_TOLERANCE_MM = 1e-3
"""Two grids are one when no corner is further apart than this: float32 headers are exact to about 1e-5 mm."""

SHEAR_TOLERANCE = 1e-3
"""Largest cosine between two axes of a grid that still counts as a right angle: three decimals in a header do this."""


def check_geometry(geometry: Geometry, case: str) -> None:
    """Nothing, if the affine is finite, regular and without shear.

    Raises:
        UnusableGeometry: otherwise; its message says which of these it is.
    """
    matrix = np.array(geometry.affine)
    spacing_mm = np.linalg.norm(matrix[:3, :3], axis=0)
    if not np.isfinite(matrix).all():
        raise _unusable(case, "the affine holds NaN or infinity")
    if spacing_mm.min() <= 0:
        raise _unusable(case, "the voxels have a side of 0 mm")
    directions = matrix[:3, :3] / spacing_mm
    cosine = float(np.abs(directions.T @ directions - np.eye(3)).max())
    if abs(np.linalg.det(directions)) < SHEAR_TOLERANCE:
        raise _unusable(case, "two axes of the grid run in one direction (the affine is singular)")
    if cosine > SHEAR_TOLERANCE:
        angle = np.degrees(np.arccos(min(cosine, 1.0)))
        raise _unusable(case, f"the grid is sheared: two axes meet at {angle:.2f}° instead of 90°")


def to_canonical(voxels: NDArray[Scalar], geometry: Geometry) -> NDArray[Scalar]:
    """A view of `voxels` (stored order) on the closest RAS+ axes."""
    oriented: NDArray[Scalar] = apply_orientation(voxels, _orientation(geometry))
    return oriented


def from_canonical(voxels: NDArray[Scalar], geometry: Geometry) -> NDArray[Scalar]:
    """A view of `voxels` (RAS+ axes) in the stored order of `geometry`: the inverse of `to_canonical`."""
    back = ornt_transform(axcodes2ornt("RAS"), _orientation(geometry))
    stored: NDArray[Scalar] = apply_orientation(voxels, back)
    return stored


def channels_from_canonical(voxels: NDArray[Scalar], geometry: Geometry) -> NDArray[Scalar]:
    """A view of `voxels` (C, X, Y, Z on RAS+ axes), each channel in the stored order of `geometry`."""
    return np.moveaxis(from_canonical(np.moveaxis(voxels, 0, -1), geometry), -1, 0)


def canonical_geometry(geometry: Geometry) -> Geometry:
    """The grid of `to_canonical`'s result."""
    orientation = _orientation(geometry)
    affine = np.array(geometry.affine) @ inv_ornt_aff(orientation, geometry.shape)
    shape = [0, 0, 0]
    for stored, canonical in enumerate(orientation[:, 0].astype(int)):
        shape[canonical] = geometry.shape[stored]
    return Geometry(shape=(shape[0], shape[1], shape[2]), affine=as_affine(affine))


def canonical_shape(geometry: Geometry) -> Shape:
    """Voxels along the RAS+ axes."""
    return canonical_geometry(geometry).shape


def canonical_spacing_mm(geometry: Geometry) -> Spacing:
    """Distance of neighbouring voxel centres along the RAS+ axes."""
    return canonical_geometry(geometry).spacing_mm


def grid_distance_mm(first: Geometry, second: Geometry) -> float:
    """The largest distance between equal corner voxels of two grids; infinity when their shapes differ."""
    if first.shape != second.shape:
        return float("inf")
    ends = np.array(np.meshgrid(*((0, length - 1) for length in first.shape))).reshape(3, -1)
    corners = np.vstack([ends, np.ones(ends.shape[1])])
    apart = (np.array(first.affine) - np.array(second.affine)) @ corners
    return float(np.linalg.norm(apart[:3], axis=0).max())


def as_affine(matrix: NDArray[Any]) -> Affine:
    """The record form of a (4, 4) array."""
    x, y, z, last = (tuple(float(value) for value in row) for row in matrix)
    return tuple((row[0], row[1], row[2], row[3]) for row in (x, y, z, last))


def affine_from_lps(directions: NDArray[Any], spacing_mm: NDArray[Any], origin_mm: NDArray[Any]) -> Affine:
    """The RAS+ affine of a grid that DICOM or ITK describes on LPS axes; columns of `directions` are unit vectors."""
    matrix = np.eye(4)
    matrix[:3, :3] = directions * spacing_mm
    matrix[:3, 3] = origin_mm
    return as_affine(np.diag([-1.0, -1.0, 1.0, 1.0]) @ matrix)


@lru_cache(maxsize=64)  # a case asks eight times, and a singular value decomposition is behind it
def _orientation(geometry: Geometry) -> NDArray[np.float64]:
    orientation: NDArray[np.float64] = io_orientation(np.array(geometry.affine))
    orientation.flags.writeable = False
    return orientation


def _unusable(case: str, found: str) -> UnusableGeometry:
    return UnusableGeometry(
        case,
        found=found,
        needed="a grid of right angles whose place in the patient the header gives",
        remedy="convert the scan again from the DICOM series, or resample it to a regular grid",
    )
