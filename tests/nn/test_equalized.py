"""Equalised layers: their formulas written out, and a learning rate that is the same for every layer."""

import pytest
import torch
import torch.nn.functional as F

from fastgan.nn import EqualizedConv2d, EqualizedLinear
from fastgan.ops import downsample2d, setup_filter


@pytest.mark.parametrize("lr_multiplier", [1.0, 0.01])
def test_linear(lr_multiplier, generator):
    layer = EqualizedLinear(6, 5, bias_init=0.5, act="lrelu", lr_multiplier=lr_multiplier).double()
    x = torch.randn(3, 6, generator=generator, dtype=torch.float64)
    scaled = layer.weight * lr_multiplier / 6**0.5
    expected = 2**0.5 * F.leaky_relu(x @ scaled.t() + lr_multiplier * layer.bias, 0.2)
    torch.testing.assert_close(layer(x), expected)
    assert torch.equal(layer.bias, torch.full((5,), 0.5, dtype=torch.float64))


def test_the_scaled_weights_do_not_depend_on_the_multiplier(generator):
    for multiplier in (1.0, 0.01):
        layer = EqualizedLinear(400, 300, lr_multiplier=multiplier)
        assert (layer.weight * layer.weight_gain).std().item() == pytest.approx(1 / 20, rel=0.02)


def test_convolution(generator):
    layer = EqualizedConv2d(3, 4, 3, act="lrelu", clamp=0.8).double()
    x = torch.randn(2, 3, 5, 6, generator=generator, dtype=torch.float64)
    z = F.conv2d(x, layer.weight / 27**0.5, layer.bias, padding=1)
    torch.testing.assert_close(layer(x), (2**0.5 * F.leaky_relu(z, 0.2)).clamp(-0.8, 0.8))
    halved = (2**0.5 * 0.5 * F.leaky_relu(z, 0.2)).clamp(-0.4, 0.4)
    torch.testing.assert_close(layer(x, gain=0.5), halved)


def test_a_projection_is_downsampled(generator):
    layer = EqualizedConv2d(3, 4, 1, bias=False, down=2).double()
    x = torch.randn(2, 3, 6, 8, generator=generator, dtype=torch.float64)
    small = downsample2d(x, setup_filter([1, 3, 3, 1]))
    torch.testing.assert_close(layer(x, gain=0.7), 0.7 * F.conv2d(small, layer.weight / 3**0.5))


def test_sizes(generator):
    x = torch.randn(2, 3, 8, 6, generator=generator)
    assert EqualizedConv2d(3, 5, 3, down=2)(x).shape == (2, 5, 4, 3)
    assert EqualizedConv2d(3, 5, 3, up=2)(x).shape == (2, 5, 16, 12)
    with pytest.raises(ValueError, match="EqualizedConv2d: kernel_size is 2, expected an odd number"):
        EqualizedConv2d(3, 5, 2)
