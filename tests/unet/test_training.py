"""Training learns, repeats itself, and stops by name."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import mse_loss

from unet import SamplingConfig, Step, TrainingConfig, UNet, UNetConfig, Volume, predict, train
from unet.augment import draw_patch, random_affine
from unet.checkpoint import load_tensors, save_tensors
from unet.config import AugmentConfig
from unet.metrics import mean_squared_error
from unet.sampling import draw_batch, foreground_places
from unet.training import _schedule

STILL = AugmentConfig(rotation_degrees=0, scale=0, shift=0, probability=0)
TURNED = AugmentConfig(affine_probability=1)


def bright_cube() -> Volume:
    """A cube of label 1 that is brighter than what surrounds it."""
    labels = torch.zeros(16, 12, 8, dtype=torch.uint8)
    labels[4:10, 4:8, 2:6] = 1
    noise = torch.rand(labels.shape, generator=torch.Generator().manual_seed(0))
    return Volume((labels + 0.5 * noise - 0.5)[None], labels)


def config(**changes: object) -> TrainingConfig:
    return TrainingConfig(**{"sampling": sampling(), "steps": 30, **changes})


def sampling(**changes: object) -> SamplingConfig:
    values = {"patch": (16, 12, 8), "spacing_mm": (1.0, 1.0, 1.0), "batch_size": 2, "augment": STILL}
    return SamplingConfig(**{**values, **changes})


def ignore(_step: Step, _network: UNet) -> None:
    """Nothing is done after a step."""


def network() -> UNet:
    torch.manual_seed(0)
    return UNet(
        UNetConfig(dimensions=3, out_channels=2, features=(4, 8), normalisation="batch", upsampling="transposed")
    )


def test_a_bright_cube_is_learnt():
    steps: list[Step] = []
    trained = train(
        network(), [bright_cube()], config(steps=150, precision="float32"), lambda step, _: steps.append(step)
    )
    found = predict([trained], bright_cube().image, (16, 12, 8)).logits.argmax(dim=0)
    truth = bright_cube().target
    assert 2 * ((found == 1) & (truth == 1)).sum() / ((found == 1).sum() + (truth == 1).sum()) > 0.9
    assert steps[-1].loss < 0.6 * steps[0].loss
    assert [step.number for step in steps] == list(range(1, 151))


def test_the_same_seed_gives_the_same_weights():
    first, second = (train(network(), [bright_cube()], config(steps=3), ignore) for _ in range(2))
    assert all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


def test_another_seed_gives_other_weights():
    first, second = (
        train(
            network(), [bright_cube()], config(steps=3, seed=seed, sampling=sampling(augment=AugmentConfig())), ignore
        )
        for seed in (0, 1)
    )
    assert not torch.equal(first.head.weight, second.head.weight)


class Killed(Exception):
    """What a test kills a training with."""


def trained_with_a_kill(checkpoint) -> tuple[UNet, list[int]]:
    """A training of 6 steps that is killed in its fifth and started again, and the steps it made in both."""
    made: list[int] = []

    def die_once(step: Step, _: UNet) -> None:
        made.append(step.number)
        if made == [1, 2, 3, 4, 5]:
            raise Killed

    settings = config(
        steps=6, sampling=sampling(augment=AugmentConfig()), checkpoint=checkpoint, checkpoint_seconds=0.0
    )
    with pytest.raises(Killed):
        train(network(), [bright_cube()], settings, die_once)
    return train(network(), [bright_cube()], settings, die_once), made


def test_a_killed_training_goes_on_from_its_checkpoint_to_the_same_weights(tmp_path):
    resumed, made = trained_with_a_kill(tmp_path / "c.safetensors")
    undisturbed = train(network(), [bright_cube()], config(steps=6, sampling=sampling(augment=AugmentConfig())), ignore)
    assert made == [1, 2, 3, 4, 5, 5, 6]
    pairs = zip(resumed.state_dict().values(), undisturbed.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_training_that_ended_is_not_made_again(tmp_path):
    settings = config(steps=2, checkpoint=tmp_path / "c.safetensors")
    first = train(network(), [bright_cube()], settings, ignore)
    steps: list[Step] = []
    again = train(network(), [bright_cube()], settings, lambda step, _: steps.append(step))
    assert steps == []
    assert torch.equal(first.head.weight, again.head.weight)


def test_time_spent_before_a_kill_counts(tmp_path):
    settings = config(steps=None, seconds=0.3, checkpoint=tmp_path / "c.safetensors")
    train(network(), [bright_cube()], settings, ignore)
    steps: list[Step] = []

    def die(step: Step, _: UNet) -> None:
        steps.append(step)
        raise Killed

    longer = config(steps=None, seconds=600.0, checkpoint=tmp_path / "c.safetensors")
    with pytest.raises(Killed):
        train(network(), [bright_cube()], longer, die)
    assert steps[0].seconds > 0.3
    assert steps[0].share > 0.3 / 600


@pytest.mark.parametrize("content", [b"", b"not tensors"])
def test_a_damaged_checkpoint_is_refused(tmp_path, content):
    (tmp_path / "c.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match="c.safetensors is damaged"):
        train(network(), [bright_cube()], config(checkpoint=tmp_path / "c.safetensors"), ignore)


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    settings = config(steps=1, checkpoint=tmp_path / "c.safetensors")
    train(network(), [bright_cube()], settings, ignore)
    with pytest.raises(ValueError, match="is not a checkpoint of this network"):
        train(UNet(UNetConfig(dimensions=3, out_channels=2, features=(4, 6))), [bright_cube()], settings, ignore)


@pytest.mark.parametrize("lacks", ["random", "optimiser", "steps"])
def test_a_checkpoint_that_lacks_what_this_version_goes_on_from_is_refused(tmp_path, lacks):
    settings = config(steps=1, checkpoint=tmp_path / "c.safetensors")
    train(network(), [bright_cube()], settings, ignore)
    tensors, metadata = load_tensors(tmp_path / "c.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if name.partition(".")[0] != lacks}
    save_tensors(kept, tmp_path / "c.safetensors", {name: text for name, text in metadata.items() if name != lacks})
    with pytest.raises(ValueError, match="is not a checkpoint of this network and version"):
        train(network(), [bright_cube()], settings, ignore)


def test_a_line_is_learnt_by_regression():
    random = torch.Generator().manual_seed(0)
    clean = torch.sin(torch.linspace(0, 12, 64))[None]
    volumes = [Volume(clean + 0.5 * torch.randn(1, 64, generator=random), clean) for _ in range(8)]
    line = SamplingConfig(patch=(64,), spacing_mm=(1.0,), augment=STILL)
    settings = TrainingConfig(sampling=line, steps=200, precision="float32")
    torch.manual_seed(0)
    trained = train(UNet(UNetConfig(dimensions=1, features=(8, 16))), volumes, settings, ignore, mse_loss)
    output = predict([trained], volumes[0].image, (64,)).logits
    assert mean_squared_error(output, clean) < 0.3 * mean_squared_error(volumes[0].image, clean)


def test_training_ends_when_its_time_is_used():
    steps: list[Step] = []
    train(network(), [bright_cube()], config(steps=None, seconds=0.5), lambda step, _: steps.append(step))
    assert steps[-1].share == 1
    assert steps[-2].seconds < 0.5


def test_a_loss_that_is_no_number_ends_by_name():
    volume = bright_cube()
    volume.image[0, 0, 0, 0] = float("nan")
    with pytest.raises(FloatingPointError, match="not a number any more"):
        train(network(), [volume], config(), ignore)


def test_nothing_to_train_on_is_an_error():
    with pytest.raises(ValueError, match="nothing to train on"):
        train(network(), [], config(), ignore)


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
    image, labels = draw_patch(volume.image, volume.target, centre, (16, 12, 8), torch.eye(3))
    assert torch.allclose(image, volume.image, atol=1e-5)
    assert torch.equal(labels, volume.target.long())


def test_a_patch_reads_only_what_lies_under_it():
    volume = bright_cube()
    far = volume.image.clone()
    far[:, 8:] = float("nan")
    image, _ = draw_patch(far, volume.target, torch.tensor([2.5, 5.5, 3.5]), (4, 4, 4), torch.eye(3))
    assert torch.allclose(image, volume.image[:, 1:5, 4:8, 2:6], atol=1e-5)


def test_quantities_are_drawn_like_the_image():
    volume = bright_cube()
    affine = random_affine(TURNED, (1.0, 1.0, 1.0), torch.Generator().manual_seed(3))
    image, target = draw_patch(volume.image, volume.image * 2, torch.tensor([7.0, 6.0, 4.0]), (8, 8, 8), affine)
    assert torch.allclose(target, image * 2)


def test_every_class_is_as_often_in_the_middle_as_the_others():
    rare, common = torch.zeros(16, 16, dtype=torch.uint8), torch.zeros(16, 16, dtype=torch.uint8)
    rare[4, 4], common[2:14, 2:14] = 2, 1
    volumes = [Volume(common[None].float(), common)] * 19 + [Volume(rare[None].float(), rare)]
    pixel = SamplingConfig(patch=(1, 1), spacing_mm=(1.0, 1.0), batch_size=400, foreground=1.0, augment=STILL)
    _, targets = draw_batch(volumes, foreground_places(volumes), pixel, torch.Generator().manual_seed(0))
    assert 0.4 < (targets == 2).float().mean() < 0.6


def test_a_patch_beyond_the_border_is_background():
    volume = bright_cube()
    image, labels = draw_patch(volume.image, volume.target, torch.tensor([-50.0, 0, 0]), (4, 4, 4), torch.eye(3))
    assert image.abs().sum() == 0
    assert labels.sum() == 0


def test_a_patch_that_is_not_turned_is_as_sharp_as_the_scan():
    grains = torch.rand(1, 9, 9, 9, generator=torch.Generator().manual_seed(0))
    volumes = [Volume(grains, torch.ones(9, 9, 9, dtype=torch.uint8))]
    still = AugmentConfig(affine_probability=0, probability=0, shift=0.4, mirror_axes=(0,))
    images, labels = draw_batch(
        volumes, foreground_places(volumes), sampling(patch=(4, 5, 6), batch_size=20, augment=still), torch.Generator()
    )
    inside = images[labels[:, None] == 1]
    assert len(inside) > 1000
    assert (inside[:, None] - grains.flatten()).abs().min(dim=1).values.max() < 1e-4


def test_the_wished_share_of_patches_is_turned():
    random, spacing = torch.Generator().manual_seed(0), (1.0, 1.0, 1.0)
    turned = [random_affine(AugmentConfig(affine_probability=0.25), spacing, random) for _ in range(400)]
    assert 70 < sum(not torch.equal(matrix, torch.eye(3)) for matrix in turned) < 130


def test_image_and_labels_turn_together():
    volume = bright_cube()
    bright = Volume(volume.target[None].float(), volume.target)
    affine = random_affine(TURNED, (1.0, 1.0, 1.0), torch.Generator().manual_seed(3))
    image, labels = draw_patch(bright.image, bright.target, torch.tensor([7.0, 6.0, 4.0]), (16, 12, 8), affine)
    assert ((image[0] > 0.5) == (labels == 1)).float().mean() > 0.97


def test_thick_slices_are_not_turned_into_each_other():
    matrix = random_affine(replace(TURNED, scale=0), (1.0, 1.0, 6.0), torch.Generator().manual_seed(0))
    assert matrix[0, 1] != 0
    assert matrix[2, :2].abs().sum() == 0
    assert matrix[:2, 2].abs().sum() == 0


def test_rotation_is_in_millimetres():
    matrix = random_affine(
        replace(TURNED, scale=0, rotation_degrees=40), (1.0, 1.5, 1.0), torch.Generator().manual_seed(0)
    )
    world = torch.diag(torch.tensor([1.0, 1.5, 1.0])) @ matrix @ torch.diag(torch.tensor([1.0, 1 / 1.5, 1.0]))
    assert torch.allclose(world @ world.T, torch.eye(3), atol=1e-5)
