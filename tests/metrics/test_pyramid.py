"""Laplacian pyramids against convolutions in scipy."""

import numpy as np
import pytest
import scipy.ndimage
import torch

from fastgan.metrics import laplacian_pyramid

BINOMIAL = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]) / 256


def halved(plane):
    return scipy.ndimage.convolve(plane, BINOMIAL, mode="mirror")[::2, ::2]


def doubled(plane):
    sparse = np.zeros((2 * plane.shape[0], 2 * plane.shape[1]))
    sparse[::2, ::2] = plane
    return scipy.ndimage.convolve(sparse, 4 * BINOMIAL, mode="mirror")


@pytest.mark.parametrize(
    ("height", "width", "sides"),
    [
        (16, 16, [(16, 16)]),
        (64, 64, [(64, 64), (32, 32), (16, 16)]),
        (32, 80, [(32, 80), (16, 40)]),
        (40, 40, [(40, 40), (20, 20)]),
        (36, 66, [(36, 66), (18, 33)]),
        (33, 64, [(33, 64)]),
        (30, 64, [(30, 64)]),
        (8, 8, [(8, 8)]),
    ],
)
def test_levels_are_burt_and_adelsons(generator, height, width, sides):
    images = torch.randn(2, 3, height, width, generator=generator, dtype=torch.float64)
    levels = laplacian_pyramid(images)
    assert [tuple(level.shape) for level in levels] == [(2, 3, *side) for side in sides]
    for n in range(2):
        for c in range(3):
            plane = images[n, c].numpy()
            for level in levels[:-1]:
                smaller = halved(plane)
                np.testing.assert_allclose(level[n, c], plane - doubled(smaller), rtol=0, atol=1e-13)
                plane = smaller
            np.testing.assert_allclose(levels[-1][n, c], plane, rtol=0, atol=1e-13)


def test_the_smallest_level_can_be_chosen(generator):
    images = torch.randn(1, 1, 32, 32, generator=generator)
    assert [len(level[0, 0]) for level in laplacian_pyramid(images, smallest=8)] == [32, 16, 8]
    assert laplacian_pyramid(images, smallest=17)[0] is images


def test_float32_keeps_its_precision(generator):
    images = torch.rand(4, 3, 64, 64, generator=generator) * 2 - 1
    for level, exact in zip(laplacian_pyramid(images), laplacian_pyramid(images.double()), strict=True):
        assert level.dtype == torch.float32
        assert (level - exact).abs().max() < 1e-6
