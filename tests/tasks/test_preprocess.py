"""Preprocess and its way back: every step undone, on volumes with three different side lengths."""

import nibabel
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, ornt_transform

from tasks import preprocess
from tasks.model import KeepLargest, Model, Plan, SliceOrder, Window
from tasks.postprocess import keep_largest, lost_fraction, model_values, postprocess_case
from tasks.preprocess import crop, nonzero_box, normalise, preprocess_case, uncrop
from tasks.scan.errors import ChannelMismatch, TooLarge
from tasks.scan.records import Case, Geometry, Prediction, Source, join_channels
from tasks.scan.resample import coarse_axis, resample_image, resample_labels, resampled_shape
from tasks.scan.restore import restore_labels
from tasks.scan.volume import read_geometry, read_labels
from tests.phantoms import affine, box, picture, write_nifti
from unet import UNetConfig

NETWORK = UNetConfig(dimensions=3, out_channels=3, features=(1, 1, 1))
SHAPE = (10, 14, 9)
EVEN = (1.0, 1.0, 1.0)


def test_crop_and_uncrop_are_inverse():
    labels = box(SHAPE, (2, 3, 1), (7, 5, 8), 2)
    start, shape = nonzero_box(labels.astype(np.float32))
    assert (start, shape) == ((2, 3, 1), (5, 2, 7))
    assert np.array_equal(uncrop(crop(labels, start, shape), start, SHAPE), labels)


def test_a_volume_of_zeros_is_not_cropped():
    assert nonzero_box(np.zeros(SHAPE, np.float32)) == ((0, 0, 0), SHAPE)


def test_a_scan_is_scaled_by_its_own_mean_and_deviation():
    image = np.array([1, 3], np.float32).reshape(1, 1, 2)
    assert normalise(image, None, 2).ravel().tolist() == [-1, 1]


def test_what_is_no_tissue_stays_zero_where_much_was_cropped():
    image = np.array([0, 1, 3], np.float32).reshape(1, 1, 3)
    assert normalise(image, None, 100).ravel().tolist() == [0, -1, 1]


def test_quantitative_intensities_are_clipped_to_the_window_of_the_data_set():
    image = np.array([-2000, 0, 3000], np.float32).reshape(1, 1, 3)
    window = Window(lower=-100, upper=300, mean=100, sd=50)
    assert normalise(image, window, 3).ravel().tolist() == [-4, -2, 4]


def test_a_large_volume_is_normalised_slab_by_slab_as_if_it_were_whole(monkeypatch):
    image = np.arange(60, dtype=np.float32).reshape(5, 4, 3)
    whole = normalise(image, None, image.size)
    monkeypatch.setattr(preprocess, "SLAB_VOXELS", 24)
    assert normalise(image, None, image.size) == pytest.approx(whole, abs=1e-6)
    assert float(whole.std()) == pytest.approx(1, abs=1e-6)


def test_the_new_size_covers_the_same_extent():
    assert resampled_shape((10, 14, 9), (1.0, 1.0, 4.0), (2.0, 2.0, 2.0)) == (5, 7, 18)


def test_one_axis_of_thick_slices_is_coarse():
    assert coarse_axis((1.0, 1.0, 4.0), EVEN) == 2
    assert coarse_axis((1.0, 1.0, 3.0), EVEN) is None
    assert coarse_axis((1.0, 4.0, 4.0), EVEN) is None


def test_a_ramp_stays_a_ramp_when_resampled():
    ramp = np.broadcast_to(np.arange(20, dtype=np.float32)[:, None, None], (20, 6, 5))
    finer = resample_image(np.ascontiguousarray(ramp), (40, 6, 5), None)
    expected = (np.arange(40) + 0.5) / 2 - 0.5
    assert np.allclose(finer[8:-8, 2, 2], expected[8:-8], atol=1e-3)


def test_through_thick_slices_nothing_is_interpolated():
    slices = np.broadcast_to(np.array([0, 10, 20], np.float32), (8, 8, 3))
    finer = resample_image(np.ascontiguousarray(slices), (8, 8, 12), 2)
    assert finer[4, 4].tolist() == [0] * 4 + [10] * 4 + [20] * 4


def test_labels_keep_their_place_when_resampled():
    labels = box((8, 8, 8), (2, 2, 2), (6, 6, 6), 2).astype(np.uint16)
    assert np.array_equal(resample_labels(labels, (16, 16, 16))[::2, ::2, ::2][3:5, 3:5, 3:5], np.full((2, 2, 2), 2))
    assert (resample_labels(labels, (16, 16, 16)) == 2).sum() == pytest.approx(8 * 64, rel=0.15)


def test_classes_one_at_a_time_give_the_argmax_of_all():
    logits = np.random.default_rng(0).normal(size=(4, 5, 6, 7)).astype(np.float32)
    assert np.array_equal(restore_labels(logits, (5, 6, 7)), logits.argmax(axis=0))


def test_the_largest_component_is_kept_of_the_named_labels_only():
    labels = box(SHAPE, (0, 0, 0), (3, 3, 3), 1) + box(SHAPE, (6, 6, 6), (7, 7, 7), 1)
    labels += box(SHAPE, (0, 8, 0), (3, 9, 3), 2) + box(SHAPE, (6, 12, 6), (7, 13, 7), 2)
    kept = keep_largest(labels, KeepLargest(labels=(1,)))
    assert (kept == 1).sum() == 27
    assert (kept == 2).sum() == 10


def test_pieces_that_touch_at_a_corner_are_one():
    labels = box(SHAPE, (0, 0, 0), (2, 2, 2), 1) + box(SHAPE, (2, 2, 2), (3, 3, 3), 1)
    assert (keep_largest(labels, KeepLargest(labels=(1,))) == 1).sum() == 9


def test_what_keeping_the_largest_took_away_is_known_by_label():
    labels = (
        box(SHAPE, (0, 0, 0), (3, 3, 1), 1) + box(SHAPE, (6, 6, 6), (7, 7, 7), 1) + box(SHAPE, (0, 8, 0), (3, 9, 3), 2)
    )
    kept = keep_largest(labels, KeepLargest(labels=(1,)))
    assert lost_fraction(labels, kept) == {1: pytest.approx(0.1), 2: 0.0}


def answered(folder, labels, kept=KeepLargest(), order=SliceOrder(), axes="RAS"):  # noqa: B008
    """The segmentation of a scan of 1 mm for which the network said `labels`, and `kept` and `order` are asked for.

    The scan is stored along `axes`.
    """
    scan = nibabel.Nifti1Image(picture(labels) + 1, np.eye(4))
    stored = scan.as_reoriented(ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(axes)))
    path = write_nifti(folder / "image.nii.gz", np.asarray(stored.dataobj), stored.affine)
    image = Source(format="nifti", files=(path,))
    case = Case(name="C1", image=image, geometry=read_geometry(image, "C1"))
    prepared = preprocess_case(case, plan(), folder)
    logits = np.stack([9 * (labels == value) for value in range(3)]).astype(np.float32)
    np.save(folder / "logits.npy", logits)
    prediction = Prediction(prepared=prepared, logits=folder / "logits.npy", device="cpu")
    model = Model(plan=plan(), labels={1: "head", 2: "body"}, weights_sha256="", slice_order=order, keep_largest=kept)
    return postprocess_case(prediction, model, folder)


def test_a_case_whose_process_died_when_all_was_written_can_be_done_again(tmp_path):
    answered(tmp_path, box(SHAPE, (1, 1, 1), (4, 4, 4), 1), KeepLargest())
    assert (tmp_path / "logits.npy").exists()


@pytest.mark.parametrize("axes", ["RAS", "SLP"])
def test_labels_are_put_in_order_along_an_axis_of_the_body_however_the_scan_is_stored(tmp_path, axes):
    drawn = box(SHAPE, (1, 1, 1), (9, 7, 8), 2) + box(SHAPE, (1, 7, 1), (9, 13, 8), 1)
    ragged = drawn.copy()
    ragged[2:4, 7, 2:5] = 2
    segmentation = answered(tmp_path, ragged, order=SliceOrder(axis=1, labels=(2, 1)), axes=axes)
    mask = nibabel.as_closest_canonical(nibabel.load(segmentation.mask))
    assert np.array_equal(np.asarray(mask.dataobj), drawn)
    assert segmentation.signs[2].relabelled == pytest.approx(6 / (8 * 6 * 7 + 6))
    assert segmentation.signs[1].relabelled == 0
    assert not [warning for warning in segmentation.case.warnings if warning.startswith("out of order")]


def test_what_is_out_of_order_is_put_right_before_the_largest_is_kept_and_flagged(tmp_path):
    drawn = box(SHAPE, (1, 1, 1), (9, 7, 8), 2) + box(SHAPE, (1, 7, 1), (9, 13, 8), 1)
    spotted = drawn.copy()
    spotted[2:6, 9:12, 2:6] = 2  # by itself the smaller piece: kept, as its slices are the head's
    order = SliceOrder(axis=1, labels=(2, 1))
    segmentation = answered(tmp_path, spotted, KeepLargest(labels=(1, 2)), order)
    assert np.array_equal(np.asarray(nibabel.load(segmentation.mask).dataobj), drawn)
    assert "out of order: body, 12% of what was found lay in the slices of other labels" in segmentation.case.warnings


def test_without_an_order_nothing_is_known_of_it(tmp_path):
    assert np.isnan(answered(tmp_path, box(SHAPE, (1, 1, 1), (4, 4, 4), 1)).signs[1].relabelled)


def test_a_structure_whose_second_piece_was_taken_away_is_flagged(tmp_path):
    labels = box(SHAPE, (1, 1, 1), (4, 4, 4), 1) + box(SHAPE, (6, 6, 6), (9, 8, 8), 1)
    segmentation = answered(tmp_path, labels, KeepLargest(labels=(1,)))
    assert segmentation.signs[1].components == 1
    flag = "in pieces: head, 31% of what was found was taken away beside the largest piece"
    assert flag in segmentation.case.warnings


def test_a_structure_that_the_border_cuts_is_flagged_and_kept(tmp_path):
    labels = box(SHAPE, (0, 1, 1), (4, 4, 4), 1) + box(SHAPE, (6, 6, 6), (9, 8, 8), 2)
    segmentation = answered(tmp_path, labels)
    mask = Source(format="nifti", files=(segmentation.mask,))
    assert (read_labels(mask, segmentation.case.geometry, "C1") == labels).all()
    assert [flag for flag in segmentation.case.warnings if "border" in flag] == [
        "cut by the image border: head, 9 voxels lie in the outermost layer"
    ]


def test_classes_become_the_label_values_of_the_model():
    model = Model(plan=plan(), labels={4: "liver", 900: "spleen"}, weights_sha256="")
    assert model_values(np.array([0, 1, 2], np.uint8), model).tolist() == [0, 4, 900]


def plan(spacing_mm=(1.0, 1.0, 1.0)) -> Plan:
    return Plan(network=NETWORK, spacing_mm=spacing_mm, patch=(16, 16, 16), batch_size=1)


def test_channels_share_the_box_of_all_and_are_scaled_each_by_itself(tmp_path):
    first, second = np.zeros((2, *SHAPE), np.float32)
    first[2:4, 3:5, 1:3], second[3:6, 4:6, 2:4] = 10, 20
    first[2, 3, 1] = second[3, 4, 2] = 30
    files = [write_nifti(tmp_path / f"{number}.nii.gz", voxels) for number, voxels in enumerate((first, second))]
    image = join_channels([Source(format="nifti", files=(file,)) for file in files])
    case = Case(name="C1", image=image, geometry=read_geometry(image, "C1"))
    network = UNetConfig(dimensions=3, in_channels=2, out_channels=3, features=(1,))
    window = Window(lower=0, upper=20, mean=10, sd=5)
    two = Plan(network=network, spacing_mm=(1, 1, 1), patch=(4, 4, 4), batch_size=1, further_windows=(window,))
    prepared = preprocess_case(case, two, tmp_path)
    voxels = np.load(prepared.voxels)
    assert (prepared.crop_start, prepared.crop_shape, voxels.shape) == ((2, 3, 1), (4, 3, 3), (2, 4, 3, 3))
    assert voxels[0, 0, 0, 0] == pytest.approx(17.5 / 43.75**0.5)
    assert voxels[0, 3, 2, 2] == 0
    assert voxels[1, :, 1, 1].tolist() == [-2, 2, 2, 2]


def test_a_case_of_other_channels_than_the_model_is_refused_before_it_is_read(tmp_path):
    gone = Source(format="nifti", files=(tmp_path / "gone.nii",))
    geometry = Geometry(shape=SHAPE, affine=((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)))
    case = Case(name="C1", image=join_channels([gone, gone]), geometry=geometry)
    with pytest.raises(ChannelMismatch, match="a case of 2 channels; needed: 1 channel, as the model was trained on"):
        preprocess_case(case, plan(), tmp_path)


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PIR", "SAL"])
@pytest.mark.parametrize("spacing_mm", [(1, 1, 1), (1, 2, 1)])
def test_there_and_back_every_voxel_is_where_it_was(tmp_path, axes, spacing_mm):
    labels = box(SHAPE, (2, 4, 3), (6, 12, 7), 1) + box(SHAPE, (6, 4, 3), (8, 8, 5), 2)
    grid = affine(spacing_mm=spacing_mm, axes=axes, shape=SHAPE)
    image = Source(format="nifti", files=(write_nifti(tmp_path / "image.nii.gz", picture(labels) + 1, grid),))
    case = Case(name="C1", image=image, geometry=read_geometry(image, "C1"))
    reference = Source(format="nifti", files=(write_nifti(tmp_path / "reference.nii.gz", labels, grid),))

    prepared = preprocess_case(case, plan(), tmp_path)
    canonical = read_labels(reference, case.geometry, "C1")
    classes = resample_labels(canonical, prepared.resampled_shape)
    logits = np.stack([classes == value for value in range(3)]).astype(np.float32)
    np.save(tmp_path / "logits.npy", logits)
    prediction = Prediction(prepared=prepared, logits=tmp_path / "logits.npy", device="cpu")
    model = Model(plan=plan(), labels={1: "one", 2: "two"}, weights_sha256="")
    segmentation = postprocess_case(prediction, model, tmp_path)

    mask = Source(format="nifti", files=(segmentation.mask,))
    assert read_geometry(mask, "C1").shape == SHAPE
    restored = read_labels(mask, case.geometry, "C1")
    assert (restored != canonical).mean() < (0.0001 if spacing_mm == (1, 1, 1) else 0.02)
    assert segmentation.volumes_ml[1] == pytest.approx((restored == 1).sum() * np.prod(spacing_mm) / 1000)


def test_flags_and_the_grid_that_was_read_go_on_with_the_case(tmp_path):
    image = write_nifti(
        tmp_path / "a.nii.gz", picture(box(SHAPE, (2, 3, 1), (7, 5, 8))), affine((1, 1, 7), shape=SHAPE)
    )
    source = Source(format="nifti", files=(image,))
    stale = Geometry(shape=SHAPE, affine=((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)))
    case = Case(name="a", image=source, geometry=stale, warnings=("odd",))
    plan = Plan(network=NETWORK, spacing_mm=(2, 2, 2), patch=(4, 4, 4), batch_size=1)
    fingerprint = {"foreground_mean": {"min": 5000.0, "max": 6000.0}}
    prepared = preprocess_case(case, plan, tmp_path, fingerprint)
    assert [flag.split(":")[0] for flag in prepared.case.warnings] == [
        "odd",
        "few slices",
        "extreme anisotropy",
        "intensity far from the training data",
    ]
    assert prepared.case.geometry == read_geometry(source, "a")


def test_a_spacing_that_makes_a_giant_of_a_small_scan_is_refused_with_the_number(tmp_path):
    file = write_nifti(tmp_path / "a.nii.gz", picture(box(SHAPE, (2, 3, 1), (7, 5, 8))) + 1, affine((100, 100, 100)))
    source = Source(format="nifti", files=(file,))
    case = Case(name="a", image=source, geometry=read_geometry(source, "a"))
    with pytest.raises(TooLarge, match="would have 1000 × 1400 × 900 = 1.26e.09 voxels; its own are 100 × 100 × 100"):
        preprocess_case(case, plan(), tmp_path)
