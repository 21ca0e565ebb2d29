"""conv3x3 against loops, where `convolution` takes it, and what it refuses."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import fastgan
from fastgan.ops import conv3x3
from fastgan.ops.convolution import conv2d
from tests.ops.convolution_passes import Passes, passes


def direct(x, w, padding, groups=1):
    """The sum that defines a convolution, tap by tap and channel by channel, in numpy."""
    if groups > 1:
        parts = zip(np.split(x, groups, axis=1), np.split(w, groups), strict=True)
        return np.concatenate([direct(x_part, w_part, padding) for x_part, w_part in parts], axis=1)
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    height, width = x.shape[2] - 2, x.shape[3] - 2
    y = np.zeros((len(x), len(w), height, width))
    for k, c, i, j in np.ndindex(w.shape):
        y[:, k] += w[k, c, i, j] * x[:, c, i : i + height, j : j + width]
    return y


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("channels_last", [False, True])
def test_values_against_loops(dtype, channels_last, generator):
    for _ in range(30):
        B, C, K, H, W = (int(torch.randint(1, most, (), generator=generator)) for most in (4, 40, 40, 24, 24))
        groups = int(torch.randint(1, 4, (), generator=generator))
        C, K = -(-C // groups), -(-K // groups) * groups
        padding = int(torch.randint(0 if min(H, W) > 2 else 1, 3, (), generator=generator))
        x = torch.randn(B, C * groups, H, W, generator=generator, dtype=torch.float64).to(dtype)
        w = torch.randn(K, C, 3, 3, generator=generator, dtype=torch.float64).to(dtype)
        if channels_last:
            x = x.to(memory_format=torch.channels_last)
        truth = direct(x.double().numpy(), w.double().numpy(), padding, groups)
        y = conv3x3(x, w, padding=padding, groups=groups)
        if not x.is_contiguous() or not channels_last:  # with one channel or one pixel x is both
            assert y.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
        error = np.abs(y.double().numpy() - truth).max() / np.abs(truth).max()
        assert error <= 20 * torch.finfo(dtype).eps, (B, C, K, H, W, padding, groups)


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_and_derivatives_of_any_groups(dtype, generator):
    """Of any number of channels, in both memory formats, of slices of larger tensors."""
    for turn in range(30):
        B, groups, C, K, H, W = (
            int(torch.randint(1, most, (), generator=generator)) for most in (4, 6, 20, 20, 14, 14)
        )
        padding = int(torch.randint(0 if min(H, W) > 2 else 1, 3, (), generator=generator))
        wide = torch.randn(B, groups * C, H, 2 * W, generator=generator, dtype=torch.float64).to(dtype)
        x = (wide[..., ::2], wide[..., :W].contiguous(), wide[..., :W].to(memory_format=torch.channels_last))[turn % 3]
        w, bias = (
            torch.randn(groups * K, *size, generator=generator, dtype=torch.float64).to(dtype)
            for size in ((C, 3, 3), ())
        )
        results = []
        for function, precision in ((conv3x3, dtype), (F.conv2d, torch.float64)):
            leaves = [t.detach().to(precision).requires_grad_() for t in (x, w, bias)]
            y = function(*leaves, padding=padding, groups=groups)
            first = torch.autograd.grad(y.sin().sum(), leaves, create_graph=True)
            results.append((y, *first, *torch.autograd.grad(sum(g.square().sum() for g in first), leaves)))
        for order, (ours, truth) in enumerate(zip(*results, strict=True)):
            # The terms of a derivative are as wrong as what they are made of, and there are more of them.
            allowed = 20 * torch.finfo(dtype).eps * (1, 10, 10, 10, 100, 100, 100)[order]
            assert (ours - truth).abs().max() <= allowed * truth.abs().max(), (B, groups, C, K, H, W, padding)


def test_convolution_takes_it_where_it_pays_for_every_pass():
    x, w = torch.randn(4, 16, 8, 8), torch.randn(16, 16, 3, 3)
    first = ["forward", "turned", "weight_grad"]
    assert passes(x, w, padding=1)[:3] == first
    assert set(passes(x, w, padding=1)) == {"forward", "turned", "weight_grad"}
    assert set(passes(x.to(memory_format=torch.channels_last), w, padding="same")) == set(first)
    assert set(passes(x.double(), w.double(), padding=(0, 2))) == set(first)
    x, w = torch.randn(4, 48, 4, 4), torch.randn(48, 16, 3, 3)
    assert passes(x, w, padding=1, groups=3)[:3] == first
    assert set(passes(x, w, padding=1, groups=3)) == set(first)


@pytest.mark.parametrize(
    ("x", "w", "kwargs"),
    [
        ((4, 16, 8, 8), (16, 16, 3, 3), {"stride": 3}),
        ((4, 16, 8, 8), (16, 16, 3, 3), {"stride": (1, 2), "padding": 1}),
        ((4, 16, 8, 8), (16, 16, 3, 3), {"padding": 3}),
        ((4, 16, 8, 8), (16, 16, 3, 3), {"dilation": 2}),
        ((4, 22, 8, 8), (32, 11, 3, 3), {"groups": 2}),
        ((4, 32, 8, 8), (22, 16, 3, 3), {"groups": 2}),
        ((3, 32, 4, 4), (32, 16, 3, 3), {"groups": 2, "padding": 1}),
        ((4, 32, 8, 8), (32, 16, 3, 3), {"groups": 2, "stride": 2, "padding": 1}),
        ((4, 32, 8, 8), (32, 16, 3, 3), {"groups": 2, "dilation": 2}),
        ((4, 16, 8, 8), (16, 16, 3, 1), {}),
        ((4, 7, 8, 8), (16, 7, 3, 3), {}),
        ((4, 16, 8, 8), (7, 16, 3, 3), {}),
        ((1, 16, 4, 4), (16, 16, 3, 3), {"padding": 1}),
    ],
)
def test_other_convolutions_are_torchs(x, w, kwargs):
    assert set(passes(torch.randn(x), torch.randn(w), **kwargs)) == {"torch"}


def test_other_backends_and_dtypes_are_torchs():
    x, w = torch.randn(4, 16, 8, 8), torch.randn(16, 16, 3, 3)
    assert set(passes(x, w, backend="reference", padding=1)) == {"torch"}
    assert set(passes(x, w, backend="cpu", padding=1)) == {"forward", "turned", "weight_grad"}
    assert set(passes(x.bfloat16(), w.bfloat16(), padding=1)) == {"torch"}
    with torch.autocast("cpu", torch.bfloat16):
        assert set(passes(x, w, padding=1)) == {"torch"}
        assert conv2d(x, w, padding=1).dtype == torch.bfloat16


def test_without_a_gradient_it_runs_too_and_gradients_of_transforms_stay_right():
    x, w = torch.randn(4, 16, 8, 8), torch.randn(16, 16, 3, 3)
    with Passes() as found, torch.no_grad():
        y = conv2d(x, w, padding=1)
    assert found.calls == ["forward"]
    torch.testing.assert_close(y, F.conv2d(x, w, padding=1), rtol=1e-5, atol=1e-4)
    derivative = torch.func.grad(lambda x: conv2d(x, w, padding=1).square().sum())(x)
    torch.testing.assert_close(derivative, torch.func.grad(lambda x: F.conv2d(x, w, padding=1).square().sum())(x))
    of_each = torch.func.vmap(lambda x: conv2d(x[None], w, padding=1)[0])(x)
    torch.testing.assert_close(of_each, F.conv2d(x, w, padding=1), rtol=1e-5, atol=1e-4)


def test_wrong_sizes_are_refused_in_torchs_words():
    with pytest.raises(RuntimeError, match="expected input"):
        conv2d(torch.randn(4, 17, 8, 8), torch.randn(16, 16, 3, 3))
    with pytest.raises(RuntimeError, match="greater than actual input size"):
        conv2d(torch.randn(64, 16, 2, 8), torch.randn(16, 16, 3, 3))
    with pytest.raises(RuntimeError, match="expected weight to be divisible by 3"):
        conv2d(torch.randn(4, 48, 8, 8), torch.randn(32, 16, 3, 3), groups=3)
    x, w = torch.randn(4, 16, 8, 8), torch.randn(16, 16, 3, 3)
    with pytest.raises(RuntimeError, match="expected bias to be 1-dimensional with 16"):
        conv2d(x, w, torch.zeros(3))
    for function in (conv2d, conv3x3):
        with pytest.raises(RuntimeError, match="bias type"):
            function(x, w, torch.zeros(16, dtype=torch.float64))


@pytest.mark.parametrize(
    ("args", "error", "message"),
    [
        ((torch.zeros(2, 3, 4), torch.zeros(2, 3, 3, 3)), ValueError, r"x has shape \[2, 3, 4\], expected \[batch"),
        (
            (torch.zeros(2, 3, 4, 4), torch.zeros(2, 4, 3, 3)),
            ValueError,
            r"weight has shape .* expected \[out, 3, 3, 3",
        ),
        (
            (torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 3, 3), torch.zeros(3)),
            ValueError,
            r"bias has shape \[3\], .*\[2",
        ),
        ((torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 3, 3), None, 3), ValueError, "padding is 3, expected 0, 1 or 2"),
        ((torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 3, 3), None, 1, 0), ValueError, "groups is 0, expected"),
        ((torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 3, 3), None, 1, 2), ValueError, "groups is 2, expected a divisor"),
        (
            (torch.zeros(2, 4, 4, 4), torch.zeros(3, 2, 3, 3), None, 1, 2),
            ValueError,
            "out a multiple of groups, 2",
        ),
        ((torch.zeros(2, 3, 2, 4), torch.zeros(2, 3, 3, 3), None, 0), ValueError, "smaller than the filters"),
        ((torch.zeros(2, 3, 4, 4).int(), torch.zeros(2, 3, 3, 3)), TypeError, "x is torch.int32"),
        ((torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 3, 3), [0.0, 0.0]), TypeError, "bias is list"),
    ],
)
def test_bad_input_is_named(args, error, message):
    with pytest.raises(error, match=message):
        conv3x3(*args)


def test_mixed_dtypes_and_half_precision_are_torchs():
    x, w = torch.randn(1, 2, 4, 4).bfloat16(), torch.randn(2, 2, 3, 3).bfloat16()
    assert torch.equal(conv3x3(x, w), F.conv2d(x, w, padding=1))
    with pytest.raises(fastgan.BackendError, match="takes float32, float64, not bfloat16"), fastgan.backend("cpu"):
        conv3x3(x, w)


def test_the_worst_error_is_of_the_size_of_a_direct_convolutions(generator):
    """Over 512 channels: sums are taken in parts, whose rounding errors do not add up."""
    x, w = torch.randn(2, 512, 8, 8, generator=generator), torch.randn(512, 512, 3, 3, generator=generator)
    truth = F.conv2d(x.double(), w.double(), padding=1)
    ours, torchs = ((y - truth).square().mean().sqrt() for y in (conv3x3(x, w), F.conv2d(x, w, padding=1)))
    assert ours <= 2 * torchs


def test_the_worst_error_of_many_groups_is_of_the_size_of_a_direct_convolutions(generator):
    """Also of the filters' gradient, which adds up 16,384 pixels."""
    x, dy = (torch.randn(16, 96, 32, 32, generator=generator) for _ in range(2))
    w = torch.randn(96, 16, 3, 3, generator=generator)
    results = []
    for function, *tensors in ((conv2d, x, w, dy), (F.conv2d, x, w, dy), (F.conv2d, x.double(), w.double(), dy)):
        leaves = [t.requires_grad_() for t in tensors[:2]]
        y = function(*leaves, padding=1, groups=6)
        results.append((y, *torch.autograd.grad(y, leaves, tensors[2].to(y.dtype))))
    for ours, torchs, truth in zip(*results, strict=True):
        assert (ours - truth).square().mean().sqrt() <= 2 * (torchs - truth).square().mean().sqrt()
        assert (ours - truth).abs().max() <= 2 * (torchs - truth).abs().max()


def test_results_do_not_depend_on_the_threads(generator):
    """Whether they divide the sums of the filters' gradient, which each then takes whole, or not."""
    x, w = torch.randn(2, 80, 17, 18, generator=generator), torch.randn(75, 16, 3, 3, generator=generator)
    leaves = [x.requires_grad_(), w.requires_grad_()]
    results = []
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 3, 5):
            torch.set_num_threads(count)
            y = conv3x3(*leaves, groups=5)
            results.append((y, *torch.autograd.grad(y.square().sum(), leaves)))
    finally:
        torch.set_num_threads(threads)
    for others in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(others, results[0], strict=True))
