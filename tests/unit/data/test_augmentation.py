import numpy as np
import pytest
import torch

from fedvol.config.data import Augmentation
from fedvol.data.augmentation import (
    Changes,
    blur,
    change_contrast_in_place,
    change_gamma_in_place,
    change_in_place,
    draw_changes,
)
from fedvol.data.batch import Batch


def augment(batch: Batch, *, config: Augmentation, generator: torch.Generator) -> Batch:
    """Change each sample as the sampler does, and leave the given batch as it is."""
    changes = draw_changes(len(batch.image), config=config, generator=generator)
    return apply_changes(batch, changes=changes, generator=generator)


def apply_changes(batch: Batch, *, changes: Changes, generator: torch.Generator) -> Batch:
    image, label = batch.image.clone(), batch.label.clone()
    change_in_place(image, label, changes=changes, generator=generator)
    return Batch(image=image, label=label)


OFF = dict.fromkeys(
    [
        "rotation_probability",
        "scale_probability",
        "noise_probability",
        "blur_probability",
        "brightness_probability",
        "contrast_probability",
        "low_resolution_probability",
        "gamma_probability",
        "gamma_invert_probability",
    ],
    0.0,
)
ALL = dict.fromkeys(OFF, 1.0)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some_batch(batch_size: int = 3, shape=(9, 11, 10), channels: int = 2) -> Batch:
    rng = np.random.default_rng(0)
    return Batch(
        image=torch.from_numpy(rng.normal(size=(batch_size, channels, *shape)).astype(np.float32)),
        label=torch.from_numpy(rng.integers(0, 4, (batch_size, *shape))),
    )


def neutral(batch_size: int, **changed: torch.Tensor) -> Changes:
    ones, zeros = torch.ones(batch_size), torch.zeros(batch_size)
    values = {
        "mirror": torch.zeros(batch_size, 3, dtype=torch.bool),
        "rotation_deg": torch.zeros(batch_size, 3),
        "zoom": ones,
        "noise_std": zeros,
        "blur_sigma": zeros,
        "brightness": ones,
        "contrast": ones,
        "low_resolution": ones,
        "gamma_inverted": ones,
        "gamma": ones,
    }
    return Changes(**(values | changed))


def test_probability_zero_is_the_identity_bit_for_bit():
    batch = some_batch()

    out = augment(batch, config=Augmentation(**OFF, mirror_axes=()), generator=seeded())

    assert torch.equal(out.image, batch.image)
    assert torch.equal(out.label, batch.label)


def test_the_given_batch_is_left_alone():
    batch = some_batch()
    image, label = batch.image.clone(), batch.label.clone()

    for config in (Augmentation(**ALL), Augmentation(**OFF, mirror_axes=())):
        out = augment(batch, config=config, generator=seeded())
        out.image.zero_()
        out.label.zero_()

    assert torch.equal(batch.image, image)
    assert torch.equal(batch.label, label)


def test_shapes_types_and_classes_stay():
    batch = some_batch()

    out = augment(batch, config=Augmentation(**ALL), generator=seeded())

    assert out.image.shape == batch.image.shape
    assert out.image.dtype == torch.float32
    assert out.label.dtype == torch.int64
    assert set(out.label.unique().tolist()) <= {0, 1, 2, 3}
    assert out.image.isfinite().all()


def test_the_same_seed_gives_the_same_batch_and_another_another():
    batch, config = some_batch(), Augmentation(**ALL)

    first, again, other = (
        augment(batch, config=config, generator=seeded(seed)) for seed in (1, 1, 2)
    )

    assert torch.equal(first.image, again.image)
    assert torch.equal(first.label, again.label)
    assert not torch.equal(first.image, other.image)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_mirror_flips_image_and_label_together_and_twice_is_the_identity(axis):
    batch = some_batch(1)
    mirror = torch.zeros(1, 3, dtype=torch.bool)
    mirror[0, axis] = True
    changes = neutral(1, mirror=mirror)

    once = apply_changes(batch, changes=changes, generator=seeded())
    twice = apply_changes(once, changes=changes, generator=seeded())

    assert torch.equal(once.image, batch.image.flip(axis + 2))
    assert torch.equal(once.label, batch.label.flip(axis + 1))
    assert torch.equal(twice.image, batch.image)
    assert torch.equal(twice.label, batch.label)


def test_mirror_keeps_the_histogram_and_only_allowed_axes_flip():
    batch = some_batch(64, shape=(8, 8, 8), channels=1)

    out = augment(batch, config=Augmentation(**OFF, mirror_axes=(1,)), generator=seeded())

    flipped = 0
    for before, after, image, moved in zip(
        batch.label, out.label, batch.image, out.image, strict=True
    ):
        assert torch.equal(before.flatten().bincount(), after.flatten().bincount())
        is_flipped = torch.equal(after, before.flip(1))
        assert is_flipped or torch.equal(after, before)
        assert torch.equal(moved, image.flip(2) if is_flipped else image)
        flipped += is_flipped
    assert 16 < flipped < 48


@pytest.mark.parametrize("sigma", [0.5, 0.8, 1.0])
def test_blur_is_a_gaussian_filter(sigma):
    ndimage = pytest.importorskip("scipy.ndimage")
    image = some_batch(1).image[0]

    out = blur(image, sigma=sigma)

    radius = max(1, int(3 * sigma + 0.5))
    expected = np.stack(
        [
            ndimage.gaussian_filter(channel, sigma, mode="nearest", radius=radius)
            for channel in image.numpy().astype(np.float64)
        ]
    )
    np.testing.assert_allclose(out.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("gamma", [0.7, 1.5])
def test_gamma_keeps_the_range_and_the_order(gamma):
    image = some_batch(1).image[0]

    out = image.clone()
    change_gamma_in_place(out, gamma=gamma)

    torch.testing.assert_close(out.amin((1, 2, 3)), image.amin((1, 2, 3)))
    torch.testing.assert_close(out.amax((1, 2, 3)), image.amax((1, 2, 3)))
    for before, after in zip(image, out, strict=True):
        assert (after.flatten()[before.flatten().argsort()].diff() >= -1e-6).all()
    assert (out.mean() > image.mean()) == (gamma < 1)


def test_inverted_gamma_bends_the_other_way():
    batch = some_batch(1)
    changes = neutral(1, gamma_inverted=torch.tensor([1.5]))

    out = apply_changes(batch, changes=changes, generator=seeded())

    bent = -batch.image[0]
    change_gamma_in_place(bent, gamma=1.5)
    torch.testing.assert_close(out.image[0], -bent)
    assert out.image.mean() > batch.image.mean()
    torch.testing.assert_close(out.image.amax(), batch.image.amax())


def test_a_constant_channel_survives_everything():
    image = torch.full((1, 1, 9, 9, 9), 0.25)
    label = torch.zeros(1, 9, 9, 9, dtype=torch.int64)

    for seed in range(5):
        config = Augmentation(**(ALL | {"noise_probability": 0.0}))
        out = augment(Batch(image=image, label=label), config=config, generator=seeded(seed))
        assert out.image.isfinite().all()


def test_contrast_scales_about_the_mean_inside_the_range():
    image = some_batch(1).image[0]

    lower, higher = image.clone(), image.clone()
    change_contrast_in_place(lower, factor=0.75)
    change_contrast_in_place(higher, factor=1.25)

    torch.testing.assert_close(lower.mean((1, 2, 3)), image.mean((1, 2, 3)), atol=1e-5, rtol=0)
    torch.testing.assert_close(lower.std((1, 2, 3)), image.std((1, 2, 3)) * 0.75)
    assert (higher.amax((1, 2, 3)) <= image.amax((1, 2, 3))).all()
    assert (higher.amin((1, 2, 3)) >= image.amin((1, 2, 3))).all()
    assert (higher.std((1, 2, 3)) > image.std((1, 2, 3))).all()


def test_noise_has_the_drawn_deviation_and_touches_only_its_sample():
    batch = some_batch(2, shape=(24, 24, 24), channels=1)
    changes = neutral(2, noise_std=torch.tensor([0.0, 0.3]))

    out = apply_changes(batch, changes=changes, generator=seeded())

    assert torch.equal(out.image[0], batch.image[0])
    noise = out.image[1] - batch.image[1]
    assert float(noise.std()) == pytest.approx(0.3, rel=0.05)
    assert abs(float(noise.mean())) < 0.02


def test_samples_do_not_touch_each_other():
    batch = some_batch(3)
    changed = Batch(image=batch.image.clone(), label=batch.label.clone())
    changed.image[1], changed.label[1] = 99.0, 0
    config = Augmentation(**ALL)

    first = augment(batch, config=config, generator=seeded())
    second = augment(changed, config=config, generator=seeded())

    for index in (0, 2):
        assert torch.equal(first.image[index], second.image[index])
        assert torch.equal(first.label[index], second.label[index])


def test_draws_follow_probability_and_range():
    config = Augmentation()
    changes = draw_changes(4000, config=config, generator=seeded())

    def check(values: torch.Tensor, neutral_value: float, share: float, low: float, high: float):
        drawn = values[values != neutral_value]
        assert len(drawn) / 4000 == pytest.approx(share, abs=0.025)
        assert float(drawn.min()) == pytest.approx(low, abs=0.03 * (high - low))
        assert float(drawn.max()) == pytest.approx(high, abs=0.03 * (high - low))

    check(changes.zoom, 1, 0.2, 0.7, 1.4)
    check(changes.noise_std**2, 0, 0.1, 0, 0.1)
    check(changes.blur_sigma, 0, 0.2, 0.5, 1)
    check(changes.brightness, 1, 0.15, 0.75, 1.25)
    check(changes.contrast, 1, 0.15, 0.75, 1.25)
    check(changes.low_resolution, 1, 0.25, 0.5, 1)
    check(changes.gamma, 1, 0.3, 0.7, 1.5)
    check(changes.gamma_inverted, 1, 0.1, 0.7, 1.5)
    rotated = changes.rotation_deg.abs().sum(1) > 0
    assert float(rotated.float().mean()) == pytest.approx(0.2, abs=0.025)
    assert float(changes.rotation_deg.abs().max()) == pytest.approx(30, abs=1)
    assert float(changes.mirror.float().mean()) == pytest.approx(0.5, abs=0.025)


def test_one_probability_does_not_disturb_the_other_draws():
    first = draw_changes(50, config=Augmentation(), generator=seeded())
    other = Augmentation(scale_probability=0.9, mirror_axes=())
    second = draw_changes(50, config=other, generator=seeded())

    assert torch.equal(first.gamma, second.gamma)
    assert torch.equal(first.rotation_deg, second.rotation_deg)
    assert not torch.equal(first.zoom, second.zoom)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_agrees_with_the_cpu():
    batch = some_batch(4, shape=(24, 28, 20))
    there = Batch(image=batch.image.cuda(), label=batch.label.cuda())

    for config in (Augmentation(), Augmentation(**ALL)):
        cpu = augment(batch, config=config, generator=seeded())
        gpu = augment(there, config=config, generator=seeded())

        assert gpu.image.is_cuda
        torch.testing.assert_close(gpu.image.cpu(), cpu.image, atol=1e-3, rtol=1e-3)
        assert float((gpu.label.cpu() != cpu.label).float().mean()) < 1e-3
