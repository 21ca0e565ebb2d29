"""Patches: cut and normalised as numpy would, and a report that tells good samples from bad ones."""

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn.functional import avg_pool2d

from fastgan.data import Images
from fastgan.metrics import evaluate_patches
from fastgan.metrics.patches import normalise_, random_patches


def test_patches_are_slices_at_places_drawn_evenly(generator):
    """Pixels that say where they are: 2 images of 3 channels, 2×4 places for a patch."""
    images = torch.arange(2 * 3 * 8 * 10).view(2, 3, 8, 10)
    count = 4000
    patches = random_patches(images, count, generator)
    assert patches.shape == (2 * count, 3, 7, 7)
    corners = patches[:, 0, 0, 0].numpy()
    owners, tops, lefts = corners // 240, corners % 240 // 10, corners % 10
    np.testing.assert_array_equal(owners, np.repeat([0, 1], count))
    for patch, owner, top, left in zip(patches, owners, tops, lefts, strict=True):
        assert torch.equal(patch, images[owner, :, top : top + 7, left : left + 7])
    times = np.bincount(tops * 4 + lefts, minlength=8)
    assert len(times) == 8
    assert (abs(times - count / 4) < 7 * np.sqrt(count / 4)).all()


def test_each_channel_is_normalised(seed):
    random = np.random.default_rng(seed)
    patches = torch.from_numpy(
        random.normal(size=(500, 3, 7, 7)) * [[[[3]], [[0.01]], [[1]]]] + [[[[5]], [[0]], [[-1]]]]
    )
    values = patches.numpy().copy()
    expected = (values - values.mean((0, 2, 3), keepdims=True)) / values.std((0, 2, 3), keepdims=True)
    np.testing.assert_allclose(normalise_(patches), expected, rtol=0, atol=1e-12)


def test_many_patches_are_normalised_in_float32(generator):
    """As many as evaluating has: added up one after another, their squares would lose half of the digits."""
    patches = torch.rand(100_000, 1, 7, 7, generator=generator)
    normalised = normalise_(patches).double()
    assert normalised.mean().abs() < 1e-6
    assert (normalised.square().mean() - 1).abs() < 1e-5


def test_rounding_noise_is_not_amplified(generator):
    patches = 0.3 + 1e-7 * torch.randn(50, 2, 7, 7, generator=generator)
    patches[:, 1] = torch.randn(50, 7, 7, generator=generator)
    constant, noise = normalise_(patches).unbind(1)
    assert constant.abs().max() < 1e-5
    assert noise.std() == pytest.approx(1, rel=1e-3)


def smooth(count, generator):
    """Smooth noise on a colour: float32 [count, 3, 32, 32]."""
    noise = avg_pool2d(torch.randn(count, 3, 36, 36, generator=generator), 5, stride=1)
    return noise + 0.5 * torch.randn(count, 3, 1, 1, generator=generator)


@pytest.fixture
def real(generator):
    return smooth(300, generator)


def test_real_images_score_like_others_and_bad_ones_worse(real, generator):
    images = Images("smooth", real)
    before = torch.get_rng_state()
    good = evaluate_patches(smooth(200, generator), images)
    assert torch.equal(torch.get_rng_state(), before)
    assert good.images == 100
    assert list(good.levels) == ["32x32", "16x16"]
    for row in (*good.levels.values(), good.mean):
        assert 0 < row.floor_std < row.floor
        assert abs(row.samples / row.floor - 1) < 0.5

    noise = evaluate_patches(torch.randn(200, 3, 32, 32, generator=generator), images)
    copies = evaluate_patches(real[:1].expand(200, -1, -1, -1), images)
    constant = evaluate_patches(torch.full((200, 3, 32, 32), 0.3), images)
    for bad in (noise, copies, constant):
        assert all(row.samples > 2 * row.floor for row in bad.levels.values())
        assert bad.mean.samples == pytest.approx(np.mean([row.samples for row in bad.levels.values()]), rel=1e-12)
        assert {name: row.floor for name, row in bad.levels.items()} == {
            name: row.floor for name, row in good.levels.items()
        }


def test_a_fault_shows_at_its_own_scale(real):
    """A chequerboard is gone after halving; without its colour an image has the same details."""
    images = Images("smooth", real)
    chequered = real + 0.3 * (-1) ** (torch.arange(32)[:, None] + torch.arange(32))
    fine = evaluate_patches(chequered, images).levels
    assert fine["32x32"].samples > 5 * fine["32x32"].floor
    assert fine["16x16"].samples < 1.5 * fine["16x16"].floor

    ground = real.mean((2, 3), keepdim=True)
    coarse = evaluate_patches(real - ground, images).levels
    assert coarse["32x32"].samples < 1.5 * coarse["32x32"].floor
    assert coarse["16x16"].samples > 2 * coarse["16x16"].floor


def test_brightness_and_contrast_do_not_show(real):
    """What is compared is texture."""
    images = Images("smooth", real)
    same, changed = evaluate_patches(real, images), evaluate_patches(real * 0.25 + 0.5, images)
    assert dataclasses.astuple(changed.mean) == pytest.approx(dataclasses.astuple(same.mean), rel=1e-3)


def test_the_same_every_time(real):
    images = Images("smooth", real[:50])
    first = evaluate_patches(real[50:], images)
    torch.rand(1)
    assert evaluate_patches(real[50:], images) == first
    assert first.images == 25


@pytest.mark.parametrize(
    ("samples", "images", "message"),
    [
        ((4, 1, 16, 16), (4, 3, 16, 16), r"samples has shape \[4, 1, 16, 16\], expected \[at least 1, 3, 16, 16\]"),
        (
            (4, 1, 8, 16),
            (4, 1, 8, 16),
            r"images have shape \[1, 8, 16\], expected \[C, H, W\] with sides of at least 16",
        ),
        ((1, 1, 16, 16), (4, 1, 16, 16), "there are 1 samples and 4 images, expected at least 2 of each"),
        ((4, 1, 16, 16), (1, 1, 16, 16), "there are 4 samples and 1 images, expected at least 2 of each"),
    ],
)
def test_wrong_images(samples, images, message):
    with pytest.raises(ValueError, match=message):
        evaluate_patches(torch.zeros(samples), Images("few", torch.zeros(images)))
