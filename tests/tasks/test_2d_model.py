"""A 2-D network on volumes, from the scan's file to its mask."""

import nibabel
import numpy as np
import torch

from tasks.infer import InferenceConfig, Weights
from tasks.infer.case import infer_case
from tasks.infer.machine import make_ready, resolve
from tasks.model import Model, Plan, Window
from tasks.model.folder import save_model
from tasks.postprocess import postprocess_case
from tasks.preprocess import preprocess_case
from tasks.scan.records import Case, Source
from tasks.scan.volume import read_geometry
from tests.phantoms import box, write_nifti
from unet import UNet, UNetConfig

SHAPE = (10, 14, 9)


def test_a_2_d_network_of_our_own_segments_a_volume_slice_by_slice(tmp_path):
    """It labels what is brighter than 5, in slices across the second axis, none of which has seen another."""
    scan = np.zeros(SHAPE, np.float32) + box(SHAPE, (2, 3, 1), (7, 9, 8), 9) + 1
    network = UNet(UNetConfig(dimensions=2, out_channels=2, features=(1,))).eval()
    with torch.no_grad():
        for name, values in network.named_parameters():
            values.zero_()
            if values.ndim == 4 and "encoder" in name:
                values[0, 0, 1, 1] = 1
        network.head.weight[1] = 1
        network.head.bias[1] = -1.0
    sliced = Plan(
        network=network.config,
        spacing_mm=(1, 1, 1),
        patch=(8, 4, 8),
        batch_size=1,
        slice_axis=1,
        window=Window(lower=0, upper=10, mean=0, sd=5),
    )
    model = save_model(Model(plan=sliced, labels={1: "a"}, weights_sha256=""), [network], tmp_path / "model")
    image = Source(format="nifti", files=(write_nifti(tmp_path / "image.nii.gz", scan),))
    case = Case(name="C1", image=image, geometry=read_geometry(image, "C1"))
    config = InferenceConfig(device="cpu", precision="float32")
    networks = make_ready(Weights(folder=tmp_path / "model"), model, resolve(config))
    prediction = infer_case(preprocess_case(case, sliced, tmp_path), networks, model, config, tmp_path)
    segmentation = postprocess_case(prediction, model, tmp_path)
    expected = box(SHAPE, (2, 3, 1), (7, 9, 8), 1)
    assert np.array_equal(np.asarray(nibabel.load(segmentation.mask).dataobj), expected)
