"""upfirdn2d: its definition as loops, SciPy's resampling and filters, its transpose, its filters, its errors."""

import numpy as np
import pytest
import scipy.ndimage
import scipy.signal
import torch

from fastgan import backend
from fastgan.ops import downsample2d, filter2d, setup_filter, upfirdn2d, upsample2d

BACKENDS = ["reference", "cpu"]


def by_loops(x, f, up=(1, 1), down=(1, 1), padding=(0, 0, 0, 0), flip_filter=False, gain=1.0):
    """The four steps of the docstring in numpy, in float64; rates are (x, y)."""
    B, C, H, W = x.shape
    (ux, uy), (dx, dy), (x0, x1, y0, y1) = up, down, padding
    wide = np.zeros((B, C, H * uy, W * ux))
    wide[:, :, ::uy, ::ux] = x
    padded = np.zeros((B, C, H * uy + max(y0, 0) + max(y1, 0), W * ux + max(x0, 0) + max(x1, 0)))
    padded[:, :, max(y0, 0) : max(y0, 0) + H * uy, max(x0, 0) : max(x0, 0) + W * ux] = wide
    padded = padded[:, :, max(-y0, 0) : padded.shape[2] - max(-y1, 0), max(-x0, 0) : padded.shape[3] - max(-x1, 0)]
    f = np.outer(f, f) if f.ndim == 1 else f
    if not flip_filter:
        f = f[::-1, ::-1]
    fh, fw = f.shape
    y = np.zeros((B, C, (padded.shape[2] - fh) // dy + 1, (padded.shape[3] - fw) // dx + 1))
    for i in range(y.shape[2]):
        for j in range(y.shape[3]):
            y[:, :, i, j] = gain * (f * padded[:, :, i * dy : i * dy + fh, j * dx : j * dx + fw]).sum((2, 3))
    return y


def arguments(random):
    """A random call: x [B, C, H, W] and f as numpy arrays, and keywords that leave an output."""
    while True:
        shape = random.integers(1, 3), random.integers(1, 4), random.integers(1, 14), random.integers(1, 40)
        f = random.standard_normal(tuple(random.integers(1, 8, size=random.integers(1, 3))))
        if random.random() < 0.3:
            f = np.outer(random.standard_normal(f.shape[0]), random.standard_normal(f.shape[-1]))
        rates = random.choice([1, 1, 2, 2, 3, 5], size=4)
        keywords = {
            "up": tuple(map(int, rates[:2])),
            "down": tuple(map(int, rates[2:])),
            "padding": tuple(map(int, random.integers(-4, 9, size=4))),
            "flip_filter": bool(random.random() < 0.5),
            "gain": float(random.uniform(-2, 2)),
        }
        (ux, uy), (x0, x1, y0, y1) = keywords["up"], keywords["padding"]
        if shape[3] * ux + x0 + x1 >= f.shape[-1] and shape[2] * uy + y0 + y1 >= f.shape[0]:
            return random.standard_normal(shape), f.astype(np.float32), keywords


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", BACKENDS)
def test_is_its_definition(name, dtype, channels_last, seed):
    """The error of a sum of n products is below n + 3 roundings of the sum of their sizes: f, the gain, the result."""
    random = np.random.default_rng(seed)
    for _ in range(30):
        x, f, keywords = arguments(random)
        given = torch.from_numpy(x).to(dtype)
        if channels_last:
            given = given.to(memory_format=torch.channels_last)
        with backend(name):
            found = upfirdn2d(given, torch.from_numpy(f), **keywords)
        x, wide = given.double().numpy(), f.astype(np.float64)
        expected = by_loops(x, wide, **keywords)
        sizes = by_loops(abs(x), abs(wide), **{**keywords, "gain": abs(keywords["gain"])})
        assert found.dtype == dtype
        assert found.shape == expected.shape
        taps = f.size if f.ndim == 2 else 2 * f.size
        bound = (taps + 3) * torch.finfo(dtype).eps * sizes + 1e-30
        worst = (abs(found.double().numpy() - expected) / bound).max()
        assert worst <= 1, f"{x.shape}, {f.shape}, {keywords}: {worst:.3g} times what rounding can explain"


@pytest.mark.parametrize("name", BACKENDS)
def test_a_separable_filter_is_scipys_upfirdn_along_both_directions(name, seed):
    random = np.random.default_rng(seed)
    for up, down, n in ((1, 1, 4), (2, 1, 12), (1, 2, 5), (3, 2, 7), (2, 3, 6)):
        x, f = random.standard_normal((2, 3, 9, 20)), random.standard_normal(n).astype(np.float32)
        expected = scipy.signal.upfirdn(f.astype(np.float64), x, up, down, axis=3)
        expected = scipy.signal.upfirdn(f.astype(np.float64), expected, up, down, axis=2)
        with backend(name):
            found = upfirdn2d(
                torch.from_numpy(x), torch.from_numpy(f), up, down, padding=(n - 1, n - up, n - 1, n - up)
            )
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("taps", [(3, 5), (4, 4), (1, 6), (2, 1)])
def test_filter2d_is_scipys_correlation(taps, seed):
    random = np.random.default_rng(seed)
    x, f = random.standard_normal((2, 1, 7, 11)), random.standard_normal(taps).astype(np.float32)
    expected = scipy.ndimage.correlate(x, f[None, None].astype(np.float64), mode="constant")
    found = filter2d(torch.from_numpy(x), torch.from_numpy(f), flip_filter=True)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", BACKENDS)
def test_the_gradient_is_the_transpose(name, seed):
    """<y, A x> = <A' y, x>, and A' is A for the gradient's own gradient."""
    random = np.random.default_rng(seed)
    for _ in range(20):
        x, f, keywords = arguments(random)
        x, f = torch.from_numpy(x).requires_grad_(), torch.from_numpy(f)
        with backend(name):
            y = upfirdn2d(x, f, **keywords)
            g = torch.from_numpy(random.standard_normal(y.shape)).requires_grad_()
            (dx,) = torch.autograd.grad(y, x, g, create_graph=True)
            v = torch.from_numpy(random.standard_normal(x.shape))
            (dg,) = torch.autograd.grad(dx, g, v)
            expected = upfirdn2d(v, f, **keywords)
        scale = (y.detach().abs() * g.detach().abs()).sum().item()
        assert abs(((y * g).sum() - (dx * x).sum()).item()) <= 1e-13 * (scale + x.numel())
        torch.testing.assert_close(dg, expected, rtol=1e-13, atol=1e-13)


def test_nothing_of_the_size_of_an_image_is_kept(generator):
    kept = []

    def pack(t):
        kept.append(t.numel())
        return t

    x = torch.randn(2, 3, 16, 16, generator=generator, requires_grad=True)
    f = setup_filter([1, 3, 3, 1])
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        y = upfirdn2d(x, f, up=2, padding=2)
        torch.autograd.grad(y, x, torch.ones_like(y, requires_grad=True), create_graph=True)
    assert kept
    assert max(kept) <= f.numel()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", [(2, 5, 6, 7), (3, 40, 4, 4), (2, 3, 20, 40)])
def test_the_memory_format_stays(shape, dtype, generator):
    x = torch.randn(shape, generator=generator).to(dtype)
    for up, down in ((1, 1), (2, 1), (1, 2)):
        found = upfirdn2d(x.to(memory_format=torch.channels_last), setup_filter([1, 3, 3, 1]), up, down, padding=2)
        assert found.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(found, upfirdn2d(x, setup_filter([1, 3, 3, 1]), up, down, padding=2))


# --- filters ----------------------------------------------------------------------------------------------------------


def test_an_outer_product_is_as_exact_as_the_filter_itself(seed):
    """A filter [h, w] of rank one may be applied in two steps, but not one that is only nearly of rank one.

    All terms are positive: the relative error of a sum of n products is below n + 3 roundings.
    """
    random = np.random.default_rng(seed)
    x = random.random((1, 2, 20, 40)) + 0.5
    for u, v in (
        (random.random(5) + 0.5, random.random(4) + 0.5),
        (random.integers(1, 9, 5), random.integers(1, 9, 4)),
    ):
        for change in (0, 2.0**-23, 2.0**-10):
            f = np.outer(u, v).astype(np.float32)
            f[2, 1] *= 1 + change
            for dtype in (torch.float64, torch.float32):
                given = torch.from_numpy(x).to(dtype)
                expected = by_loops(given.double().numpy(), f.astype(np.float64))
                found = upfirdn2d(given, torch.from_numpy(f)).double().numpy()
                bound = (f.size + 3) * torch.finfo(dtype).eps / 2
                assert (abs(found - expected) / expected).max() <= bound, f"{change}, {dtype}"


def test_factors_of_a_filter_neither_overflow_nor_underflow(seed):
    """An outer product whose elements span most of float32's range, and rows of zeros."""
    random = np.random.default_rng(seed)
    x = random.random((1, 1, 9, 30)) + 0.5
    for rows, columns in (([1e-15, 1, 1e15], [1e-15, 1, 1e15]), ([0, 2, 0], [0, 0, 3]), ([0, 0], [0, 0])):
        f = np.outer(rows, columns).astype(np.float32)
        given = torch.from_numpy(x).float()
        expected = by_loops(given.double().numpy(), f.astype(np.float64))
        torch.testing.assert_close(
            upfirdn2d(given, torch.from_numpy(f)), torch.from_numpy(expected).float(), rtol=1e-6, atol=0
        )


def test_setup_filter():
    f = setup_filter([1, 3, 3, 1])
    assert f.dtype == torch.float32
    assert torch.equal(f, torch.outer(torch.tensor([1.0, 3, 3, 1]), torch.tensor([1.0, 3, 3, 1])) / 64)
    assert setup_filter(list(range(8))).shape == (8,), "from 8 taps on, separable"
    assert setup_filter(list(range(1, 8))).shape == (7, 7)
    assert setup_filter(list(range(8)), separable=False).shape == (8, 8)
    assert torch.equal(setup_filter([1, 3], separable=True), torch.tensor([0.25, 0.75]))
    assert torch.equal(setup_filter([1, 3], separable=True, flip_filter=True), torch.tensor([0.75, 0.25]))
    assert torch.equal(setup_filter([1, 3], normalize=False), torch.tensor([[1.0, 3], [3, 9]]))
    assert torch.equal(setup_filter([1, 3], separable=True, gain=4), torch.tensor([0.5, 1.5])), "4 in two directions"
    assert torch.equal(setup_filter([[1, 3]], gain=4), torch.tensor([[1.0, 3]]))
    for identity in (setup_filter(None), setup_filter(5), setup_filter(torch.tensor(2.0))):
        assert torch.equal(identity, torch.ones(1, 1))


@pytest.mark.parametrize("taps", [[1, 3, 3, 1], [1, 2, 1], [1], list(range(1, 10)), [[1, 2, 3], [4, 5, 6]]])
def test_sizes_of_the_convenient_three(taps, generator):
    x, f = torch.randn(2, 3, 6, 12, generator=generator), setup_filter(taps)
    assert filter2d(x, f).shape == x.shape
    for rate in (2, 3, (2, 3), (1, 2)):
        rx, ry = (rate, rate) if isinstance(rate, int) else rate
        up = upsample2d(x, f, rate)
        assert up.shape == (2, 3, 6 * ry, 12 * rx)
        assert downsample2d(up, f, rate).shape == x.shape
    assert filter2d(x, f, padding=(1, 2, 3, -1)).shape == (2, 3, 8, 15)


def test_resampling_keeps_the_mean_of_a_constant_image():
    x, f = torch.full((1, 1, 12, 12), 3.0), setup_filter([1, 3, 3, 1])
    for y in (filter2d(x, f), upsample2d(x, f), downsample2d(x, f), filter2d(x, None), downsample2d(x, None)):
        torch.testing.assert_close(y[..., 2:-2, 2:-2], torch.full_like(y[..., 2:-2, 2:-2], 3.0))
    torch.testing.assert_close(filter2d(x, f, gain=2), 2 * filter2d(x, f))


def test_the_gain_counts_once_for_a_separable_filter(generator):
    x = torch.randn(1, 2, 9, 9, generator=generator).double()
    f = torch.randint(1, 9, (5,), generator=generator).float()
    torch.testing.assert_close(upfirdn2d(x, f, gain=3), 3 * upfirdn2d(x, f))
    torch.testing.assert_close(upfirdn2d(x, f, gain=3), upfirdn2d(3 * x, torch.outer(f, f)))


# --- errors -----------------------------------------------------------------------------------------------------------

IMAGE, TAPS = torch.zeros(1, 1, 4, 4), torch.ones(2, 2)


@pytest.mark.parametrize(
    ("x", "f", "keywords", "error", "message"),
    [
        ("x", None, {}, TypeError, "x is str, expected a floating-point tensor"),
        (IMAGE.int(), None, {}, TypeError, "x is torch.int32"),
        (IMAGE[0], None, {}, ValueError, r"x has shape \[1, 4, 4\], expected \[batch, channels, height, width\]"),
        (IMAGE[:, :, :0], None, {}, ValueError, r"x has shape \[1, 1, 0, 4\]"),
        (IMAGE, [1, 2], {}, TypeError, r"f is list, expected a floating-point tensor or None \(setup_filter"),
        (IMAGE, TAPS.long(), {}, TypeError, "f is torch.int64"),
        (IMAGE, TAPS[None], {}, ValueError, r"f has shape \[1, 2, 2\], expected \[n\] or \[height, width\]"),
        (IMAGE, TAPS[:0], {}, ValueError, r"f has shape \[0, 2\]"),
        (IMAGE, TAPS.to("meta"), {}, ValueError, "f is on meta, expected cpu like x"),
        (IMAGE, TAPS.clone().requires_grad_(), {}, ValueError, "f requires a gradient, expected a constant"),
        (IMAGE, TAPS, {"up": 0}, ValueError, "up is 0, expected rates of at least 1"),
        (IMAGE, TAPS, {"up": (1, 2, 3)}, ValueError, r"up is \(1, 2, 3\), expected an int or \(x, y\)"),
        (IMAGE, TAPS, {"down": (1, -2)}, ValueError, r"down is \(1, -2\)"),
        (IMAGE, TAPS, {"down": (1, 1.5)}, ValueError, r"down is \(1, 1.5\)"),
        (IMAGE, TAPS, {"padding": (1, 2, 3)}, ValueError, r"padding is \(1, 2, 3\), expected an int, \(x, y\) or"),
        (IMAGE, TAPS, {"padding": 0.5}, ValueError, "padding is 0.5"),
        (IMAGE, TAPS, {"padding": -2}, ValueError, r"padding is -2, expected at least the filter's size, \[2, 2\]"),
        (IMAGE, torch.ones(9), {}, ValueError, r"the filter's size, \[9, 9\], to be left of an image of \[4, 4\]"),
    ],
)
def test_bad_arguments_are_named(x, f, keywords, error, message):
    with pytest.raises(error, match=message):
        upfirdn2d(x, f, **keywords)


@pytest.mark.parametrize(
    ("f", "keywords", "message"),
    [
        ([], {}, r"f has shape \[0\]"),
        ([[[1.0]]], {}, r"f has shape \[1, 1, 1\], expected \[\], \[n\] or"),
        ([1, -1], {}, "add up to 0"),
        ([[1, 2]], {"separable": True}, r"separable is True, but f has shape \[1, 2\], expected \[n\]"),
    ],
)
def test_bad_filters_are_named(f, keywords, message):
    with pytest.raises(ValueError, match=message):
        setup_filter(f, **keywords)


@pytest.mark.parametrize("padding", [(30, -12, 2, 2), (-9, 33, 2, 2), (2, 2, 40, -20), (2, 2, -12, 40)])
@pytest.mark.parametrize("up", [1, 2])
def test_outputs_beyond_the_image_are_zero(padding, up, generator):
    """Wholly or in part; nothing is written outside of what was allocated."""
    x, f = torch.rand(2, 3, 8, 9, generator=generator) + 1, setup_filter([1, 3, 3, 1])
    y = upfirdn2d(x, f, up=up, padding=padding)
    with backend("reference"):
        torch.testing.assert_close(y, upfirdn2d(x, f, up=up, padding=padding))
    corner = upfirdn2d(x[:, :, :1, :1], f, padding=(50, -46, 50, -46))
    assert corner.shape == (2, 3, 2, 2)
    assert not corner.any()
