"""Equalised layers: their formulas written out, and a learning rate that is the same for every layer."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fastgan.nn import EqualizedConv2d, EqualizedLinear
from fastgan.ops import downsample2d, setup_filter
from tests.nn import by_hand


@pytest.mark.parametrize("lr_multiplier", [1.0, 0.01, 3.0])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("act", ["linear", "lrelu"])
@pytest.mark.parametrize("batch", [(3,), (2, 4), (0,), ()])
def test_linear(lr_multiplier, bias, act, batch, generator):
    layer = EqualizedLinear(6, 5, bias, bias_init=0.5, act=act, lr_multiplier=lr_multiplier).double()
    x = torch.randn(*batch, 6, generator=generator, dtype=torch.float64)
    expected = x.numpy() @ layer.weight.detach().numpy().T * (lr_multiplier / 6**0.5) + lr_multiplier * 0.5 * bias
    if act == "lrelu":
        expected = by_hand.lrelu(expected)
    np.testing.assert_allclose(layer(x).detach().numpy(), expected, rtol=1e-12, atol=1e-12)


def test_a_bias_learns_at_the_multiplied_rate():
    layer = EqualizedLinear(6, 5, lr_multiplier=0.01)
    layer(torch.ones(4, 6)).sum().backward()
    torch.testing.assert_close(layer.bias.grad, torch.full((5,), 4 * 0.01))
    torch.testing.assert_close(layer.weight.grad, torch.full((5, 6), 4 * 0.01 / 6**0.5))


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


@pytest.mark.parametrize("kernel_size", [1, 3, 5])
@pytest.mark.parametrize(("up", "down"), [(2, 1), (1, 2), (3, 1), (1, 3)])
@pytest.mark.parametrize("taps", [(1, 3, 3, 1), (1, 2, 5), (1, 2, 5, 2)])
def test_resampling(kernel_size, up, down, taps, generator):
    """Zeros inserted, filter, kernel, bias and activation one after the other."""
    layer = EqualizedConv2d(2, 3, kernel_size, act="lrelu", up=up, down=down, resample_filter=taps, clamp=1.5).double()
    layer.bias.data.normal_(generator=generator)
    x = torch.randn(2, 2, 6, 9, generator=generator, dtype=torch.float64)
    weight = layer.weight.detach().numpy() / (2 * kernel_size**2) ** 0.5
    z = by_hand.convolution(x.numpy(), weight, taps, up, down) + layer.bias.detach().numpy()[:, None, None]
    for gain in (1.0, 0.5**0.5):
        found = layer(x, gain=gain).detach().numpy()
        np.testing.assert_allclose(found, by_hand.lrelu(z, gain, 1.5), rtol=1e-6, atol=1e-6)


def test_sizes(generator):
    x = torch.randn(2, 3, 8, 6, generator=generator)
    assert EqualizedConv2d(3, 5, 3, down=2)(x).shape == (2, 5, 4, 3)
    assert EqualizedConv2d(3, 5, 3, up=2)(x).shape == (2, 5, 16, 12)
    with pytest.raises(ValueError, match="EqualizedConv2d: kernel_size is 2, expected an odd number"):
        EqualizedConv2d(3, 5, 2)
