"""The modulated layers: their additions to the op, and the noise that they draw."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fastgan.nn import ModulatedConv2d, NoiseInjection, StyledConv, ToRGB
from tests.nn import by_hand


def inputs(generator, channels=3, w_dim=5, size=(4, 6)):
    x = torch.randn(2, channels, *size, generator=generator, dtype=torch.float64)
    return x, torch.randn(2, w_dim, generator=generator, dtype=torch.float64)


def learnt(layer, generator):
    """In float64, as after some training: no parameter is 0 or 1."""
    with torch.no_grad():
        for parameter in layer.double().parameters():
            parameter += 0.5 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return layer


def numbers(*tensors):
    return [t.detach().numpy() for t in tensors]


def styles_of(layer, w):
    weight, bias, w = numbers(layer.affine.weight, layer.affine.bias, w)
    return w @ weight.T / w.shape[1] ** 0.5 + bias


def assert_close(found, expected, rtol=1e-6):
    """By default with room for the taps, which are float32."""
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("noise", ["none", "const", "random", None])
@pytest.mark.parametrize("up", [1, 2, 3])
@pytest.mark.parametrize(("kernel_size", "taps"), [(3, (1, 3, 3, 1)), (3, (1, 2, 5)), (1, (1, 2, 5, 2)), (5, (1, 2))])
def test_styled_conv_is_its_formula(noise, up, kernel_size, taps, generator):
    x, w = inputs(generator)
    size = 4 * up, 6 * up
    layer = learnt(StyledConv(3, 4, 5, size, kernel_size, up, taps, clamp=1.2), generator)
    z = by_hand.modulated(*numbers(x, layer.weight), styles_of(layer, w), taps=taps, up=up)
    strength, constant, bias = numbers(layer.noise_strength, layer.noise_const, layer.bias)
    keywords = {} if noise is None else {"noise": noise}  # random unless told otherwise
    for gain in (1.0, 0.7):
        torch.manual_seed(5)
        found = layer(x, w, gain=gain, **keywords)
        torch.manual_seed(5)
        drawn = torch.randn(2, 1, *size).numpy()
        added = {"none": 0, "const": constant}.get(noise, drawn)
        assert_close(found, by_hand.lrelu(z + strength * added + bias[:, None, None], gain, 1.2))


@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize("up", [1, 2])
@pytest.mark.parametrize("kernel_size", [1, 3])
def test_modulated_conv_is_its_formula(demodulate, up, kernel_size, generator):
    """What is not demodulated has the equalised learning rate's constant."""
    x, w = inputs(generator)
    layer = learnt(ModulatedConv2d(3, 4, kernel_size, 5, demodulate, up), generator)
    styles = styles_of(layer, w) / (1 if demodulate else (3 * kernel_size**2) ** 0.5)
    assert_close(layer.styles(w), styles, rtol=1e-12)
    expected = by_hand.modulated(*numbers(x, layer.weight), styles, demodulate, taps=(1, 3, 3, 1), up=up)
    assert_close(layer(x, w), expected)


def test_a_new_layer_has_styles_of_one_no_bias_and_silent_noise():
    layer = StyledConv(3, 4, 5, (4, 6))
    assert torch.equal(layer.styles(torch.zeros(2, 5)), torch.ones(2, 3))
    assert not layer.bias.any()
    assert not layer.noise_strength.any()
    assert layer.noise_const.shape == (4, 6)


def test_without_resampling_a_layer_is_pytorch_s_convolution_of_each_sample(generator):
    x, w = inputs(generator)
    layer = learnt(StyledConv(3, 4, 5, (4, 6)), generator)
    y = []
    for image, style in zip(x, styles_of(layer, w), strict=True):
        kernel = layer.weight * torch.from_numpy(style)[:, None, None]
        kernel = kernel / (kernel.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        y.append(F.conv2d(image[None], kernel, layer.bias, padding=1))
    expected = 2**0.5 * F.leaky_relu(torch.cat(y) + layer.noise_strength * layer.noise_const, 0.2)
    torch.testing.assert_close(layer(x, w, noise="const"), expected)


def test_noise_of_each_kind(generator):
    x, w = inputs(generator)
    layer = StyledConv(3, 4, 5, (8, 12), up=2).double()
    none = layer(x, w, noise="none")
    assert none.shape == (2, 4, 8, 12)
    assert torch.equal(layer(x, w, noise="random"), none)  # its strength is zero at first
    with torch.no_grad():
        layer.noise_strength.fill_(1.0)
    torch.manual_seed(5)
    drawn = layer(x, w)
    torch.manual_seed(5)
    assert torch.equal(layer(x, w), drawn)
    assert not torch.equal(layer(x, w), drawn)
    assert not torch.equal(drawn, none)
    assert torch.equal(layer(x, w, noise="const"), layer(x, w, noise="const"))
    with pytest.raises(ValueError, match="noise is 'fixed', expected random, const or none"):
        layer(x, w, noise="fixed")


@pytest.mark.parametrize("clamp", [None, 0.5])
def test_to_rgb_is_a_matrix_for_each_pixel(clamp, generator):
    x, w = inputs(generator)
    layer = learnt(ToRGB(3, 2, 5, clamp=clamp), generator)
    weight, bias, image = numbers(layer.weight, layer.bias, x)
    styles = styles_of(layer, w) / 3**0.5
    expected = np.einsum("oi,bi,bihw->bohw", weight[:, :, 0, 0], styles, image) + bias[:, None, None]
    assert_close(layer(x, w), expected if clamp is None else expected.clip(-clamp, clamp), rtol=1e-12)


def test_demodulated_results_have_unit_variance_whatever_the_styles(generator):
    x, w = inputs(generator, channels=200, size=(16, 16))
    layer = ModulatedConv2d(200, 50, 3, 5).double()
    variances = [layer(x, scale * w)[:, :, 1:-1, 1:-1].var().item() for scale in (0.1, 1, 10)]
    assert variances == pytest.approx([1, 1, 1], rel=0.15)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [(4, 6), None])
def test_noise_injection(size, dtype, generator):
    x = inputs(generator)[0].to(dtype)
    layer = NoiseInjection(size)
    assert torch.equal(layer(x), x), "its strength is zero at first"
    strength = 2.0
    layer.noise_strength.data.fill_(strength)
    torch.manual_seed(5)
    found = layer(x)
    torch.manual_seed(5)
    assert found.dtype == dtype
    torch.testing.assert_close(found, x + (strength * torch.randn(2, 1, 4, 6)).to(dtype))
    assert layer(x, "none") is x
    if size is None:
        with pytest.raises(ValueError, match="noise is 'const', but the layer was built without a size"):
            layer(x, "const")
    else:
        torch.testing.assert_close(layer(x, "const"), x + (strength * layer.noise_const).to(dtype))


def test_the_strength_of_noise_is_learnt(generator):
    x, _ = inputs(generator)
    layer = NoiseInjection((4, 6)).double()
    layer(x, "const").sum().backward()
    torch.testing.assert_close(layer.noise_strength.grad, 2 * 3 * layer.noise_const.sum())
