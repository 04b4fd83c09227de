"""One person of the cohort: deformed, scanned, and written as a DICOM series or a NIfTI file, with the reference."""

# mypy: allow-untyped-calls
from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray

from tasks.demo.dicom_series import Patient, write_series
from tasks.demo.fields import draw_deformation
from tasks.demo.scanner import Protocol, expose, extent_mm, label_tissue, place_grid, see
from tasks.demo.template import Template
from tasks.scan.files import temporary_name
from tasks.scan.records import Geometry

PATIENT_NAME = "Canary^Neverprint"
"""The name that each scan's header gives its person, so that an output that holds it shows a leak."""

Floor = dict[int, float]
"""Dice by label value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """One scan to make: a DICOM series in the folder `image`, or a NIfTI file where `image` ends in `.nii.gz`.

    `seed` decides everything random about the person; `reference` is None where no label map is to be written.
    """

    case: str
    image: Path
    reference: Path | None
    protocol: Protocol
    seed: tuple[int, int]


def make_person(template: Template, person: Person) -> Floor:
    """The Dice of the undeformed template with the person, whose scan and reference are now written.

    Without a reference nothing is compared: the result is empty.
    """
    random = np.random.default_rng(person.seed)
    geometry = place_grid(template, person.protocol, random)
    deformation = draw_deformation(extent_mm(geometry), random)
    t1, grey, white = see((template.t1, template.grey, template.white), template.affine, geometry, deformation)
    picture, labels = expose(t1, geometry, random), label_tissue(grey, white)
    _write_image(person, picture, geometry)
    if person.reference is None:
        return {}
    _write_nifti(person.reference, labels, geometry)
    undeformed = label_tissue(*see((template.grey, template.white), template.affine, geometry, None))
    return {label: dice(undeformed == label, labels == label) for label in (1, 2)}


def dice(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Twice the voxels that two masks share, divided by the sum of their sizes; NaN if both are empty."""
    size = int(first.sum()) + int(second.sum())
    return 2 * int((first & second).sum()) / size if size else float("nan")


def _write_image(person: Person, picture: NDArray[np.float32], geometry: Geometry) -> None:
    if person.image.name.endswith(".nii.gz"):
        _write_nifti(person.image, np.rint(picture).astype(np.int16), geometry)
    else:
        patient = Patient(name=PATIENT_NAME, identifier=f"{person.case}-{person.seed[0]}")
        write_series(person.image, picture, geometry, patient)


def _write_nifti(path: Path, voxels: NDArray[np.int16 | np.uint8], geometry: Geometry) -> None:
    """Writes the same bytes for the same voxels. As some converters do, it leaves the patient's name in the header."""
    image = nibabel.Nifti1Image(voxels, np.array(geometry.affine))
    image.set_sform(image.affine, code=1)
    image.set_qform(image.affine, code=1)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = PATIENT_NAME.encode()
    temporary = temporary_name(path)
    temporary.write_bytes(gzip.compress(image.to_bytes(), compresslevel=1, mtime=0))
    temporary.replace(path)
