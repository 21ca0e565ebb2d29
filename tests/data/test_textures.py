"""Patches of the photographs against slices of them in numpy."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_images

from fastgan.data import load, textures
from fastgan.errors import UserError


def reduced(photograph, factor):
    """The means of the blocks, [height, width, channels]; those at the lower and right border may be incomplete."""
    height, width, _ = photograph.shape
    starts = [np.arange(0, side, factor) for side in (height, width)]
    sums = np.add.reduceat(np.add.reduceat(photograph.astype(np.float64), starts[0], axis=0), starts[1], axis=1)
    rows, columns = (np.diff([*first, side]) for first, side in zip(starts, (height, width), strict=True))
    return sums / (rows[:, None] * columns)[..., None]


def number(images, photograph, mirrored, top, left):
    """Counts photographs, mirror images, rows and columns by hand."""
    photographs, sides, tops, lefts = images.pixels.shape[:4]
    assert (photographs, sides) == (2, 2)
    return ((photograph * 2 + mirrored) * tops + top) * lefts + left


@pytest.mark.parametrize(
    ("resolution", "factor"), [(8, 16), (16, 8), (32, 4), (64, 2), (128, 1), (256, 1), ((32, 48), 2), ((200, 640), 1)]
)
def test_a_patch_is_a_slice_of_a_reduced_photograph(seed, resolution, factor):
    random = np.random.default_rng(seed)
    images = textures(resolution, channels=3)
    height, width = (resolution, resolution) if isinstance(resolution, int) else resolution
    assert images.shape == (3, height, width)
    indices, expected = [], []
    for photograph, whole in enumerate(load_sample_images().images):
        small = reduced(whole, factor)
        tops, lefts = small.shape[0] - height + 1, small.shape[1] - width + 1
        assert len(images) == 4 * tops * lefts
        for mirrored in (0, 1):
            top, left = int(random.integers(tops)), int(random.integers(lefts))
            picture = small[:, ::-1] if mirrored else small
            indices.append(number(images, photograph, mirrored, top, left))
            expected.append(picture[top : top + height, left : left + width].transpose(2, 0, 1))
    batch = images.batch(torch.tensor(indices))
    assert batch.dtype == torch.float32
    assert batch.is_contiguous()
    np.testing.assert_allclose((batch.numpy() + 1) * 127.5, np.stack(expected), rtol=0, atol=0.51)


def test_grey_patches_are_the_luma_of_those_in_colour(seed):
    """ITU-R 601, as Pillow has it; both are rounded, and the reduction is of either."""
    colour, grey = textures(32, channels=3), textures(32, channels=1)
    assert grey.shape == (1, 32, 32)
    indices = torch.from_numpy(np.random.default_rng(seed).integers(len(colour), size=50))
    luma = torch.einsum("c,nchw->nhw", torch.tensor([0.299, 0.587, 0.114]), colour.batch(indices))
    assert (luma - grey.batch(indices)[:, 0]).abs().max() <= 1.5 / 127.5


def test_patches_take_no_more_memory_than_the_photographs():
    images = load("textures", 64, channels=3)
    assert len(images) == 155_228
    assert images.pixels.untyped_storage().nbytes() == 2 * 2 * 3 * 214 * 320
    assert textures(128, 3).pixels.untyped_storage().nbytes() < 3.3e6


@pytest.mark.parametrize("resolution", [(428, 8), (8, 641), 512])
def test_patches_larger_than_the_photographs_are_refused(resolution):
    height, width = (resolution, resolution) if isinstance(resolution, int) else resolution
    message = f"--data is 'textures', patches of 427x640 photographs; the run expects {height}x{width}"
    with pytest.raises(UserError, match=message):
        textures(resolution, channels=3)
