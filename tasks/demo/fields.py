"""Smooth random functions of a place: what deforms one brain into another, and what shades a picture.

A field is a sum of Gaussian bumps of random height on a lattice. It can be evaluated anywhere, without interpolation,
and axis by axis: one small matrix product each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float32]

DEFORMATION_MM = 8.0
"""Root mean square length of a person's displacements from the template: 4.6 mm along each axis."""

DEFORMATION_WIDTH_MM = 20.0
"""Standard deviation of the bumps that displacements are made of."""

SMALLEST_JACOBIAN = 0.2
"""A deformation may shrink a piece of brain to this share of its volume; at 0 it would begin to fold."""

_BORDER_BUMPS = 4
_CHECK_MM = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """`heights` (C, A, B, D) of bumps with standard deviation `width_mm`, `width_mm` apart.

    C functions of a place (x, y, z) in mm; the bump (c, 4, 4, 4) is centred at (0, 0, 0). At each place a function is
    normally distributed around 0 with standard deviation `strength`.
    """

    heights: Numbers
    width_mm: float
    strength: float


def draw_field(components: int, extent_mm: Sequence[float], width_mm: float, random: np.random.Generator) -> Field:
    """A field of strength 1 over the box from (0, 0, 0) to `extent_mm`."""
    lattice = [int(np.ceil(length / width_mm)) + 1 + 2 * _BORDER_BUMPS for length in extent_mm]
    heights = random.standard_normal((components, *lattice), dtype=np.float32)
    return Field(heights=heights, width_mm=width_mm, strength=1.0)


def field_at(field: Field, x_mm: Numbers, y_mm: Numbers, z_mm: Numbers) -> Numbers:
    """The field's values (C, X, Y, Z) at the places of the grid that the three axes span."""
    counts = field.heights.shape[1:]
    x, y, z = (_bumps(mm, n, field.width_mm) for mm, n in zip((x_mm, y_mm, z_mm), counts, strict=True))
    # z goes first: a slice has one or a few places there, so that little is left to do for x and y.
    columns = np.einsum("cabd,zd->czab", field.heights * np.float32(field.strength), z, optimize=True)
    values: Numbers = np.moveaxis(x @ columns @ y.T, 1, -1)
    return values


def draw_deformation(extent_mm: Sequence[float], random: np.random.Generator) -> Field:
    """Displacements in mm (3 components) over a box, weakened where needed until no place folds over another."""
    drawn = draw_field(3, extent_mm, DEFORMATION_WIDTH_MM, random)
    strength = DEFORMATION_MM / np.sqrt(3)
    while True:
        deformation = Field(heights=drawn.heights, width_mm=drawn.width_mm, strength=float(strength))
        if smallest_jacobian(deformation, extent_mm) >= SMALLEST_JACOBIAN:
            return deformation
        strength *= 0.9


def smallest_jacobian(deformation: Field, extent_mm: Sequence[float]) -> float:
    """The least factor by which `deformation` changes a small volume, anywhere in the box; negative where it folds."""
    axes = [np.arange(0, length + _CHECK_MM, _CHECK_MM, dtype=np.float32) for length in extent_mm]
    gradients = np.array(np.gradient(field_at(deformation, *axes), _CHECK_MM, axis=(1, 2, 3)))  # (axis, component, …)
    return float(np.linalg.det(np.moveaxis(gradients, (0, 1), (-1, -2)) + np.eye(3)).min())


def _bumps(places_mm: Numbers, count: int, width_mm: float) -> Numbers:
    """Height (P, count) of each bump at each place. The squares of a row sum to 1, so that no place is special."""
    centres_mm = (np.arange(count, dtype=np.float32) - _BORDER_BUMPS) * width_mm
    away = (places_mm[:, None] - centres_mm) / width_mm
    bumps: Numbers = (np.exp(-(away**2) / 2) / np.pi**0.25).astype(np.float32)
    return bumps
