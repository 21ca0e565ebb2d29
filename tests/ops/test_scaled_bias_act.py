"""scaled_bias_act against numpy, its errors, and the memory that it keeps."""

import numpy as np
import pytest
import torch

from fastgan.ops import scaled_bias_act


def draw(generator, *size):
    return torch.randn(size, generator=generator, dtype=torch.float64)


def in_numpy(x, scale, noise, strength, b):
    """A leaky ReLU of slope 0.2, gain sqrt(2), clamped at 1.5, pixel by pixel."""
    y = np.empty_like(x)
    for index in np.ndindex(*x.shape):
        sample, channel, row, column = index
        v = x[index] * scale[sample, channel] + strength * noise[row, column] + b[channel]
        y[index] = np.clip(np.sqrt(2) * (v if v > 0 else 0.2 * v), -1.5, 1.5)
    return y


def test_values_and_gradients_are_those_of_loops(generator):
    x, scale, noise, strength, b = (
        draw(generator, 2, 3, 4, 5), draw(generator, 2, 3), draw(generator, 4, 5), draw(generator, 1),
        draw(generator, 3),
    )  # fmt: skip
    given = [t.clone().requires_grad_() for t in (x, scale, strength, b)]
    y = scaled_bias_act(given[0], given[1], noise, given[2], given[3], "lrelu", clamp=1.5)
    expected = in_numpy(x.numpy(), scale.numpy(), noise.numpy(), strength.item(), b.numpy())
    np.testing.assert_allclose(y.detach().numpy(), expected, rtol=1e-13, atol=1e-14)

    dy = draw(generator, *x.shape)
    dx, dscale, dstrength, db = torch.autograd.grad(y, given, dy)
    v = x * scale[:, :, None, None] + strength * noise + b[:, None, None]
    t = dy * torch.where(v > 0, 1.0, 0.2) * 2**0.5 * (y.detach().abs() < 1.5)
    torch.testing.assert_close(dx, t * scale[:, :, None, None])
    torch.testing.assert_close(dscale, (t * x).sum((2, 3)))
    torch.testing.assert_close(dstrength, (t * noise).sum().view(1))
    torch.testing.assert_close(db, t.sum((0, 2, 3)))


@pytest.mark.parametrize("shape", [(4, 5), (1, 1, 4, 5), (2, 1, 4, 5)])
def test_noise_of_one_image_or_of_each_has_a_gradient(shape, generator):
    x, scale, noise = draw(generator, 2, 3, 4, 5), draw(generator, 2, 3), draw(generator, *shape).requires_grad_()
    dy = draw(generator, 2, 3, 4, 5)
    (found,) = torch.autograd.grad(scaled_bias_act(x, scale, noise), noise, dy)
    expected = dy.sum(1, keepdim=True) if shape[0] == 2 else dy.sum((0, 1)).expand(shape)
    torch.testing.assert_close(found, expected.reshape(shape))


def test_only_the_input_is_kept_for_the_backward_pass(generator):
    kept = []
    x = draw(generator, 2, 3, 40, 40).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        scaled_bias_act(x, draw(generator, 2, 3), draw(generator, 40, 40), act="lrelu", clamp=1.0)
    assert [t.data_ptr() for t in kept if t.shape == x.shape] == [x.data_ptr()]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": [1.0]}, TypeError, "x is list, expected a floating-point tensor"),
        ({"x": torch.zeros(2, 3)}, ValueError, r"x has shape \[2, 3\], expected \[batch, channels"),
        ({"scale": torch.zeros(3)}, ValueError, r"scale has shape \[3\], expected \[2, 3\]"),
        ({"scale": torch.zeros(2, 3, dtype=torch.int64)}, TypeError, "scale is torch.int64"),
        ({"noise": torch.zeros(3, 1, 4, 4)}, ValueError, r"noise has shape \[3, 1, 4, 4\], expected \[4, 4\]"),
        ({"strength": torch.zeros(2)}, ValueError, r"strength has shape \[2\], expected a single element"),
        ({"b": torch.zeros(2)}, ValueError, r"b has shape \[2\], expected \[3\]"),
        ({"act": "gelu"}, ValueError, "scaled_bias_act: act is 'gelu', expected one of linear"),
        ({"clamp": -1.0}, ValueError, "clamp is -1.0, expected a bound >= 0"),
        ({"alpha": 0.1}, ValueError, "alpha is 0.1, but linear has no parameter"),
    ],
)
def test_errors(change, error, message):
    arguments = {"x": torch.zeros(2, 3, 4, 4), "scale": torch.ones(2, 3), **change}
    with pytest.raises(error, match=message):
        scaled_bias_act(**arguments)
