"""Blur, Upsample and Downsample against scipy's convolution, and where they put an image's pixels."""

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d

from fastgan.nn import Blur, Downsample, Upsample
from tests.nn import by_hand

TAPS = {
    "binomial": (1, 3, 3, 1),
    "odd": (1, 2, 5),
    "asymmetric": (1, 2, 5, 2),
    "one": (3,),
    "separable": (1, 2, 0.5, 4, 3, 1, 1, 2, 5),
    "two-dimensional": ((1, 2, 3, 0.5), (0, -1, 4, 1), (2, 1, 1, 7)),
    "tall": ((1,), (2,), (4,), (1,), (3,)),
    "tensor": torch.tensor([1.0, 4.0, 2.0, 1.0]),
}


@pytest.fixture(params=TAPS)
def taps(request):
    return TAPS[request.param]


def draw(generator, *size):
    return torch.randn(size, generator=generator, dtype=torch.float64)


def assert_close(found, expected):
    """The taps are float32: each is off by up to half a rounding."""
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6, atol=1e-6)


def test_blur(taps, generator):
    x = draw(generator, 2, 3, 9, 12)
    assert_close(Blur(taps)(x), by_hand.blurred(x.numpy(), taps))


@pytest.mark.parametrize("padding", [9, 0, (9, 10), (9, 10, 8, 11), (-2, 10, 9, -1), (12, -3, -1, 9), (-1, -2, -1, -1)])
def test_blur_with_padding(taps, padding, generator):
    x = draw(generator, 1, 2, 14, 15)
    sides = (padding, padding) if isinstance(padding, int) else padding
    left, right, top, bottom = sides if len(sides) == 4 else (sides[0], sides[0], sides[1], sides[1])
    image = np.pad(x.numpy(), [(0, 0), (0, 0), (max(top, 0), max(bottom, 0)), (max(left, 0), max(right, 0))])
    height, width = image.shape[2:]
    image = image[:, :, max(-top, 0) : height - max(-bottom, 0), max(-left, 0) : width - max(-right, 0)]
    f = by_hand.taps_2d(taps)
    assert_close(Blur(taps, padding)(x), by_hand.each(image, lambda i: convolve2d(i, f, mode="valid")))


@pytest.mark.parametrize("factor", [1, 2, 3, (2, 3), (1, 4), (3, 1)])
def test_upsample(taps, factor, generator):
    x = draw(generator, 2, 2, 5, 7)
    pair = (factor, factor) if isinstance(factor, int) else factor
    found = Upsample(taps, factor)(x)
    assert found.shape == (2, 2, 5 * pair[1], 7 * pair[0])
    assert_close(found, by_hand.upsampled(x.numpy(), taps, pair))


@pytest.mark.parametrize("factor", [1, 2, 3, (2, 3), (1, 4), (3, 1)])
@pytest.mark.parametrize("size", [(12, 24), (13, 14), (4, 5)])
def test_downsample(taps, factor, size, generator):
    """Sizes that are no multiple are rounded down."""
    x = draw(generator, 2, 2, *size)
    pair = (factor, factor) if isinstance(factor, int) else factor
    found = Downsample(taps, factor)(x)
    assert found.shape == (2, 2, size[0] // pair[1], size[1] // pair[0])
    assert_close(found, by_hand.downsampled(x.numpy(), taps, pair))


def ramp(height, width):
    """Each pixel is where it is: its row plus a thousand times its column."""
    return (torch.arange(height)[:, None] + 1000.0 * torch.arange(width)).double()[None, None]


@pytest.mark.parametrize(("taps", "factor"), [((1, 3, 3, 1), 2), ((1, 2, 3, 2, 1), 3)])
def test_an_upsampled_image_stays_in_place(taps, factor):
    """Pixel i has its centre at i + 1/2; these filters interpolate linearly. Independent of how zeros are counted."""
    found = Upsample(taps, factor)(ramp(8, 9))[0, 0]
    rows, columns = ((torch.arange(n * factor).double() + 0.5) / factor - 0.5 for n in (8, 9))
    expected = rows[:, None] + 1000 * columns
    inside = slice(2 * factor, -2 * factor)
    torch.testing.assert_close(found[inside, inside], expected[inside, inside], rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize(("taps", "factor"), [((1, 3, 3, 1), 2), ((1, 4, 1), 3), ((1, 1), 4)])
def test_a_downsampled_image_stays_in_place(taps, factor):
    found = Downsample(taps, factor)(ramp(8 * factor, 9 * factor))[0, 0]
    rows, columns = ((torch.arange(n).double() + 0.5) * factor - 0.5 for n in (8, 9))
    torch.testing.assert_close(found[2:-2, 2:-2], (rows[:, None] + 1000 * columns)[2:-2, 2:-2], rtol=1e-6, atol=1e-4)


def test_what_they_print():
    assert str(Blur((1, 2, 1))) == "Blur(filter=3x3)"
    assert str(Blur((1, 2, 1), (1, 2))) == "Blur(filter=3x3, padding=(1, 1, 2, 2))"
    assert str(Upsample(factor=(2, 3))) == "Upsample(filter=4x4, factor=(2, 3))"
    assert str(Downsample(list(range(1, 9)))) == "Downsample(filter=8, factor=(2, 2))"
