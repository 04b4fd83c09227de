"""What the headers of a case say, and whether it can be used."""

from __future__ import annotations

from tasks.ingest.found import MOST_VOXELS, Found
from tasks.ingest.quality import plausibility_flags
from tasks.ingest.size import check_size
from tasks.scan.errors import ChannelMismatch, UnsupportedImage
from tasks.scan.records import Case
from tasks.scan.volume import read_header


def ingest_case(found: Found, most_voxels: int = MOST_VOXELS) -> Case:
    """The case with its grid and warnings, from its headers; a series' files in the order of their positions.

    Raises:
        CaseError: the image is unreadable, unsupported or too large, several instead of one, has no usable geometry, a
        gap, or other channels than its data set.
    """
    if found.channels:
        raise ChannelMismatch(
            found.name,
            found=f"the channel{'s' * (len(found.channels) > 1)} {', '.join(found.channels)}",
            needed=f"{', '.join(found.needed)}, each once",
            remedy="add the missing channels, and take away those that the data set does not name",
        )
    if found.scans > 1:
        raise UnsupportedImage(
            found.name,
            found=f"a folder of {found.scans} scans",
            needed="one scan for each image that the manifest names",
            remedy="name a file, or the folder of one scan; images of one case go into the columns image_2, image_3 …",
        )
    header = read_header(found.image, found.name)
    check_size(header, found.name, most_voxels)
    flags = plausibility_flags(header.geometry.shape, header.geometry.spacing_mm)
    return Case(
        name=found.name,
        image=header.source,
        geometry=header.geometry,
        reference=found.reference,
        warnings=(*found.warnings, *header.warnings, *flags),
        groups=found.groups,
    )
