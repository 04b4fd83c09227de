"""Cases as they come from preprocessing, for the tests of the network's stage."""

from pathlib import Path

from tasks.scan.records import Case, Geometry, Prepared, Shape, Source

AFFINE = ((1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0))


def prepared_from(voxels: Path, name: str, shape: Shape) -> Prepared:
    """The case `name` of `shape`, on the network's grid from the start, whose image is in the file `voxels`."""
    image = Source(format="nifti", files=(voxels.with_name(f"{name}.nii"),))
    return Prepared(
        case=Case(name=name, image=image, geometry=Geometry(shape=shape, affine=AFFINE)),
        voxels=voxels,
        canonical_shape=shape,
        crop_start=(0, 0, 0),
        crop_shape=shape,
        resampled_shape=shape,
        input_sha256="",
    )
