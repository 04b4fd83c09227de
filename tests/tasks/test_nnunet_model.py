"""A model of nnU-Net gives nnU-Net's own mask here; what is in its files never runs; what it cannot do is named."""

import base64
import os
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from tasks.infer import InferenceConfig, Weights
from tasks.infer.case import infer_case
from tasks.infer.machine import make_ready, resolve
from tasks.model import Window
from tasks.model.folder import load_networks, read_model
from tasks.postprocess import postprocess_case
from tasks.preprocess import normalise_by, preprocess_case
from tasks.scan import nifti
from tasks.scan.errors import CheckpointMismatch, ModelNotFound, UnsupportedModel
from tasks.scan.records import Case, Source
from tasks.scan.volume import read_geometry
from tests.nnunet import DATASET, checkpoint, plans, save, weights, write_json, write_nnunet
from tests.phantoms import affine, picture, sphere, write_nifti

SHAPE = (10, 14, 9)
THEIRS = {
    (
        "PlainConvUNet",
        3,
    ): "eNrlUwkSAyEII/n/o2sObKezfUEdZxcRCcE488eDhOcQOBM8LhnHM1iDGBvy0TE49nHaoBaK0npsYz5i6J/yPKLDx1l0fRf0"
    "liHUOKjwHCxoipdNtAym1AAnMKe+hwgq8whzLro9ZlrqTmIPTTpUjctuhal5N8YJcwB8RhdTpIygs8EhR0O7dUga59/MQke32PqbwxXerSf09DLobU8+7AHt"
    "+M5Sz8Sd5pcpUoZX9fi+WmqMn+hIwk/0yi/owYp7Pc3eRQwWlFxB5uai50fNr5AsMObe07HbLG4JrN4uw2JhCaZTe1VRSQL6IJ7xsfLjtImMclYDqyhUbfuU"
    "VDtthMf7nZJvo+/0e7wAO38DDw==",
    (
        "ResidualEncoderUNet",
        3,
    ): "eNrlUwuSxSAIg9z/0Gs+orNrT7B9bypFTAhg1T9+uhrdXPiFteCPIdPGWuCl5L5iFATjlN2lL8OjX+zLzR8DYjAdZkQ"
    "bkIfOGMLpxZusiyEyeCIeRS52x1jcB/tGy5+85DeC02IaIjhYMCPCZZVlhEtvT4HxpV1KqQF9ZTJ13mXg1tGRRLznrUh2Vm6Mjwj73fctZigg9RTlro0xyIL2"
    "qepT+UkjjUuMX8/Kw21OeUVqNeU5MY7125WRsLipRVp1SGdL4N9TxyfqMVO1xzRNn2IWzhSZC31VUBIws3FP84M9SnO/Kheta18z9z53qy9jYn5dxr4895V+"
    "af8BZIYCqA==",
    (
        "PlainConvUNet",
        2,
    ): "eNrlkwtuwDAIQ8H3P/SCH9BM7U6wtlITSLDNJ+I/P6nzRkZIqk2cvWw573lYZjmPG2OU0Y5jFq6KpGQRZRE/DpfzC718oDtWXQbh"
    "7A6CbyWsTMyWMiqgUTdNTH3VmhyMhUk68ls64II6LFpATny1Ag6P0mF9r1fKs1VMpr6kj1yZfTahDSgCChFruYFuJqOl0fdap+SFPoVCFfUXGc3ORBGbHGJp"
    "li7BlfA6aBHPGZHG+Na+aaleU6N3MNDlOI8Kx6dU0TWlJWgPOq4tMJzMfBU+htnkUa1U+buRDNoWbTa0AkMjg4FgFhiYP7pO98BI2585k7KDRj1mFPdMgs5o"
    "mpiz0KBNw98b/AeD5gLH",
}
"""Masks (10, 14, 9), as stored, that nnU-Net 2.8.1 gave `write_scan` with two folds of `write_nnunet`, mirrored."""


def write_scan(path: Path) -> Source:
    """Two balls in an outline of zeros, stored left, posterior, superior; slices of 4 mm."""
    labels = sphere(SHAPE, (4, 8, 4), 3, 1) + sphere(SHAPE, (7, 4, 5), 2, 2)
    voxels = picture(labels)
    voxels[:2], voxels[:, -2:], voxels[:, :, :1] = 0, 0, 0
    write_nifti(path, voxels, affine((1.0, 1.4, 4.0), "LPS", SHAPE))
    return Source(format="nifti", files=(path,))


def segment(folder: Path, work: Path, backend: str) -> np.ndarray:
    """Our mask of the scan, as stored."""
    model, image = read_model(folder), write_scan(work / "scan.nii.gz")
    config = InferenceConfig(device="cpu", backend=backend, precision="float32", mirror=True)
    networks = make_ready(Weights(folder=folder), model, resolve(config))
    case = Case(name="scan", image=image, geometry=read_geometry(image, "scan"))
    prediction = infer_case(preprocess_case(case, model.plan, work), networks, model, config, work)
    segmentation = postprocess_case(prediction, model, work)
    mask, _ = nifti.read_stored(Source(format="nifti", files=(segmentation.mask,)), "scan")
    return mask


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("backend", ["torch", "openvino"])
@pytest.mark.parametrize(("name", "dimensions"), THEIRS)
def test_the_mask_is_nnunets_own(tmp_path, name, dimensions, backend):
    """Two folds, thick slices, other axes, a crop, tiles. Some corners differ: there nnU-Net's 16 bits round to 0."""
    ours = segment(write_nnunet(tmp_path / "model", name, dimensions, folds=(0, 1)), tmp_path, backend)
    theirs = np.frombuffer(zlib.decompress(base64.b64decode(THEIRS[name, dimensions])), np.uint8).reshape(SHAPE)
    assert {int(label) for label in np.unique(theirs)} == {0, 1, 2}
    assert np.count_nonzero(ours != theirs) <= (0.01 * ours.size if dimensions == 3 else 0)


class Bomb:
    """What a pickle may hold: a call of any function."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


def test_a_checkpoint_that_would_run_code_is_refused_by_its_name_and_runs_none(tmp_path):
    folder = write_nnunet(tmp_path / "model")
    save(folder, 0, checkpoint(weights(), "3d_fullres", logging=Bomb(tmp_path / "harm")))
    with pytest.raises(CheckpointMismatch, match=f"would call '{os.system.__module__}.system', which no checkpoint"):
        read_model(folder)
    assert not (tmp_path / "harm").exists()


def test_a_checkpoint_that_is_cut_short_is_refused(tmp_path):
    folder = write_nnunet(tmp_path)
    path = folder / "fold_0" / "checkpoint_final.pth"
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(CheckpointMismatch, match="is damaged: .*; copy it again"):
        read_model(folder)


def test_a_file_that_is_no_checkpoint_of_nnunet_is_refused(tmp_path):
    folder = write_nnunet(tmp_path)
    save(folder, 0, {"state_dict": weights()})
    with pytest.raises(CheckpointMismatch, match="no checkpoint of nnU-Net v2: it lacks 'network_weights'"):
        read_model(folder)


def test_the_plan_is_that_of_the_folder_on_the_axes_of_the_scan(tmp_path):
    """Its network sees (y, z, x): here (x, y, z)."""
    plan = read_model(write_nnunet(tmp_path)).plan
    assert (plan.patch, plan.spacing_mm, plan.augment.mirror_axes) == ((8, 6, 4), (0.9, 1.2, 4.0), (0, 1, 2))
    assert (plan.network.poolings, plan.network.kernels[0]) == (((2, 1, 2),), (3, 1, 3))
    assert plan.nnunet.stored_axes
    assert plan.nnunet.schemes == ("z_score_inside",)


def test_a_flat_network_sees_the_slices_along_its_first_axis_as_they_are_spaced(tmp_path):
    plan = read_model(write_nnunet(tmp_path, dimensions=2)).plan
    assert (plan.slice_axis, plan.patch[::2]) == (1, (8, 4))
    assert plan.target_mm((1.0, 7.0, 2.0)) == (0.9, 7.0, 4.0)
    assert plan.augment.mirror_axes == (0, 2)


def test_folds_are_an_ensemble_in_their_order_without_fold_all(tmp_path):
    folder = write_nnunet(tmp_path, folds=(2, 10, "all"))
    networks = load_networks(read_model(folder), folder)
    first = [network.encoder[0][0].weight[0, 0, 0, 0, 1].item() for network in networks]
    expected = [weights(seed=seed)["encoder.stages.0.0.convs.0.conv.weight"][0, 0, 0, 1, 0].item() for seed in (0, 1)]
    assert first == expected


def test_a_folder_of_several_models_names_them(tmp_path):
    write_nnunet(tmp_path / "nnUNetTrainer__nnUNetPlans__2d", dimensions=2)
    with pytest.raises(ModelNotFound, match=r"several models of nnU-Net \('nnUNetTrainer__nnUNetPlans__2d'\)"):
        read_model(tmp_path)


def test_a_training_that_did_not_end_is_no_model(tmp_path):
    write_json(tmp_path, plans(), DATASET)
    with pytest.raises(ModelNotFound, match="needs dataset.json, plans.json and fold_0/checkpoint_final.pth"):
        read_model(tmp_path)


def configured(**changes: object) -> dict:
    """Plans whose configuration has `changes`."""
    changed = plans()
    changed["configurations"]["3d_fullres"] |= changes
    return changed


def built(**changes: object) -> dict:
    """Plans whose network has `changes`."""
    changed = plans()
    changed["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"] |= changes
    return changed


@pytest.mark.parametrize(
    ("plans", "dataset", "message"),
    [
        (configured(previous_stage="3d_lowres"), {}, "second stage of a cascade, which needs masks of '3d_lowres'"),
        (configured(normalization_schemes=["MyNorm"]), {}, "channel 0 is normalised by 'MyNorm', which is not known"),
        (configured(resampling_fn_data="resample_torch_fornnunet"), {}, "resamples by 'resample_torch_fornnunet'"),
        (configured(preprocessor_name="Mine"), {}, "the preprocessor 'Mine' is not known here"),
        (built(nonlin="torch.nn.GELU"), {}, "'nonlin' is torch.nn.GELU; only LeakyReLU and ReLU are known here"),
        (built(norm_op="torch.nn.GroupNorm"), {}, "norm is torch.nn.GroupNorm; only instance and batch are known"),
        (built(strides=[[2, 2, 2], [1, 2, 2]]), {}, r"first stride is \[2, 2, 2\]; only 1 is known"),
        (built(squeeze_excitation=True), {}, "the network has 'squeeze_excitation', which is not known here"),
        (plans() | {"image_reader_writer": "NaturalImage2DIO"}, {}, "reads its images by 'NaturalImage2DIO'"),
        (plans(), {"labels": {"background": 0, "all": [1, 2], "core": 2}}, "has regions .'all' is of several labels"),
        (plans(), {"labels": {"background": 0, "head": 1, "body": 3}}, "0, 1, 2 … without a gap"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(tmp_path, plans, dataset, message):
    write_nnunet(tmp_path)
    write_json(tmp_path, plans, DATASET | dataset)
    with pytest.raises(UnsupportedModel, match=message):
        read_model(tmp_path)


def test_a_network_that_the_plans_do_not_describe_is_refused(tmp_path):
    folder = write_nnunet(tmp_path)
    save(folder, 0, checkpoint(weights() | {"gate.weight": torch.ones(1)}, "3d_fullres"))
    with pytest.raises(CheckpointMismatch, match="has 'gate.weight', which plans.json says nothing of"):
        load_networks(read_model(folder), folder)


def test_a_tensor_that_is_missing_is_named(tmp_path):
    folder = write_nnunet(tmp_path)
    tensors = weights()
    del tensors["encoder.stages.1.0.convs.1.norm.bias"]
    save(folder, 0, checkpoint(tensors, "3d_fullres"))
    with pytest.raises(CheckpointMismatch, match=r"has no 'encoder.stages.1.0.convs.1.norm.bias'"):
        load_networks(read_model(folder), folder)


def test_checkpoints_that_change_after_the_night_began_are_refused(tmp_path):
    folder = write_nnunet(tmp_path)
    model = read_model(folder)
    save(folder, 0, checkpoint(weights(seed=9), "3d_fullres"))
    with pytest.raises(CheckpointMismatch, match="changed while they were in use"):
        load_networks(model, folder)


def test_plans_that_are_not_as_nnunet_writes_them_are_refused(tmp_path):
    folder = write_nnunet(tmp_path)
    incomplete = {key: value for key, value in plans().items() if key != "transpose_forward"}
    write_json(folder, incomplete, DATASET)
    with pytest.raises(CheckpointMismatch, match="not as nnU-Net v2 writes it .KeyError: 'transpose_forward'"):
        read_model(folder)


def test_plans_from_before_nnunet_2_4_describe_the_same_network(tmp_path):
    expected = read_model(write_nnunet(tmp_path / "new")).plan.network
    older = {
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": 2,
        "unet_max_num_features": 3,
        "n_conv_per_stage_encoder": [1, 2],
        "n_conv_per_stage_decoder": [1],
        "pool_op_kernel_sizes": [[1, 1, 1], [1, 2, 2]],
        "conv_kernel_sizes": [[1, 3, 3], [3, 3, 3]],
    }
    changed = configured(**older)
    del changed["configurations"]["3d_fullres"]["architecture"]
    write_json(write_nnunet(tmp_path / "old"), changed, DATASET)
    assert read_model(tmp_path / "old").plan.network == expected


def test_a_trainer_that_took_batch_norms_instead_is_seen_in_the_weights(tmp_path):
    folder, tensors = write_nnunet(tmp_path), weights()
    for name in [name for name in tensors if name.endswith("norm.weight")]:
        place = name.removesuffix("weight")
        tensors[f"{place}running_mean"] = tensors[f"{place}running_var"] = torch.ones(len(tensors[name]))
        tensors[f"{place}num_batches_tracked"] = torch.tensor(3)
    save(folder, 0, checkpoint(tensors, "3d_fullres"))
    (network,) = load_networks(read_model(folder), folder)
    assert network.encoder[0][1].running_mean.tolist() == [1, 1]


def test_intensities_are_normalised_as_the_plans_say(tmp_path):
    """By hand: what lies outside of the outline keeps its value; a window is clipped; 0 to 1."""
    image, inside = np.array([[[0, 1, 3]]], np.float32), np.array([[[False, True, True]]])
    assert normalise_by("z_score_inside", image, inside).ravel().tolist() == [0, -1, 1]
    assert normalise_by("unit", image, inside).ravel().tolist() == pytest.approx([0, 1 / 3, 1])
    assert normalise_by("none", image, inside).ravel().tolist() == [0, 1, 3]
    assert normalise_by(Window(lower=0, upper=2, mean=1, sd=0.5), image, inside).ravel().tolist() == [-2, 0, 2]


def test_a_channel_of_ct_takes_the_window_of_the_training_data(tmp_path):
    write_json(write_nnunet(tmp_path), configured(normalization_schemes=["CTNormalization"]), DATASET)
    (scheme,) = read_model(tmp_path).plan.nnunet.schemes
    assert scheme == Window(lower=5, upper=110, mean=60, sd=30)
