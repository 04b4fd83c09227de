import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from tasks.scan.errors import UnreadableImage, UnsupportedImage, UnusableGeometry
from tasks.scan.itk import data_file
from tasks.scan.records import Source
from tasks.scan.volume import read_header, read_voxels
from tests.phantoms import box, picture, truncate

SHAPE = (4, 5, 6)
VOXELS = picture(box(SHAPE, (1, 1, 1), (3, 3, 3)))
NAMES = ["a.nrrd", "a.mha", "a.nhdr", "a.mhd"]


def write(path: Path, *, compressed: bool = True) -> Source:
    """`VOXELS` on RAS axes, 1 × 2 × 3 mm from (-7, 5, 11), which ITK describes on LPS axes."""
    image = SimpleITK.GetImageFromArray(VOXELS.transpose())
    image.SetSpacing((1.0, 2.0, 3.0))
    image.SetDirection((-1.0, 0, 0, 0, -1.0, 0, 0, 0, 1.0))
    image.SetOrigin((7.0, -5.0, 11.0))
    SimpleITK.WriteImage(image, str(path), compressed)
    voxels = data_file(path)
    return Source(format="itk", files=(path,) if voxels is None else (path, voxels))


@pytest.mark.parametrize("name", NAMES)
def test_a_file_gives_back_its_voxels_and_grid(tmp_path: Path, name: str):
    voxels, geometry = read_voxels(write(tmp_path / name), "a")
    np.testing.assert_array_equal(voxels, VOXELS)
    np.testing.assert_allclose(geometry.affine, [(1, 0, 0, -7), (0, 2, 0, 5), (0, 0, 3, 11), (0, 0, 0, 1)])


@pytest.mark.parametrize("space", [b"", b"space: scanner-xyz\n"])
def test_an_nrrd_that_does_not_say_how_it_lies_in_the_patient_is_refused(tmp_path: Path, space: bytes):
    source = write(tmp_path / "a.nrrd")
    content = source.files[0].read_bytes()
    if not space:
        for line in (b"space directions", b"space origin"):
            start = content.index(line)
            content = content[:start] + content[content.index(b"\n", start) + 1 :]
    source.files[0].write_bytes(content.replace(b"space: left-posterior-superior\n", space))
    with pytest.raises(UnusableGeometry, match="an NRRD header without `space`"):
        read_header(source, "a")


@pytest.mark.parametrize("name", ["a.nhdr", "a.mhd"])
def test_the_file_with_the_voxels_is_part_of_the_source(tmp_path: Path, name: str):
    files = write(tmp_path / name).files
    assert sorted(files) == sorted(tmp_path.iterdir())
    assert len(files) == 2


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha"])
def test_voxels_behind_the_header_are_no_file_of_their_own(tmp_path: Path, name: str):
    assert len(write(tmp_path / name).files) == 1


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_a_truncated_file_is_unreadable(tmp_path: Path, name: str, compressed: bool):  # noqa: FBT001
    source = write(tmp_path / name, compressed=compressed)
    truncate(source.files[-1], 0.8)
    with pytest.raises(UnreadableImage, match="cannot be read"):
        read_voxels(source, "a")


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha"])
def test_an_empty_file_is_unreadable(tmp_path: Path, name: str):
    (tmp_path / name).touch()
    with pytest.raises(UnreadableImage, match="cannot be read"):
        read_header(Source(format="itk", files=(tmp_path / name,)), "a")


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path):
    with pytest.raises(UnreadableImage, match="does not exist"):
        read_header(Source(format="itk", files=(tmp_path / "a.mha",)), "a")


def test_four_dimensions_with_one_volume_are_a_volume(tmp_path: Path):
    image = SimpleITK.JoinSeries([SimpleITK.GetImageFromArray(VOXELS.transpose())])
    SimpleITK.WriteImage(image, str(tmp_path / "a.nrrd"))
    voxels, _ = read_voxels(Source(format="itk", files=(tmp_path / "a.nrrd",)), "a")
    np.testing.assert_array_equal(voxels, VOXELS[::-1, ::-1])


@pytest.mark.parametrize(
    ("image", "found"),
    [
        (SimpleITK.Image((4, 5), SimpleITK.sitkInt16), "an image of 4 × 5 voxels"),
        (SimpleITK.Image((4, 5, 6, 2), SimpleITK.sitkInt16), "an image of 4 × 5 × 6 × 2 voxels"),
        (SimpleITK.Image((4, 5, 6), SimpleITK.sitkVectorUInt8), "voxels of type 'vector of 8-bit unsigned integer'"),
    ],
)
def test_what_is_not_one_volume_of_numbers_is_refused(tmp_path: Path, image: SimpleITK.Image, found: str):
    SimpleITK.WriteImage(image, str(tmp_path / "a.mha"))
    with pytest.raises(UnsupportedImage, match=found):
        read_header(Source(format="itk", files=(tmp_path / "a.mha",)), "a")


@pytest.mark.parametrize("name", ["/etc/passwd", "../b/b.raw", "below/../../b/b.raw", "below", "pipe"])
@pytest.mark.parametrize("suffix", [".nhdr", ".mhd", ".nrrd", ".mha"])
def test_a_header_may_not_name_any_file_of_the_machine(tmp_path: Path, name: str, suffix: str):
    for folder in ("a/below", "b"):
        (tmp_path / folder).mkdir(parents=True)
    write(tmp_path / "b" / "b.mhd", compressed=False)
    plain = tmp_path / "a" / ("a.nhdr" if suffix in (".nhdr", ".nrrd") else "a.mhd")
    source = write(plain, compressed=False)
    os.mkfifo(tmp_path / "a" / "pipe")
    header = source.files[0].rename(tmp_path / "a" / f"c{suffix}")
    header.write_bytes(header.read_bytes().replace(b"a.raw", os.fsencode(name)))
    part = data_file(header)
    with pytest.raises(UnsupportedImage, match="a header whose voxels are in"):
        read_header(Source(format="itk", files=(header, *([part] if part else []))), "a")


def test_the_name_of_the_voxels_ends_where_it_ends_for_itk(tmp_path: Path):
    header = write(tmp_path / "a.mhd", compressed=False).files[0]
    header.write_bytes(header.read_bytes().replace(b"a.raw", b"a.raw\0b"))
    assert data_file(header) == tmp_path / "a.raw"


def test_more_dimensions_than_metaio_has_room_for_are_refused(tmp_path: Path):
    file = write(tmp_path / "a.mha").files[0]
    file.write_bytes(file.read_bytes().replace(b"NDims = 3", b"NDims = 100"))
    with pytest.raises(UnsupportedImage, match="an image of 100 dimensions"):
        read_header(Source(format="itk", files=(file,)), "a")


@pytest.mark.parametrize("name", ["LOCAL\udcd0%", "slice%03d.raw 1 6 1", "LIST"])
def test_a_meta_image_whose_voxels_are_elsewhere_never_reaches_simpleitk(tmp_path: Path, name: str):
    file = tmp_path / "a.mha"
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.ones((3, 4, 5), np.int16)), file)
    content = file.read_bytes().replace(b"ElementDataFile = LOCAL", b"ElementDataFile = " + os.fsencode(name))
    file.write_bytes(content)
    with pytest.raises((UnreadableImage, UnsupportedImage)):
        read_header(Source(format="itk", files=(file,)), "a")
