"""What pydicom-seg finds in DICOM SEGs, beside the NIfTI masks of the same cases: for `benchmarks/dicom_seg.py`."""

import sys

import nibabel
import numpy as np
import pydicom
import pydicom_seg
import SimpleITK


def main():
    for mask, seg in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
        image = nibabel.load(mask)
        labels = np.asarray(image.dataobj)
        found = pydicom_seg.SegmentReader().read(pydicom.dcmread(seg))
        values = [int(value) for value in np.unique(labels) if value]
        told = [compared(found, number, labels == value, image.affine) for number, value in enumerate(values, start=1)]
        print(f"{seg.rpartition('/')[2]}: {'; '.join(told)}")


def compared(found, number, wanted, affine):
    """How many voxels a segment has, and how many of them are elsewhere in the mask."""
    segment = found.segment_image(number)
    index = np.argwhere(SimpleITK.GetArrayFromImage(segment))[:, ::-1]
    places = np.array([segment.TransformIndexToPhysicalPoint([int(one) for one in voxel]) for voxel in index])
    places = np.c_[places * (-1, -1, 1), np.ones(len(places))]
    stored = np.rint(np.linalg.inv(affine) @ places.T).astype(int)[:3]
    theirs = np.zeros(wanted.shape, bool)
    theirs[tuple(stored)] = True
    label = found.segment_infos[number].SegmentLabel
    return f"{label} {theirs.sum()} voxels, {np.count_nonzero(theirs != wanted)} differ"


if __name__ == "__main__":
    main()
