from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from tasks.drawing import SIDE, draw_planes, edges, fullest_slice, view_mm
from tasks.picture import PLANES
from tasks.pool import PoolConfig, open_pool
from tasks.report.pictures import draw_pictures
from tasks.scan.errors import GridMismatch
from tests.phantoms import affine, box, write_nifti
from tests.tasks.report.cases import on_disk, score

BLUE, ORANGE = (0x56, 0xB4, 0xE9), (0xE6, 0x9F, 0x00)


def drawn(scores):
    """The planes of a case's picture, by name: colours (row, column, 3)."""
    picture = np.asarray(Image.open(BytesIO(draw_planes(scores))).convert("RGB")).astype(int)
    assert picture.shape == (SIDE, 3 * SIDE, 3)
    return dict(zip(PLANES, np.split(picture, 3, axis=1), strict=True))


def pixels(plane, colour):
    """How many pixels of a plane have that colour."""
    return int((plane == colour).all(axis=-1).sum())


def bright_rows_and_columns(plane):
    """First and last row, first and last column of a white square; it is larger than the scale bar."""
    white = plane.min(axis=-1) > 242
    rows, columns = np.flatnonzero(white.sum(axis=1) > 100), np.flatnonzero(white.sum(axis=0) > 100)
    return (int(rows[0]), int(rows[-1])), (int(columns[0]), int(columns[-1]))


def test_the_slice_is_the_one_with_most_of_the_structure():
    structure = box((6, 5, 4), (1, 1, 1), (3, 2, 2)) + box((6, 5, 4), (4, 1, 1), (5, 4, 3)) > 0
    assert [fullest_slice(structure, axis) for axis in range(3)] == [4, 1, 1]


def test_of_equally_full_slices_it_is_the_middle_one():
    assert fullest_slice(box((9, 9, 9), (2, 2, 2), (7, 7, 7)) > 0, 0) == 4


def test_without_a_structure_the_slice_is_the_middle_one():
    assert fullest_slice(np.zeros((6, 5, 4), bool), 0) == 3


def test_the_view_holds_the_structure_and_has_one_length_along_all_axes():
    structure = box((100, 100, 25), (40, 40, 10), (60, 50, 15)) > 0
    assert view_mm(structure, (1, 1, 4)) == ((34, 66), (29, 61), (34, 66))


def test_the_view_of_a_structure_at_the_border_stays_in_the_image():
    structure = box((100, 100, 100), (0, 90, 45), (10, 100, 55)) > 0
    assert view_mm(structure, (1, 1, 1)) == ((0, 16), (84, 100), (42, 58))


def test_without_a_structure_the_view_is_the_whole_image():
    assert view_mm(np.zeros((10, 20, 30), bool), (1, 1, 1)) == ((-10, 20), (-5, 25), (0, 30))


def test_a_cube_of_millimetres_is_a_square_on_all_planes_although_its_voxels_are_not(tmp_path):
    cube = box((40, 40, 10), (12, 12, 3), (28, 28, 7))  # 16 mm along each axis at 1 × 1 × 4 mm
    case = on_disk(tmp_path, "A", cube, np.zeros_like(cube), (1, 1, 4))
    for plane in drawn(case.value).values():
        rows, columns = bright_rows_and_columns(plane)
        assert rows[1] - rows[0] == pytest.approx(columns[1] - columns[0], abs=2)


def test_right_anterior_and_superior_are_on_the_left_the_left_and_the_top(tmp_path):
    corner = box((40, 40, 40), (22, 24, 26), (40, 40, 40))  # towards R, A and S of the middle
    everywhere = box((40, 40, 40), (0, 0, 0), (40, 40, 40))
    case = on_disk(tmp_path, "A", corner, everywhere, (1, 1, 1))
    middles = {}
    for name, plane in drawn(case.value).items():
        rows, columns = bright_rows_and_columns(plane)
        middles[name] = (np.mean(rows) < 180, np.mean(columns) < 180)
    assert middles == {"axial": (True, True), "coronal": (True, True), "sagittal": (True, True)}


@pytest.mark.parametrize(("spacing_mm", "bar_mm"), [(1.0, 5), (0.01, 1)])
def test_the_bar_is_as_long_as_it_says_or_as_the_picture_where_that_is_shorter(tmp_path, spacing_mm, bar_mm):
    """A cube of 16 voxels in a view of 25.6: a pixel is a fourteenth of a voxel."""
    cube = box((40, 40, 40), (12, 12, 12), (28, 28, 28))
    plane = drawn(on_disk(tmp_path, "A", cube, np.zeros_like(cube), (spacing_mm,) * 3).value)["axial"]
    (others,) = np.nonzero((plane[SIDE - 14] < 255).any(axis=-1))  # columns that are not white, in the bar's row
    before, after = others[others < SIDE - 14].max(), others[others > SIDE - 14].min()
    assert after - before - 2 == min(round(bar_mm / (25.6 * spacing_mm) * SIDE), SIDE - 15)


def test_the_darkest_and_the_brightest_that_are_seen_make_the_greys_and_nothing_beyond_the_scan(tmp_path):
    """Of a scan that ends beside the structure, much of the picture lies beyond: it is black, and darkens nothing."""
    cube = box((16, 40, 40), (2, 12, 12), (14, 28, 28))
    case = on_disk(tmp_path, "A", cube, np.zeros_like(cube), (1, 1, 1)).value
    scan = 1000 + 10 * np.arange(16)[:, None, None] + 0 * cube.astype(np.int16)
    write_nifti(case.segmentation.case.image.files[0], scan.astype(np.int16), affine((1, 1, 1)))
    row = drawn(case)["axial"][40]
    greys = np.unique(row[row.max(axis=-1) == row.min(axis=-1)])
    assert len(greys) == 16 + (0 not in np.unique(row))
    assert (greys[0], greys[-1]) == (0, 255)
    assert np.diff(greys).max() <= 20


def test_reference_and_prediction_have_their_own_colours(tmp_path):
    reference, prediction = box((20, 20, 20), (5, 5, 5), (15, 15, 15)), box((20, 20, 20), (8, 8, 8), (12, 12, 12))
    case = on_disk(tmp_path, "A", reference, prediction, (1, 1, 1))
    plane = drawn(case.value)["axial"]
    assert pixels(plane, BLUE) > 500
    assert pixels(plane, ORANGE) > 200


def test_a_missed_structure_is_drawn_without_a_prediction(tmp_path):
    reference = box((20, 20, 20), (5, 5, 5), (15, 15, 15))
    case = on_disk(tmp_path, "A", reference, np.zeros_like(reference), (1, 1, 1))
    plane = drawn(case.value)["axial"]
    assert (pixels(plane, BLUE) > 500, pixels(plane, ORANGE)) == (True, 0)


def test_a_refused_reference_is_not_drawn(tmp_path):
    cube = box((20, 20, 20), (5, 5, 5), (15, 15, 15))
    case = on_disk(tmp_path, "A", cube, cube, (1, 1, 1))
    refused = replace(case.value, scores=(score(1, float("nan"), "reference_refused"),))
    plane = drawn(refused)["axial"]
    assert (pixels(plane, BLUE), pixels(plane, ORANGE) > 500) == (0, True)


def test_a_mask_on_another_grid_is_not_drawn_over_the_scan(tmp_path):
    cube = box((20, 20, 20), (5, 5, 5), (15, 15, 15))
    case = on_disk(tmp_path, "A", cube, cube, (1, 1, 1))
    write_nifti(case.value.segmentation.mask, cube, affine((1, 1, 2)))
    with pytest.raises(GridMismatch, match="case 'A': image and reference are on different grids"):
        draw_planes(case.value)


def test_an_outline_runs_where_a_label_meets_another_one_or_the_background():
    labels = np.array([[0, 0, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 1, 2, 2], [0, 0, 1, 2, 2]], np.uint16)
    assert edges(labels).astype(int).tolist() == [
        [0, 0, 0, 0, 0],
        [0, 0, 1, 1, 1],
        [0, 1, 1, 1, 1],
        [0, 1, 1, 1, 0],
    ]


def test_a_night_has_a_picture_of_every_case_and_of_no_other(tmp_path):
    cube = box((20, 20, 20), (5, 5, 5), (15, 15, 15))
    cases = [on_disk(tmp_path, name, cube, cube, (1, 1, 1)) for name in ("A", "B")]
    cases[1].value.segmentation.mask.unlink()
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "gone.png").touch()
    with open_pool(PoolConfig(workers=1)) as pool:
        pictures = draw_pictures(cases, tmp_path / "pictures", pool)
    assert pictures["A"].path == "pictures/A.png"
    assert "does not exist" in pictures["B"].problem
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["A.png"]
