"""modulated_conv2d and styled_conv2d against a convolution for each sample, its weights scaled as in the paper."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.signal import convolve2d

from fastgan import backend
from fastgan.ops import conv2d_resample, modulated_conv2d, setup_filter, styled_conv2d, upfirdn2d, upsample2d
from fastgan.ops.conv2d_resample import result_size


def draw(generator, *size):
    return torch.randn(size, generator=generator, dtype=torch.float64)


def per_sample(x, weight, styles, demodulate, convolve):
    """Equations 1 and 3 of the paper: w' = s w, w'' = w' / sqrt(sum of w'^2 + eps), a convolution for each sample."""
    results = []
    for image, style in zip(x, styles, strict=True):
        w = weight * style[None, :, None, None]
        if demodulate:
            w = w / (w.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        results.append(convolve(image[None], w))
    return torch.cat(results)


BLUR = setup_filter([1, 3, 3, 1])
CONVOLUTIONS = {
    "same size": ({"padding": 1}, lambda x, w: F.conv2d(x, w, padding=1)),
    "1x1": ({}, lambda x, w: F.conv2d(x, w)),
    "up": (
        {"padding": 1, "up": 2, "resample_filter": BLUR},
        lambda x, w: F.conv2d(upsample2d(x, BLUR, padding=1), w),
    ),
    "up, flipped": (
        {"padding": 1, "up": 2, "resample_filter": BLUR, "flip_weight": False},
        lambda x, w: F.conv2d(upsample2d(x, BLUR, padding=1), w.flip((2, 3))),
    ),
    "down": (
        {"padding": 1, "down": 2, "resample_filter": BLUR},
        lambda x, w: F.conv2d(upfirdn2d(x, BLUR, padding=2), w, stride=2),
    ),
}


@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize("kind", CONVOLUTIONS)
@pytest.mark.parametrize("name", ["auto", "reference"])
def test_values_and_two_derivatives_are_those_of_one_convolution_per_sample(kind, demodulate, name, generator):
    kwargs, convolve = CONVOLUTIONS[kind]
    size = 1 if kind == "1x1" else 3
    tensors = [draw(generator, 3, 4, 6, 8), draw(generator, 5, 4, size, size), draw(generator, 3, 4)]
    results = []
    for function in (
        lambda *t: modulated_conv2d(*t, demodulate=demodulate, **kwargs),
        lambda *t: per_sample(*t, demodulate, convolve),
    ):
        leaves = [t.clone().requires_grad_() for t in tensors]
        with backend(name):
            y = function(*leaves)
            w0, w1 = (torch.linspace(-1, 1, y.numel() * k, dtype=y.dtype).sin() for k in (1, 2))
            first = torch.autograd.grad(y, leaves, w0.view_as(y), create_graph=True)
            penalty = sum((g.flatten() * w1[: g.numel()]).sum() for g in first if g.numel() <= w1.numel())
            results.append([y, *first, *torch.autograd.grad(penalty, leaves)])
    # The paper's eps is added to the sum of (s w)^2, ours too: they agree to rounding.
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_the_layer_is_its_steps(generator):
    x, weight, styles = draw(generator, 2, 3, 5, 5), draw(generator, 4, 3, 3, 3), draw(generator, 2, 3)
    noise, strength, bias = draw(generator, 2, 1, 5, 5), draw(generator, 1), draw(generator, 4)
    y = styled_conv2d(x, weight, styles, noise, strength, bias, padding=1, act="lrelu", gain=1.3, clamp=0.9)
    z = per_sample(x, weight, styles, True, lambda x, w: F.conv2d(x, w, padding=1))
    expected = 1.3 * F.leaky_relu(z + strength * noise + bias[:, None, None], 0.2)
    torch.testing.assert_close(y, expected.clamp(-0.9, 0.9))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_the_eps_is_the_published_code_s(dtype, generator):
    """1e-8 beside the sum of (s w)^2, which is about as large here; in float16 both are scaled."""
    x, weight, styles = draw(generator, 2, 4, 5, 5), draw(generator, 3, 4, 3, 3), 2e-5 * draw(generator, 2, 4)
    expected = per_sample(x, weight, styles, True, lambda x, w: F.conv2d(x, w, padding=1))
    kept = torch.float64 if dtype == torch.float64 else torch.float32
    found = modulated_conv2d(x.to(dtype), weight.to(kept), styles.to(kept), padding=1)
    bound = 1e-12 if dtype == torch.float64 else 0.01
    assert (found.double() - expected).norm() <= bound * expected.norm()
    weight, styles = torch.ones(1, 1, 1, 1), torch.full((1, 1), 1e-4)
    assert modulated_conv2d(torch.ones(1, 1, 1, 1), weight, styles).item() == pytest.approx(0.5**0.5)


@pytest.mark.parametrize("magnitude", [1e-3, 1.0, 1e3])
def test_float16_neither_overflows_nor_vanishes(magnitude, generator):
    """Styles and weights of any size: with float16's range they would overflow, or vanish below eps."""
    x, weight, styles = draw(generator, 2, 64, 4, 4), draw(generator, 8, 64, 3, 3), 1 + 0.3 * draw(generator, 2, 64)
    expected = modulated_conv2d(x, magnitude * weight, magnitude * styles, padding=1)
    half = modulated_conv2d(x.half(), magnitude * weight.float(), magnitude * styles.float(), padding=1)
    assert half.dtype == torch.float16
    assert (half.double() - expected).abs().max() < 0.01 * expected.abs().max()


def test_under_autocast_the_norms_are_those_of_float32(generator):
    x, weight, styles = (
        t.float() for t in (draw(generator, 2, 8, 4, 4), draw(generator, 4, 8, 3, 3), draw(generator, 2, 8))
    )
    with torch.autocast("cpu", torch.bfloat16):
        y = modulated_conv2d(x, weight, styles * 100, padding=1)
    expected = modulated_conv2d(x, weight, styles * 100, padding=1)
    assert y.dtype == torch.bfloat16
    assert (y.float() - expected).abs().max() < 0.03 * expected.abs().max()


@pytest.mark.parametrize("flip_weight", [True, False])
@pytest.mark.parametrize(("up", "down"), [(1, 1), (2, 1), (1, 2), (3, 1), (2, 2), (1, 3)])
@pytest.mark.parametrize("kernel", [1, 2, 3])
@pytest.mark.parametrize("padding", [1, (2, 0, 1, 3), (-9, 11, 1, -2)])
def test_resampling_is_the_three_steps(up, down, kernel, padding, flip_weight, generator):
    """Zeros inserted, filter and kernel one after the other by scipy, and every `down`-th pixel of the result."""
    x, w = draw(generator, 1, 1, 9, 8), draw(generator, 1, 1, kernel, kernel)
    f = torch.tensor([[1.0, 2.0, 0.5], [3.0, -1.0, 0.0]])
    found = conv2d_resample(x, w, f, up, down, padding, flip_weight=flip_weight)

    image = np.zeros((9 * up, 8 * up))
    image[::up, ::up] = x[0, 0].numpy() * up**2
    x0, x1, y0, y1 = (padding,) * 4 if isinstance(padding, int) else padding
    if up > 1:
        x0, x1, y0, y1 = x0 + (3 + up - 1) // 2, x1 + (3 - up) // 2, y0 + (2 + up - 1) // 2, y1 + (2 - up) // 2
    if down > 1:
        x0, x1, y0, y1 = x0 + (3 - down + 1) // 2, x1 + (3 - down) // 2, y0 + (2 - down + 1) // 2, y1 + (2 - down) // 2
    top, bottom, left, right = (max(side, 0) for side in (y0, y1, x0, x1))
    image = np.pad(image, ((top, bottom), (left, right)))
    image = image[max(-y0, 0) : image.shape[0] - max(-y1, 0), max(-x0, 0) : image.shape[1] - max(-x1, 0)]
    tap = w[0, 0].numpy() if not flip_weight else w[0, 0].numpy()[::-1, ::-1]
    taps = f.double().numpy()
    if up > 1:
        image = convolve2d(image, taps, mode="valid")
    if down > 1:
        image = convolve2d(image, taps, mode="valid")
    expected = convolve2d(image, tap, mode="valid")[::down, ::down]
    np.testing.assert_allclose(found[0, 0].numpy(), expected, rtol=1e-9, atol=1e-9)
    assert result_size("", x, w, up, down, padding) == expected.shape


def test_groups_are_convolutions_side_by_side(generator):
    x, w, f = draw(generator, 2, 4, 5, 5), draw(generator, 6, 2, 3, 3), setup_filter([1, 3, 3, 1])
    for kwargs in ({}, {"up": 2}, {"down": 2}):
        found = conv2d_resample(x, w, f, padding=1, groups=2, **kwargs)
        parts = [conv2d_resample(x[:, 2 * g : 2 * g + 2], w[3 * g : 3 * g + 3], f, padding=1, **kwargs) for g in (0, 1)]
        torch.testing.assert_close(found, torch.cat(parts, 1))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": torch.zeros(2, 3, 4)}, ValueError, r"x has shape \[2, 3, 4\], expected \[batch, channels"),
        ({"weight": torch.zeros(4, 2, 3, 3)}, ValueError, r"weight has shape \[4, 2, 3, 3\], expected \[out, 3"),
        ({"styles": torch.zeros(3)}, ValueError, r"styles has shape \[3\], expected \[2, 3\]"),
        ({"styles": [1.0]}, TypeError, "styles is list, expected a floating-point tensor"),
        ({"x": torch.zeros(2, 0, 4, 4)}, ValueError, r"x has shape \[2, 0, 4, 4\], expected \[batch, channels"),
        ({"x": torch.zeros(2, 3, 0, 4)}, ValueError, r"x has shape \[2, 3, 0, 4\], expected \[batch, channels"),
        ({"x": torch.zeros(2, 3, 4, 4).int()}, TypeError, "x is torch.int32, expected a floating-point tensor"),
        ({"weight": torch.zeros(4, 3, 3)}, ValueError, r"weight has shape \[4, 3, 3\], expected \[out, 3, height"),
        ({"weight": torch.zeros(4, 3, 0, 3)}, ValueError, r"weight has shape \[4, 3, 0, 3\]"),
        ({"weight": torch.zeros(4, 3, 3, 3, device="meta")}, ValueError, "weight is on meta, expected cpu like x"),
        ({"styles": torch.zeros(1, 3)}, ValueError, r"styles has shape \[1, 3\], expected \[2, 3\]"),
        ({"noise": torch.zeros(7, 7)}, ValueError, r"noise has shape \[7, 7\], expected \[4, 4\]"),
        ({"noise": torch.zeros(2, 4, 4, 4)}, ValueError, r"noise has shape \[2, 4, 4, 4\], expected \[4, 4\]"),
        ({"noise": torch.zeros(4, 4), "up": 2}, ValueError, r"noise has shape \[4, 4\], expected \[8, 8\]"),
        ({"noise": torch.zeros(4, 4), "down": 2}, ValueError, r"noise has shape \[4, 4\], expected \[2, 2\]"),
        ({"noise": 0.1}, TypeError, "noise is float, expected a floating-point tensor"),
        ({"resample_filter": [1, 2]}, TypeError, "resample_filter is list, expected a floating-point tensor or None"),
        ({"resample_filter": torch.ones(1, 2, 2)}, ValueError, r"resample_filter has shape \[1, 2, 2\], expected"),
        ({"up": 0}, ValueError, "up is 0, expected an integer of at least 1"),
        ({"up": 2.0}, ValueError, r"up is 2.0, expected an integer of at least 1"),
        ({"down": -1}, ValueError, "down is -1, expected an integer of at least 1"),
        ({"padding": 0.5}, ValueError, r"padding is 0.5, expected an int, \(x, y\) or"),
        ({"padding": -2}, ValueError, r"padding = -2 the result would be -2x-2"),
        ({"x": torch.zeros(2, 3, 1, 2), "padding": 0}, ValueError, r"x has shape \[2, 3, 1, 2\], expected an image"),
        ({"padding": (1, 1, 1)}, ValueError, r"padding is \(1, 1, 1\), expected an int, \(x, y\) or"),
    ],
)
def test_errors(change, error, message):
    arguments = {
        "x": torch.zeros(2, 3, 4, 4), "weight": torch.zeros(4, 3, 3, 3), "styles": torch.zeros(2, 3), "padding": 1,
    }  # fmt: skip
    for function in (modulated_conv2d, styled_conv2d):
        with pytest.raises(error, match=f"^{function.__name__}: .*{message}"):
            function(**{**arguments, **change})


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"bias": torch.zeros(3)}, ValueError, r"bias has shape \[3\], expected \[4\]"),
        ({"bias": torch.zeros(4, 1)}, ValueError, r"bias has shape \[4, 1\], expected \[4\]"),
        ({"bias": 0.0}, TypeError, "bias is float, expected a floating-point tensor"),
        ({"noise_strength": torch.zeros(2)}, ValueError, r"noise_strength has shape \[2\], expected a single"),
        ({"noise_strength": 0.5}, TypeError, "noise_strength is float, expected a floating-point tensor"),
        ({"act": "gelu"}, ValueError, "act is 'gelu', expected one of linear, relu"),
        ({"alpha": 0.2}, ValueError, "alpha is 0.2, but linear has no parameter"),
        ({"act": "lrelu", "alpha": -0.2}, ValueError, r"alpha is -0.2, expected a slope >= 0"),
        ({"clamp": -1.0}, ValueError, r"clamp is -1.0, expected a bound >= 0 or None"),
    ],
)
def test_errors_of_the_layer(change, error, message):
    arguments = {"x": torch.zeros(2, 3, 4, 4), "weight": torch.zeros(4, 3, 3, 3), "styles": torch.zeros(2, 3)}
    with pytest.raises(error, match=f"^styled_conv2d: {message}"):
        styled_conv2d(**arguments, **change)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": "x"}, TypeError, "x is str, expected a floating-point tensor"),
        ({"x": torch.zeros(4, 4, 4)}, ValueError, r"x has shape \[4, 4, 4\], expected \[batch, channels, height"),
        ({"x": torch.zeros(2, 4, 4, 0)}, ValueError, r"x has shape \[2, 4, 4, 0\], expected \[batch, channels"),
        ({"x": torch.zeros(2, 4, 1, 2)}, ValueError, r"x has shape \[2, 4, 1, 2\], expected an image that leaves"),
        ({"x": torch.zeros(2, 4, 4, 4).half()}, ValueError, "w is torch.float32, expected torch.float16 like x"),
        ({"w": [1.0]}, TypeError, "w is list, expected a floating-point tensor"),
        ({"w": torch.zeros(6, 4, 3)}, ValueError, r"w has shape \[6, 4, 3\], expected \[out, 4, height, width\]"),
        ({"w": torch.zeros(6, 3, 3, 3)}, ValueError, r"w has shape \[6, 3, 3, 3\], expected \[out, 4, height"),
        ({"w": torch.zeros(6, 4, 3, 0)}, ValueError, r"w has shape \[6, 4, 3, 0\], expected \[out, 4, height"),
        ({"w": torch.zeros(6, 4, 3, 3).to("meta")}, ValueError, "w is on meta, expected cpu like x"),
        ({"w": torch.zeros(6, 1, 3, 3), "groups": 4}, ValueError, r"w has .* with out a multiple of groups, 4"),
        ({"groups": 3}, ValueError, "groups is 3, expected a divisor of the 4 channels of x"),
        ({"groups": 0}, ValueError, "groups is 0, expected an integer of at least 1"),
        ({"up": 1.5}, ValueError, r"up is 1.5, expected an integer of at least 1"),
        ({"down": 0}, ValueError, "down is 0, expected an integer of at least 1"),
        ({"padding": (1, 2, 3)}, ValueError, r"padding is \(1, 2, 3\), expected an int, \(x, y\) or"),
        ({"f": [1.0]}, TypeError, "f is list, expected a floating-point tensor or None"),
        ({"f": torch.ones(2).requires_grad_()}, ValueError, "f requires a gradient, expected a constant"),
    ],
)
def test_errors_of_resampling(change, error, message):
    arguments = {"x": torch.zeros(2, 4, 4, 4), "w": torch.zeros(6, 4, 3, 3)}
    with pytest.raises(error, match=f"conv2d_resample: {message}"):
        conv2d_resample(**{**arguments, **change})


def test_a_layer_of_random_weights_keeps_the_variance(generator):
    """What demodulation is for: unit variance in, unit variance out, whatever the styles."""
    x = draw(generator, 4, 256, 16, 16)
    y = modulated_conv2d(x, draw(generator, 64, 256, 3, 3), 1 + draw(generator, 4, 256), padding=1)
    assert math.isclose(y[:, :, 1:-1, 1:-1].var().item(), 1, rel_tol=0.1)
