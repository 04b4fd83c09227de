"""Training learns, repeats itself, and stops by name."""

import pytest
import torch

from unet import Step, TrainingConfig, UNet, UNetConfig, Volume, predict, train
from unet.augment import AugmentConfig, draw_patch, random_affine
from unet.training import _schedule

CPU = torch.device("cpu")
STILL = AugmentConfig(rotation_degrees=0, scale=0, shift=0, probability=0)


def bright_cube() -> Volume:
    """A cube of label 1 that is brighter than what surrounds it."""
    labels = torch.zeros(16, 12, 8, dtype=torch.uint8)
    labels[4:10, 4:8, 2:6] = 1
    noise = torch.rand(labels.shape, generator=torch.Generator().manual_seed(0))
    return Volume((labels + 0.5 * noise - 0.5)[None], labels)


def config(**changes: object) -> TrainingConfig:
    values = {"patch": (16, 12, 8), "spacing_mm": (1.0, 1.0, 1.0), "batch_size": 2, "steps": 30, "augment": STILL}
    return TrainingConfig(**{**values, **changes})


def network() -> UNet:
    torch.manual_seed(0)
    return UNet(
        UNetConfig(dimensions=3, out_channels=2, features=(4, 8), normalisation="batch", upsampling="transposed")
    )


def test_a_bright_cube_is_learnt():
    steps: list[Step] = []
    trained = train(network(), [bright_cube()], config(steps=150, precision="float32"), CPU, steps.append)
    found = predict(trained, bright_cube().image, (16, 12, 8), torch.float32).argmax(dim=0)
    truth = bright_cube().labels
    assert 2 * ((found == 1) & (truth == 1)).sum() / ((found == 1).sum() + (truth == 1).sum()) > 0.9
    assert steps[-1].loss < 0.6 * steps[0].loss
    assert [step.number for step in steps] == list(range(1, 151))


def test_the_same_seed_gives_the_same_weights():
    first, second = (train(network(), [bright_cube()], config(steps=3), CPU, lambda _: None) for _ in range(2))
    assert all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


def test_another_seed_gives_other_weights():
    first, second = (
        train(network(), [bright_cube()], config(steps=3, seed=seed, augment=AugmentConfig()), CPU, lambda _: None)
        for seed in (0, 1)
    )
    assert not torch.equal(first.head.weight, second.head.weight)


def test_training_ends_when_its_time_is_used():
    steps: list[Step] = []
    train(network(), [bright_cube()], config(steps=None, seconds=0.5), CPU, steps.append)
    assert steps[-1].share == 1
    assert steps[-2].seconds < 0.5


def test_a_loss_that_is_no_number_ends_by_name():
    volume = bright_cube()
    volume.image[0, 0, 0, 0] = float("nan")
    with pytest.raises(FloatingPointError, match="not a number any more"):
        train(network(), [volume], config(), CPU, lambda _: None)


def test_nothing_to_train_on_is_an_error():
    with pytest.raises(ValueError, match="nothing to train on"):
        train(network(), [], config(), CPU, lambda _: None)


@pytest.mark.parametrize("changes", [{"seconds": 1.0}, {"steps": None}])
def test_the_budget_is_steps_or_seconds(changes):
    with pytest.raises(ValueError, match="either seconds or steps"):
        config(**changes)


def test_the_learning_rate_rises_then_falls_to_nothing():
    assert _schedule(0.015, warmup=0.03) == 0.5
    assert _schedule(0.03, warmup=0.03) == 1
    assert _schedule(1.0, warmup=0.03) == 0


def test_a_patch_at_rest_is_the_volume():
    volume = bright_cube()
    centre = torch.tensor([7.5, 5.5, 3.5])
    image, labels = draw_patch(volume.image, volume.labels, centre, (16, 12, 8), torch.eye(3))
    assert torch.allclose(image, volume.image, atol=1e-5)
    assert torch.equal(labels, volume.labels.long())


def test_a_patch_beyond_the_border_is_background():
    volume = bright_cube()
    image, labels = draw_patch(volume.image, volume.labels, torch.tensor([-50.0, 0, 0]), (4, 4, 4), torch.eye(3))
    assert image.abs().sum() == 0
    assert labels.sum() == 0


def test_image_and_labels_turn_together():
    volume = bright_cube()
    bright = Volume(volume.labels[None].float(), volume.labels)
    affine = random_affine(AugmentConfig(), (1.0, 1.0, 1.0), torch.Generator().manual_seed(3))
    image, labels = draw_patch(bright.image, bright.labels, torch.tensor([7.0, 6.0, 4.0]), (16, 12, 8), affine)
    assert ((image[0] > 0.5) == (labels == 1)).float().mean() > 0.97


def test_thick_slices_are_not_turned_into_each_other():
    matrix = random_affine(AugmentConfig(scale=0), (1.0, 1.0, 6.0), torch.Generator().manual_seed(0))
    assert matrix[0, 1] != 0
    assert matrix[2, :2].abs().sum() == 0
    assert matrix[:2, 2].abs().sum() == 0


def test_rotation_is_in_millimetres():
    matrix = random_affine(
        AugmentConfig(scale=0, rotation_degrees=40), (1.0, 1.5, 1.0), torch.Generator().manual_seed(0)
    )
    world = torch.diag(torch.tensor([1.0, 1.5, 1.0])) @ matrix @ torch.diag(torch.tensor([1.0, 1 / 1.5, 1.0]))
    assert torch.allclose(world @ world.T, torch.eye(3), atol=1e-5)
