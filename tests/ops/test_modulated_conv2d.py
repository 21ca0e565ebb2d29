"""modulated_conv2d and styled_conv2d against a convolution for each sample, its weights scaled as in the paper."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.signal import convolve2d

from fastgan import backend
from fastgan.ops import conv2d_resample, modulated_conv2d, setup_filter, styled_conv2d, upfirdn2d, upsample2d


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
@pytest.mark.parametrize("padding", [1, (2, 0, 1, 3)])
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
        ({"noise": torch.zeros(7, 7)}, ValueError, r"noise has shape \[7, 7\], expected \[4, 4\]"),
        ({"up": 0}, ValueError, "up is 0, expected an integer of at least 1"),
        ({"padding": (1, 1, 1)}, ValueError, r"padding is \(1, 1, 1\), expected an int, \(x, y\) or"),
    ],
)
def test_errors(change, error, message):
    arguments = {
        "x": torch.zeros(2, 3, 4, 4), "weight": torch.zeros(4, 3, 3, 3), "styles": torch.zeros(2, 3), "padding": 1,
    }  # fmt: skip
    with pytest.raises(error, match=message):
        modulated_conv2d(**{**arguments, **change})


def test_a_layer_of_random_weights_keeps_the_variance(generator):
    """What demodulation is for: unit variance in, unit variance out, whatever the styles."""
    x = draw(generator, 4, 256, 16, 16)
    y = modulated_conv2d(x, draw(generator, 64, 256, 3, 3), 1 + draw(generator, 4, 256), padding=1)
    assert math.isclose(y[:, :, 1:-1, 1:-1].var().item(), 1, rel_tol=0.1)
