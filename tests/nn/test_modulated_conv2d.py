"""The modulated layers: what each adds to the op, and the noise that they draw."""

import pytest
import torch
import torch.nn.functional as F

from fastgan.nn import ModulatedConv2d, NoiseInjection, StyledConv, ToRGB


def inputs(generator, channels=3, w_dim=5, size=(4, 6)):
    x = torch.randn(2, channels, *size, generator=generator, dtype=torch.float64)
    return x, torch.randn(2, w_dim, generator=generator, dtype=torch.float64)


def test_styled_conv_is_its_formula(generator):
    x, w = inputs(generator)
    layer = StyledConv(3, 4, 5, (4, 6), clamp=1.2).double()
    with torch.no_grad():
        layer.noise_strength.fill_(0.3)
        layer.bias.normal_(generator=generator)
    styles = w @ layer.affine.weight.t() / 5**0.5 + 1
    y = []
    for image, style in zip(x, styles, strict=True):
        kernel = layer.weight * style[:, None, None]
        kernel = kernel / (kernel.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        y.append(F.conv2d(image[None], kernel, padding=1))
    z = torch.cat(y) + 0.3 * layer.noise_const + layer.bias[:, None, None]
    torch.testing.assert_close(layer(x, w, noise="const"), (2**0.5 * F.leaky_relu(z, 0.2)).clamp(-1.2, 1.2))


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


def test_to_rgb_is_a_matrix_for_each_pixel(generator):
    x, w = inputs(generator)
    layer = ToRGB(3, 2, 5, clamp=0.5).double()
    styles = (w @ layer.affine.weight.t() / 5**0.5 + 1) / 3**0.5
    expected = torch.einsum("oi,bi,bihw->bohw", layer.weight[:, :, 0, 0], styles, x) + layer.bias[:, None, None]
    torch.testing.assert_close(layer(x, w), expected.clamp(-0.5, 0.5))


def test_demodulated_results_have_unit_variance_whatever_the_styles(generator):
    x, w = inputs(generator, channels=200, size=(16, 16))
    layer = ModulatedConv2d(200, 50, 3, 5).double()
    variances = [layer(x, scale * w)[:, :, 1:-1, 1:-1].var().item() for scale in (0.1, 1, 10)]
    assert variances == pytest.approx([1, 1, 1], rel=0.15)


def test_noise_injection(generator):
    x, _ = inputs(generator)
    layer = NoiseInjection((4, 6)).double()
    assert torch.equal(layer(x), x)
    with torch.no_grad():
        layer.noise_strength.fill_(2.0)
    torch.testing.assert_close(layer(x, "const"), x + 2 * layer.noise_const)
    added = layer(x) - x
    torch.testing.assert_close(added[:, :1].expand_as(added), added)  # the same for all channels
    assert not torch.equal(added[0], added[1])
    with pytest.raises(ValueError, match="noise is 'const', but the layer was built without a size"):
        NoiseInjection()(x, "const")
