"""The fused layer on Triton: sizes that fill no tile, what it saves and refuses. In the interpreter, or on a GPU."""

import numpy as np
import pytest
import torch
from scipy.signal import correlate2d

from fastgan import BackendError, backend
from fastgan.ops import modulated_conv2d, setup_filter, styled_conv2d
from fastgan.ops.modulated_conv2d.reference import styled_conv2d_reference
from tests.ops.cases import INTERPRETING

on_gpu = pytest.param("cuda", marks=pytest.mark.gpu)
DEVICES = ["cpu"] if INTERPRETING else [on_gpu]
needs_triton = pytest.mark.parametrize("device", DEVICES)
DTYPES = [torch.float32, torch.float16, torch.bfloat16]

# Batch, input and output channels, height, width, kernel: several tiles of pixels, channels or products, none full.
SIZES = [(2, 3, 5, 13, 11, 3), (1, 70, 3, 3, 5, 3), (2, 5, 131, 2, 3, 3), (1, 67, 66, 9, 15, 1), (3, 1, 1, 1, 1, 3)]


def layer(generator, B, inputs, outputs, H, W, kernel, noise_per_sample=False):
    """x, weight, styles, noise, noise strength and bias, in float64."""
    noise = (B, 1, H, W) if noise_per_sample else (H, W)
    sizes = ((B, inputs, H, W), (outputs, inputs, kernel, kernel), (B, inputs), noise, (1,), (outputs,))
    return [torch.randn(size, generator=generator, dtype=torch.float64) for size in sizes]


def by_scipy(x, weight, styles, noise, strength, b, demodulate):
    """Each sample's weights scaled (and normalised), each pair of channels correlated, before the activation."""
    B, outputs, k = x.shape[0], weight.shape[0], weight.shape[2]
    result = np.zeros((B, outputs, *x.shape[2:]))
    for n in range(B):
        w = weight * styles[n][None, :, None, None]
        if demodulate:
            w = w / np.sqrt((w**2).sum((1, 2, 3), keepdims=True) + 1e-8)
        for o in range(outputs):
            for i in range(x.shape[1]):
                full = np.pad(x[n, i], k // 2)
                result[n, o] += correlate2d(full, w[o, i], mode="valid")
            result[n, o] += strength * (noise if noise.ndim == 2 else noise[n, 0]) + b[o]
    return result


@needs_triton
@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_values_are_those_of_scipy(size, demodulate, device, generator):
    tensors = [t.float() for t in layer(generator, *size, noise_per_sample=demodulate)]
    with backend("triton"):
        y = styled_conv2d(
            *(t.to(device) for t in tensors), padding=size[-1] // 2, demodulate=demodulate, act="lrelu", clamp=2.0
        )
    assert y.is_contiguous(memory_format=torch.channels_last)
    v = by_scipy(*(t.double().numpy() for t in tensors), demodulate)
    expected = np.clip(np.sqrt(2) * np.where(v > 0, v, 0.2 * v), -2, 2)
    largest = max(1.0, np.abs(v).max())  # a sum may cancel: errors are relative to the sums that there are
    np.testing.assert_allclose(y.double().cpu().numpy(), expected, rtol=0, atol=2e-6 * largest)


@needs_triton
@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", SIZES[:4], ids=str)
def test_gradients_are_at_most_twice_as_far_off_as_those_of_pytorch(size, dtype, device, generator):
    """The first derivative of a training step, of every argument; a smooth activation, since kinks round either way."""
    tensors = [t.to(device, dtype) for t in layer(generator, *size)]
    dy = torch.randn(size[0], size[2], *size[3:5], generator=generator).to(device, dtype)

    def run(function, dtype, name):
        leaves = [t.to(dtype, copy=True).requires_grad_() for t in tensors]
        with backend(name):
            y = function(*leaves, padding=size[-1] // 2, act="swish", flip_weight=False)
        return [t.detach().double() for t in (y, *torch.autograd.grad(y, leaves, dy.to(dtype)))]

    exact = run(styled_conv2d, torch.float64, "reference")
    plain = run(styled_conv2d, dtype, "reference")
    ours = run(styled_conv2d, dtype, "triton")
    largest = max(t.abs().max() for t in exact)
    eps = torch.finfo(dtype).eps
    for i, (found, other, truth) in enumerate(zip(ours, plain, exact, strict=True)):
        # The mean of a few elements is luck, and all of them may be sums that cancel: there, errors are relative to the
        # largest of all gradients, and as small as the roundings of a few of the terms.
        few = truth.numel() < 20
        size = largest if few else max(truth.abs().max(), largest / 10)
        error, allowed = ((t - truth).square().mean().sqrt() / size / eps for t in (found, other))
        assert error <= max(2 * allowed, 8 if few else 1), f"tensor {i}: {error:.2f} units, PyTorch {allowed:.2f}"


@needs_triton
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_result_does_not_depend_on_whether_a_gradient_is_wanted(dtype, device, generator):
    tensors = [t.to(device, dtype) for t in layer(generator, 2, 3, 5, 7, 9, 3)]
    kept = []
    with backend("triton"):
        expected = styled_conv2d(*tensors, padding=1, act="lrelu")
        with torch.no_grad():
            kept_none = styled_conv2d(*(t.requires_grad_() for t in tensors), padding=1, act="lrelu")
        with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
            y = styled_conv2d(*tensors, padding=1, act="lrelu")
    assert torch.equal(y, expected)
    assert torch.equal(kept_none, expected)
    # Two images of activations: x, and the convolution's result.
    images = {t.data_ptr() for t in kept if t.numel() in (tensors[0].numel(), y.numel())}
    assert len(images) == 2
    assert tensors[0].data_ptr() in images


@needs_triton
def test_a_gradient_penalty_through_it_is_that_of_the_reference(device, generator):
    tensors = [t.to(device, torch.float32) for t in layer(generator, 2, 3, 4, 5, 6, 3)]

    def penalty(function, dtype, name):
        leaves = [t.to(dtype, copy=True).requires_grad_() for t in tensors]
        with backend(name):
            y = function(*leaves, padding=1, act="softplus")
        (dx,) = torch.autograd.grad(y.square().sum(), leaves[0], create_graph=True)
        return torch.autograd.grad(dx.square().sum(), leaves)

    exact = penalty(styled_conv2d_reference, torch.float64, "reference")
    largest = max(t.abs().max() for t in exact)
    for found, truth in zip(penalty(styled_conv2d, torch.float32, "triton"), exact, strict=True):
        assert (found - truth).abs().max() <= 1e-5 * largest


@needs_triton
def test_under_autocast_it_is_what_the_convolution_would_be(device, generator):
    x, weight, styles = (t.to(device, torch.float32) for t in layer(generator, 2, 3, 4, 5, 6, 3)[:3])
    with torch.autocast(device, torch.bfloat16):
        expected = modulated_conv2d(x, weight, styles, padding=1)
        with backend("triton"):
            found = modulated_conv2d(x, weight, styles, padding=1)
    assert found.dtype == expected.dtype == torch.bfloat16
    assert (found.float() - expected.float()).abs().max() <= 2**-6 * expected.abs().max()


@needs_triton
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"up": 2, "resample_filter": setup_filter([1, 3, 3, 1])}, "has no up = 2, down = 1"),
        ({"down": 2, "resample_filter": setup_filter([1, 3, 3, 1])}, "has no up = 1, down = 2"),
        ({"padding": 0}, "padding = 1, not 0"),
        ({"padding": (1, 1, 0, 2)}, r"padding = 1, not \(1, 1, 0, 2\)"),
        ({"weight": torch.zeros(4, 3, 5, 5), "padding": 2}, "of 1x1 and 3x3, not 5x5"),
    ],
)
def test_what_the_kernel_is_not_for_is_refused(change, message, device):
    arguments = {
        "x": torch.zeros(2, 3, 4, 4), "weight": torch.zeros(4, 3, 3, 3), "styles": torch.zeros(2, 3), "padding": 1,
    } | change  # fmt: skip
    arguments = {name: t.to(device) if isinstance(t, torch.Tensor) else t for name, t in arguments.items()}
    with backend("triton"), pytest.raises(BackendError, match=f"modulated_conv2d cannot run on .*{message}"):
        modulated_conv2d(**arguments)
    arguments["x"] = arguments["x"].to(memory_format=torch.channels_last)
    modulated_conv2d(**arguments)  # the composed form takes it


@needs_triton
def test_wrong_arguments_are_named(device):
    x, weight, styles = (torch.zeros(size, device=device) for size in ((2, 3, 4, 4), (4, 3, 3, 3), (2, 3)))
    with backend("triton"):
        with pytest.raises(ValueError, match=r"noise has shape \[5, 4\], expected \[4, 4\]"):
            styled_conv2d(x, weight, styles, torch.zeros(5, 4, device=device), padding=1)
        with pytest.raises(ValueError, match=r"bias has shape \[3\], expected \[4\]"):
            styled_conv2d(x, weight, styles, bias=torch.zeros(3, device=device), padding=1)
        with pytest.raises(ValueError, match="act is 'gelu', expected one of linear"):
            styled_conv2d(x, weight, styles, padding=1, act="gelu")
