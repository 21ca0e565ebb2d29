"""csrc/minibatch_stddev.cu, unmodified, on the host emulator against its formulas in float64."""

import ctypes
import os

import pytest
import torch

from .build import EmulatorError, emulate, unavailable
from .guarded import Guarded

pytestmark = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]  # in the order of csrc/common.h's codes
# (samples, groups, features, segments, length, pixels): x is [samples, segments, features, length], behind each segment
# of o come `pixels` copies of each feature's statistic. Together: one block and several, with one part of the sum and
# more than a block has threads, positions of one round and more, sums in float32 and in double, groups of one.
SHAPES = [
    (1, 1, 1, 1, 1, 1),
    (2, 1, 1, 1, 3, 2),
    (4, 1, 1, 1, 300, 4),
    (7, 3, 2, 1, 70, 5),
    (8, 2, 1, 6, 5, 1),
    (5, 2, 3, 7, 40, 1),
    (6, 2, 2, 3, 100, 2),
    (8, 2, 1, 1, 700, 200),
    (3, 3, 1, 1, 9, 9),
    (16, 1, 1, 1, 20, 3),
    (17, 1, 2, 1, 20, 3),
    (37, 2, 1, 2, 17, 1),
    (2, 1, 1, 1, 70000, 1),
]
# The last one is drawn afresh in every run.
ORDERS = [("forward", 1), ("reverse", 1), ("random", int.from_bytes(os.urandom(4), "little"))]
DOUBLE = torch.finfo(torch.float64).eps / 2

SOURCE = """
#include "minibatch_stddev.cu"
fastgan::Error parts_of(const fastgan::MinibatchStddevArgs& args, int64_t* parts) {
  *parts = fastgan::cuda::minibatch_stddev_parts(args);
  return nullptr;
}
"""


class Args(ctypes.Structure):
    SIZES = ("samples", "groups", "features", "segments", "length", "pixels")
    _fields_ = [*((name, ctypes.c_int64) for name in SIZES), ("dtype", ctypes.c_int), ("threads", ctypes.c_int)]


@pytest.fixture(scope="module")
def kernels():
    names = [f"fastgan::cuda::minibatch_stddev{suffix}" for suffix in ("", "_grad", "_grad2")]
    return emulate(SOURCE, ["parts_of", *names])


@pytest.fixture
def seed():
    return int.from_bytes(os.urandom(4), "little")


def draw(shape, dtype, seed):
    """x, g and v in `dtype`; x has the shape [N, S, F, L], g that of o."""
    N, _, F, S, L, K = shape
    random = torch.Generator().manual_seed(seed)
    x, v = (torch.randn(N, S, F, L, generator=random, dtype=torch.float64) for _ in range(2))
    g = torch.randn(N, S, F * (L + K), generator=random, dtype=torch.float64)
    return x.to(dtype), g.to(dtype), v.to(dtype)


def forward(x, shape):
    N, n, F, S, _, K = shape
    y = torch.empty(N, F, dtype=x.dtype)
    for j in range(n):
        group = x[j::n]
        s = ((group - group.mean(0)).square().mean(0) + 1e-8).sqrt()  # [S, F, L]
        y[j::n] = s.mean((0, 2))
    return torch.cat([x.flatten(2), y.repeat_interleave(K, 1)[:, None].expand(N, S, F * K)], 2)


def reference(x, g, v, shape):
    """o, dx, gg and mm by automatic differentiation of the formula."""
    x, g = x.double().requires_grad_(), g.double().requires_grad_()
    o = forward(x, shape)
    (dx,) = torch.autograd.grad(o, x, g, create_graph=True)
    gg, mm = torch.autograd.grad(dx, (g, x), v.double())
    return [t.detach() for t in (o, dx, gg, mm)]


def rounding_bounds(x, g, v, shape, units):
    """What rounding to a unit u (`units`: for each group) can do to o, dx, gg and mm, by element, to first order.

    With T = max |x_i - x_0| + max |x_i| (the reference takes deviations from the mean itself), a deviation is wrong by
    at most e = (G + 4) u T: one rounding for a difference, G for the mean, two for what follows. Then s is wrong by e
    and (G / 2 + 3) u s for the squares, their sum and the root; u_i = d / s by e / s and |u_i| times what s is wrong
    by, relatively; q by what its terms are and (G + 3) u of the sum Q of their sizes. a is a sum in double.
    """
    N, n, F, S, L, K = shape
    x, g, v = x.double(), g.double(), v.double()
    extra = g[:, :, F * L :].reshape(N, S, F, K)
    of_y, of_gg = torch.empty(N, F, dtype=torch.float64), torch.empty(N, F, dtype=torch.float64)
    of_dx, of_mm = torch.empty_like(x), torch.empty_like(x)
    for j in range(n):
        member, unit = slice(j, None, n), units[j]
        X, V, G = x[member], v[member].abs(), len(x[member])
        a = (extra[member].sum((0, 1, 3)) / (G * S * L)).abs()[:, None]
        of_a = G * S * K * DOUBLE * (extra[member].abs().sum((0, 1, 3)) / (G * S * L))[:, None]
        d = X - X.mean(0)
        s = (d.square().mean(0) + 1e-8).sqrt()
        e = (G + 4) * unit * ((X - X[0]).abs().amax(0) + X.abs().amax(0))
        of_s = e + (G / 2 + 3) * unit * s
        u = (d / s).abs()
        of_u = e / s + u * (of_s / s + 2 * unit)
        Q = (V * u).sum(0)
        of_q = (V * of_u).sum(0) + (G + 3) * unit * Q
        mean = V.mean(0)
        of_inside = (G + 4) * unit * (V + mean) + of_u * Q / G + u * of_q / G
        of_y[member] = of_s.mean((0, 2))
        of_gg[member] = of_q.mean((0, 2)) / G
        inside = V + mean + u * Q / G
        of_dx[member] = a * (of_u + 4 * unit * u) + of_a * u
        of_mm[member] = a / s * (of_inside + inside * (of_s / s + 6 * unit)) + of_a / s * inside
    zeros = torch.zeros(N, S, F * L, dtype=torch.float64)
    whole = [torch.cat([zeros, t.repeat_interleave(K, 1)[:, None].expand(N, S, F * K)], 2) for t in (of_y, of_gg)]
    return [1.001 * bound for bound in (whole[0], of_dx, whole[1], of_mm)]  # a thousandth for the higher orders


def tolerances(x, g, v, shape, expected):
    N, n = shape[:2]
    info = torch.finfo(x.dtype)
    single = DOUBLE if x.dtype == torch.float64 else torch.finfo(torch.float32).eps / 2
    members = [len(range(j, N, n)) for j in range(n)]
    bounds = rounding_bounds(x, g, v, shape, [DOUBLE if G > 16 else single for G in members])
    of_reference = rounding_bounds(x, g, v, shape, [DOUBLE] * n)
    # The result is rounded, to float32 and to the dtype: half a unit in the last place each. The reference makes dx of
    # three parts: two roundings.
    half_ulp = [(info.eps / 2 + single + DOUBLE) * t.abs() + info.smallest_normal * info.eps for t in expected]
    parts = zip(bounds, of_reference, half_ulp, strict=True)
    return [bound * (1 + info.eps) + other + half for bound, other, half in parts]


def same_bits(a, b):
    return torch.equal(a.contiguous().view(torch.uint8), b.contiguous().view(torch.uint8))


def run(kernels, x, g, v, shape):
    """The three functions between guard zones, which are checked: o, dx, gg, mm."""
    dtype = x.dtype
    args = Args(*shape, DTYPES.index(dtype), 0)
    count = ctypes.c_int64()
    kernels.parts_of(ctypes.byref(args), ctypes.byref(count))
    x_, g_, v_ = (Guarded(t.shape, dtype, t) for t in (x, g, v))
    o, gg = (Guarded(g.shape, dtype) for _ in range(2))
    dx, mm = (Guarded(x.shape, dtype) for _ in range(2))
    parts, parts2 = (Guarded((count.value,), torch.float64) for _ in range(2))
    reference = ctypes.byref(args)
    kernels.minibatch_stddev(x_.tensor, o.tensor, parts.tensor, reference, None)
    kernels.minibatch_stddev_grad(g_.tensor, x_.tensor, dx.tensor, reference, None)
    kernels.minibatch_stddev_grad2(
        v_.tensor, g_.tensor, x_.tensor, gg.tensor, mm.tensor, parts2.tensor, reference, None
    )
    for given, guarded in ((x, x_), (g, g_), (v, v_)):
        assert same_bits(guarded.check(), given), "an input was changed"
    parts.check(), parts2.check()
    return [t.check() for t in (o, dx, gg, mm)]


NAMES = ["o", "dx", "gg", "mm"]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_against_float64(kernels, dtype, shape, seed):
    x, g, v = draw(shape, dtype, seed)
    expected = reference(x, g, v, shape)
    kernels.set_order(*ORDERS[0])
    results = run(kernels, x, g, v, shape)
    for name, t, truth, bound in zip(NAMES, results, expected, tolerances(x, g, v, shape, expected), strict=True):
        excess = ((t.double() - truth).abs() / bound).max().item()
        assert excess <= 1, f"{name} errs {excess:.3g} times what rounding can explain (seed {seed})"


@pytest.mark.parametrize("shape", [(7, 3, 2, 1, 700, 5), (37, 2, 1, 2, 17, 1)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_order_of_threads_gives_the_same_bits(kernels, dtype, shape, seed):
    x, g, v = draw(shape, dtype, seed)
    first = None
    for order in ORDERS:
        kernels.set_order(*order)
        results = run(kernels, x, g, v, shape)
        first = first or results
        for t, other in zip(results, first, strict=True):
            assert same_bits(t, other), f"seed {seed}, order {order}"


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_equal_samples(kernels, dtype, seed):
    """No deviation at all: dx is g, and mm what is left of v beside its mean."""
    shape = (5, 1, 1, 1, 40, 4)
    x, g, v = draw(shape, dtype, seed)
    x, v = (t[:1].expand(t.shape).contiguous() for t in (x, torch.ones_like(v)))
    o, dx, gg, mm = run(kernels, x, g, v, shape)
    torch.testing.assert_close(o[:, :, 40:], torch.full_like(o[:, :, 40:], 1e-4))
    assert torch.equal(dx[:, :, 0], g[:, :, :40]), f"seed {seed}"
    assert bool((gg[:, :, 40:] == 0).all())
    assert bool((mm == 0).all())


@pytest.mark.parametrize("shape", [(4, 1, 1, 1, 40, 4), (20, 1, 1, 1, 40, 4)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_squares_beyond_float32(kernels, dtype, shape, seed):
    x, g, v = draw(shape, torch.float64, seed)
    x, g, v = (x * 1e30).to(dtype), (g * 1e3).to(dtype), (v * 1e20).to(dtype)
    expected = reference(x, g, v, shape)
    for name, t, truth in zip(NAMES, run(kernels, x, g, v, shape), expected, strict=True):
        error = (t.double() - truth).abs().max() / truth.abs().max()
        assert error <= 4 * torch.finfo(dtype).eps, f"{name}, seed {seed}"


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(0, 0, 1, 1, 4, 4), (3, 1, 2, 1, 0, 0), (3, 1, 1, 0, 4, 1)], ids=str)
def test_empty(kernels, dtype, shape, seed):
    assert all(t.numel() == 0 for t in run(kernels, *draw(shape, dtype, seed), shape))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_nan_stays_in_its_statistic(kernels, dtype, seed):
    shape = (6, 2, 2, 1, 30, 3)  # samples 0, 2, 4 and 1, 3, 5
    x, g, v = draw(shape, dtype, seed)
    x[3, 0, 1, 20] = torch.nan
    o, dx, gg, mm = run(kernels, x, g, v, shape)
    clean_o, clean_dx, clean_gg, clean_mm = run(kernels, x.nan_to_num(0.0), g, v, shape)
    for t, clean in ((o, clean_o), (gg, clean_gg)):  # [N, 1, 60 of x, 3 + 3 of the statistics]
        assert bool(t[1::2, :, 63:].isnan().all()), f"seed {seed}"
        assert same_bits(t[1::2, :, 60:63], clean[1::2, :, 60:63]), f"seed {seed}"
        assert same_bits(t[0::2], clean[0::2]), f"seed {seed}"
    for t, clean in ((dx, clean_dx), (mm, clean_mm)):
        assert bool(t[1::2, 0, 1, 20].isnan().all()), f"seed {seed}"
        assert t.isnan().sum() == 3, f"seed {seed}"
        assert same_bits(t[0::2], clean[0::2]), f"seed {seed}"


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1 << 30, 1, 1, 1, 1, 1), "must be below"),
        ((1, 1, 1, 1, 1 << 30, 1), "must be below"),
        ((1, 1, 1, 1 << 15, 1 << 15, 1), "must be below"),
        ((1, 1, 1, 1, 1, 1 << 29), "must be below"),
        ((1 << 29, 1 << 28, 1 << 5, 1, 1, 1), "too large for one CUDA grid"),
    ],
    ids=str,
)
def test_sizes_beyond_the_grid_are_refused(kernels, shape, message):
    null, args = ctypes.c_void_p(None), ctypes.byref(Args(*shape, 0, 0))
    for name, pointers in (("", 3), ("_grad", 3), ("_grad2", 6)):
        with pytest.raises(EmulatorError, match=message):
            getattr(kernels, f"minibatch_stddev{name}")(*[null] * pointers, args, None)


def test_unknown_dtype_is_refused(kernels):
    null = ctypes.c_void_p(None)
    with pytest.raises(EmulatorError, match="unknown dtype"):
        kernels.minibatch_stddev(null, null, null, ctypes.byref(Args(1, 1, 1, 1, 1, 1, 4, 0)), None)
