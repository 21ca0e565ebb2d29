"""conv_stride2 and its transpose against loops, where `convolution` takes them, and what is refused."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import fastgan
from fastgan.ops import conv3x3, conv_stride2
from fastgan.ops.convolution import conv2d, conv_transpose2d
from tests.ops.convolution_passes import Passes, passes

DOWN = {"stride 2", "transposed", "stride 2 weight_grad"}
DTYPES = [torch.float32, torch.float64]


def direct(x, w, padding):
    """The sum that defines the convolution, tap by tap and channel by channel, in numpy."""
    taps = w.shape[-1]
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    height, width = ((size - taps) // 2 + 1 for size in x.shape[2:])
    y = np.zeros((len(x), len(w), height, width))
    for k, c, i, j in np.ndindex(w.shape):
        y[:, k] += w[k, c, i, j] * x[:, c, i : i + 2 * height : 2, j : j + 2 * width : 2][:, :height, :width]
    return y


def direct_transposed(y, w, bias, padding, end):
    """Every pixel of y adds its filters to the padded x, which is then cropped."""
    taps = w.shape[-1]
    height, width = (2 * (size - 1) + taps + end for size in y.shape[2:])
    x = np.zeros((len(y), w.shape[1], height, width))
    for k, c, i, j in np.ndindex(w.shape):
        x[:, c, i : i + 2 * y.shape[2] : 2, j : j + 2 * y.shape[3] : 2][:, : y.shape[2], : y.shape[3]] += (
            w[k, c, i, j] * y[:, k]
        )
    return x[:, :, padding : height - padding, padding : width - padding] + bias[:, None, None]


def draw(generator, dtype, *size):
    return torch.randn(size, generator=generator, dtype=torch.float64).to(dtype)


def draw_sizes(generator, *most):
    return [int(torch.randint(1, end, (), generator=generator)) for end in most]


def assert_close(found, truth, context):
    error = np.abs(found.detach().double().numpy() - truth).max() / max(np.abs(truth).max(), 1e-3)
    assert error <= 20 * torch.finfo(found.dtype).eps, context


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("taps", [3, 4])
def test_values_against_loops(dtype, channels_last, taps, generator):
    for _ in range(16):
        B, C, K, H, W = draw_sizes(generator, 4, 40, 40, 24, 24)
        padding = int(torch.randint(0 if min(H, W) >= taps else 2, taps, (), generator=generator))
        x, w, bias = draw(generator, dtype, B, C, H, W), draw(generator, dtype, K, C, taps, taps), torch.zeros(K)
        if channels_last:
            x = x.to(memory_format=torch.channels_last)
        y = conv_stride2(x, w, bias.to(dtype) + 0.5, padding=padding)
        if not x.is_contiguous() or not channels_last:  # with one channel or one pixel x is both
            assert y.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
        assert_close(y, direct(x.double().numpy(), w.double().numpy(), padding) + 0.5, (B, C, K, H, W, padding))


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("taps", [3, 4])
def test_transposes_against_loops(dtype, channels_last, taps, generator):
    taken = 0
    for _ in range(16):
        B, K, C, H, W = draw_sizes(generator, 9, 40, 40, 16, 16)
        padding, end = (int(torch.randint(0, most, (), generator=generator)) for most in (taps - 1, 2))
        y, w = draw(generator, dtype, B, K, H, W), draw(generator, dtype, K, C, taps, taps)
        bias = draw(generator, dtype, C)
        if channels_last:
            y = y.to(memory_format=torch.channels_last)
        truth = direct_transposed(y.double().numpy(), w.double().numpy(), bias.double().numpy(), padding, end)
        if 0 in truth.shape:
            continue
        with Passes() as found:
            x = conv_transpose2d(y, w, bias, stride=2, padding=padding, output_padding=end)
        taken += found.calls == ["transposed"]
        assert_close(x, truth, (B, K, C, H, W, padding, end))
    assert taken  # about half of the draws are large enough for the kernel


@pytest.mark.parametrize("taps", [3, 4])
def test_gradients_of_the_transpose(taps, generator):
    y, w = draw(generator, torch.float64, 6, 8, 4, 5), draw(generator, torch.float64, 8, 9, taps, taps)
    bias = draw(generator, torch.float64, 9)
    leaves = [t.requires_grad_() for t in (y, w, bias)]

    def ours(*tensors):
        return conv_transpose2d(*tensors, stride=2, padding=1, output_padding=1)

    def torchs(*tensors):
        return F.conv_transpose2d(*tensors, stride=2, padding=1, output_padding=1)

    with Passes() as found:
        x = ours(*leaves)
    assert found.calls == ["transposed"]
    seed = draw(generator, torch.float64, *x.shape)
    results = []
    for function in (ours, torchs):
        first = torch.autograd.grad((function(*leaves).sin() * seed).sum(), leaves, create_graph=True)
        results.append((*first, *torch.autograd.grad(sum(g.square().sum() for g in first), leaves)))
    for found_, truth in zip(*results, strict=True):
        assert (found_ - truth).abs().max() <= 1e-11 * truth.abs().max()


def test_convolution_takes_it_where_it_pays_for_every_pass():
    x, w = torch.randn(8, 16, 8, 8), torch.randn(16, 16, 4, 4)
    assert passes(x, w, stride=2, padding=1)[:3] == ["stride 2", "transposed", "stride 2 weight_grad"]
    assert set(passes(x, w, stride=2, padding=1)) == DOWN
    assert set(passes(x.to(memory_format=torch.channels_last), w, stride=(2, 2), padding=1)) == DOWN
    assert set(passes(x.double(), w.double(), stride=2, padding=1)) == DOWN
    small = torch.randn(8, 16, 4, 4)
    assert set(passes(small, w, function=conv_transpose2d, stride=2, padding=1)) == DOWN
    assert set(passes(small, w[..., :3, :3], function=conv_transpose2d, stride=2, output_padding=1)) == DOWN


@pytest.mark.parametrize(
    ("x", "w", "kwargs"),
    [
        ((8, 16, 8, 8), (16, 16, 3, 3), {"stride": (2, 1), "padding": 1}),
        ((8, 16, 8, 8), (16, 16, 3, 3), {"stride": 2, "padding": (1, 0)}),
        ((8, 16, 9, 9), (16, 16, 3, 3), {"stride": 2, "padding": 1, "dilation": 2}),
        ((8, 32, 8, 8), (32, 16, 3, 3), {"stride": 2, "padding": 1, "groups": 2}),
        ((8, 16, 9, 9), (16, 16, 5, 5), {"stride": 2, "padding": 2}),
        ((8, 16, 8, 8), (16, 16, 4, 3), {"stride": 2, "padding": 1}),
        ((8, 7, 8, 8), (16, 7, 4, 4), {"stride": 2, "padding": 1}),
        ((8, 16, 8, 8), (7, 16, 4, 4), {"stride": 2, "padding": 1}),
        ((1, 16, 8, 8), (16, 16, 3, 3), {"stride": 2, "padding": 1}),
    ],
)
def test_other_convolutions_are_torchs(x, w, kwargs):
    assert set(passes(torch.randn(x), torch.randn(w), **kwargs)) == {"torch"}


def test_other_backends_and_dtypes_are_torchs():
    x, w = torch.randn(8, 16, 8, 8), torch.randn(16, 16, 4, 4)
    assert set(passes(x, w, backend="reference", stride=2)) == {"torch"}
    assert set(passes(x, w, backend="cpu", stride=2)) == DOWN
    assert set(passes(x.bfloat16(), w.bfloat16(), stride=2)) == {"torch"}
    with torch.autocast("cpu", torch.bfloat16):
        assert set(passes(x, w, stride=2)) == {"torch"}
    half = torch.randn(1, 2, 4, 4).bfloat16(), torch.randn(2, 2, 3, 3).bfloat16()
    assert torch.equal(conv_stride2(*half), F.conv2d(*half, stride=2, padding=1))
    with pytest.raises(fastgan.BackendError, match="takes float32, float64, not bfloat16"), fastgan.backend("cpu"):
        conv_stride2(*half)


def test_wrong_sizes_are_refused_in_torchs_words():
    x, w = torch.randn(8, 16, 8, 8), torch.randn(16, 16, 4, 4)
    with pytest.raises(RuntimeError, match="expected input"):
        conv2d(torch.randn(4, 17, 8, 8), w, stride=2)
    with pytest.raises(RuntimeError, match="greater than actual input size"):
        conv2d(torch.randn(64, 16, 3, 8), w, stride=2)
    with pytest.raises(RuntimeError, match="expected bias to be 1-dimensional with 16"):
        conv2d(x, w, torch.zeros(3), stride=2)
    with pytest.raises(RuntimeError, match="negative padding"):
        conv2d(x, w, stride=2, padding=-1)
    with pytest.raises(RuntimeError, match="output padding must be smaller"):
        conv_transpose2d(x, w, stride=2, output_padding=2)
    with pytest.raises(RuntimeError, match="expected input"):
        conv_transpose2d(torch.randn(4, 15, 8, 8), w, stride=2)


IMAGE, FILTERS = torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 3, 3)


@pytest.mark.parametrize(
    ("args", "error", "message"),
    [
        ((torch.zeros(2, 3, 4), FILTERS), ValueError, r"x has shape \[2, 3, 4\], expected \[batch"),
        ((IMAGE, torch.zeros(2, 4, 3, 3)), ValueError, r"weight has shape .* expected \[out, 3, 3, 3\] or \[out, 3, 4"),
        ((IMAGE, torch.zeros(2, 3, 5, 5)), ValueError, r"weight has shape \[2, 3, 5, 5\]"),
        ((IMAGE, FILTERS, torch.zeros(3)), ValueError, r"bias has shape \[3\], expected \[2"),
        ((IMAGE, FILTERS, None, -1), ValueError, "padding is -1, expected an integer of at least 0"),
        ((IMAGE, FILTERS, None, (1, 1)), ValueError, r"padding is \(1, 1\), expected an integer"),
        ((torch.zeros(2, 3, 2, 4), FILTERS, None, 0), ValueError, "smaller than the filters"),
        ((IMAGE.int(), FILTERS), TypeError, "x is torch.int32"),
    ],
)
def test_bad_input_is_named(args, error, message):
    with pytest.raises(error, match=message):
        conv_stride2(*args)


@pytest.mark.parametrize("taps", [3, 4])
def test_the_worst_error_is_of_the_size_of_a_direct_convolutions(taps, generator):
    """Over 512 channels: sums are taken in parts, whose rounding errors do not add up."""
    x, w = draw(generator, torch.float32, 2, 512, 8, 8), draw(generator, torch.float32, 512, 512, taps, taps)
    truth = F.conv2d(x.double(), w.double(), stride=2, padding=1)
    plain = F.conv2d(x, w, stride=2, padding=1)
    ours, torchs = ((y - truth).square().mean().sqrt() for y in (conv_stride2(x, w), plain))
    assert ours <= 2 * torchs


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize(
    ("taps", "stride", "C", "K", "groups"),
    [(3, 1, 300, 365, 1), (3, 1, 300, 365, 2), (3, 1, 130, 110, 5), (3, 2, 365, 300, 1), (4, 2, 270, 301, 1)],
)
def test_more_filters_than_fit_in_the_cache(taps, stride, C, K, groups, generator):
    """They are taken in portions, of which the last is smaller: in every pass, and in both directions. Of several
    groups, a portion is some of the channels of one, or several whole ones."""
    leaves = [
        draw(generator, torch.float64, 2, C * groups, 9, 10).requires_grad_(),
        draw(generator, torch.float64, K * groups, C, taps, taps).requires_grad_(),
        draw(generator, torch.float64, K * groups),
    ]
    results = []
    for function in (conv_stride2 if stride == 2 else conv3x3, F.conv2d):
        options = {"groups": groups} if stride == 1 else {}
        if function is F.conv2d:
            options["stride"] = stride
        y = function(*leaves, padding=1, **options)
        first = torch.autograd.grad(y.sin().sum(), leaves[:2], create_graph=True)
        results.append((y, *first, *torch.autograd.grad(sum(g.square().sum() for g in first), leaves[:2])))
    for found, truth in zip(*results, strict=True):
        assert (found - truth).abs().max() <= 1e-11 * truth.abs().max()
