"""The average brain that the demo's people are made from: the MNI152 template as the `nilearn` wheel ships it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray

from tasks.scan.errors import DemoUnavailable

WHOLE = 255
"""The value of a tissue map where a voxel holds nothing but this tissue."""

AIR = 3
"""Empty voxels that a template keeps on each side of its brain, so that there is something to interpolate with."""

_MAPS = ("t1", "gm", "wm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A T1 picture and the share of grey and white matter in each voxel: uint8 (X, Y, Z), 0 around the brain (`AIR`).

    `affine` (4, 4) takes indices to RAS+ mm.
    """

    t1: NDArray[np.uint8]
    grey: NDArray[np.uint8]
    white: NDArray[np.uint8]
    affine: NDArray[np.float64]


def load_template(package: str = "nilearn") -> Template:
    """The symmetric MNI152 average of 2009 (Fonov et al., NeuroImage 54:313, 2011), 1 mm, cropped to the brain.

    The files are found beside the package, which is not imported: that alone would take seconds.

    Raises:
        DemoUnavailable: if the package is not installed, or does not ship the template.
    """
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise DemoUnavailable(f"the demo needs the brain that '{package}' ships: pip install 'segment-cohort[demo]'")
    folder = Path(spec.origin).parent / "datasets" / "data"
    files = [folder / f"mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz" for name in _MAPS]
    if not all(file.is_file() for file in files):
        raise DemoUnavailable(f"'{package}' has lost its brain template: pip install --force-reinstall '{package}'")
    images = [nibabel.Nifti1Image.from_filename(file) for file in files]
    t1, grey, white = (np.asarray(image.dataobj) for image in images)
    return crop(Template(t1=t1, grey=grey, white=white, affine=np.asarray(images[0].affine)))


def crop(template: Template) -> Template:
    """The smallest box of `template` that holds all of the brain and `AIR` voxels around it."""
    brain = np.nonzero(template.t1 | template.grey | template.white)
    start = [int(index.min()) for index in brain]
    box = tuple(slice(first, int(index.max()) + 1) for first, index in zip(start, brain, strict=True))
    t1, grey, white = (np.pad(one[box], AIR) for one in (template.t1, template.grey, template.white))
    affine = template.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ (np.array(start) - AIR)
    return Template(t1=t1, grey=grey, white=white, affine=affine)
