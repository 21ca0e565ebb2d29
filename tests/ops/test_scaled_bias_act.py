"""scaled_bias_act against numpy, its errors, and the memory that it keeps."""

import numpy as np
import pytest
import torch

from fastgan import backend
from fastgan.ops import scaled_bias_act
from tests.ops.cases import INTERPRETING


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


@pytest.mark.skipif(not INTERPRETING, reason="about Triton's kernels")
@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", [(2, 3, 67, 71), (3, 70, 5, 5), (1, 1, 1, 1), (2, 130, 1, 9)])
def test_triton_works_in_either_memory_order(shape, order, generator):
    """Several tiles, steps and chunks of either order, none of them full; nothing is copied to the other order."""
    B, C, *image = shape
    tensors = (
        draw(generator, *shape), draw(generator, B, C), draw(generator, B, 1, *image), draw(generator, 1),
        draw(generator, C),
    )  # fmt: skip
    given = [t.float().requires_grad_() for t in tensors]
    given[0] = tensors[0].float().to(memory_format=order).requires_grad_()
    x, scale, noise, strength, b = (t.detach().double() for t in given)
    v = x * scale[:, :, None, None] + strength * noise + b[:, None, None]
    unclamped = 2**0.5 * torch.where(v > 0, v, 0.2 * v)
    # An element within float32's rounding of a kink has either slope: no cotangent there.
    ambiguous = (v.abs() < 1e-5) | ((unclamped.abs() - 1.5).abs() < 1e-5)
    dy = torch.where(ambiguous, 0, draw(generator, *shape)).float()

    with backend("triton"):
        y = scaled_bias_act(*given, "lrelu", clamp=1.5)
    found = torch.autograd.grad(y, given, dy)
    assert y.is_contiguous(memory_format=order)
    assert found[0].is_contiguous(memory_format=order)
    t = dy.double() * torch.where(v > 0, 1.0, 0.2) * 2**0.5 * (unclamped.abs() < 1.5)
    exact = (
        t * scale[:, :, None, None], (t * x).sum((2, 3)), strength * t.sum(1, keepdim=True), (t * noise).sum().view(1),
        t.sum((0, 2, 3)),
    )  # fmt: skip
    torch.testing.assert_close(y.double(), unclamped.clamp(-1.5, 1.5), rtol=1e-6, atol=1e-5)
    for ours, truth in zip(found, exact, strict=True):
        assert (ours - truth).abs().max() <= 1e-5 * max(truth.abs().max(), t.abs().max())


def test_a_strength_without_noise_has_no_effect_and_hinders_nothing(generator):
    x, scale = draw(generator, 2, 3, 4, 5).requires_grad_(), draw(generator, 2, 3)
    strength = torch.ones(1, dtype=torch.float64, requires_grad=True)
    y = scaled_bias_act(x, scale, None, strength, act="tanh")
    (dx,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(dx.square().sum(), x)
    slope = 1 - y.detach().square()
    s = scale[:, :, None, None]
    torch.testing.assert_close(second, 2 * slope * s * (-2 * y.detach() * slope * s * s))
    scaled_bias_act(x.detach(), scale, None, strength).sum().backward()
    assert strength.grad.item() == 0


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
