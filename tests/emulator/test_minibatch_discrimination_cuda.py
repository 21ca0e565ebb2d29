"""csrc/minibatch_discrimination.cu, unmodified, on the host emulator against the materialised formula in float64."""

import ctypes
import math
import os
from dataclasses import dataclass

import pytest
import torch

from .build import EmulatorError, emulate, unavailable
from .guarded import Guarded

pytestmark = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]  # in the order of csrc/common.h's codes
SHAPES = [
    (1, 1, 1),
    (2, 3, 5),
    (31, 2, 15),
    (63, 2, 16),
    (64, 1, 17),
    (65, 5, 1),
    (65, 2, 40),
    (130, 2, 5),
    (130, 1, 16),
    (33, 3, 70),
]
# The last one is drawn afresh in every run.
ORDERS = [("forward", 1), ("reverse", 1), ("random", int.from_bytes(os.urandom(4), "little"))]


@pytest.fixture(scope="module")
def kernels():
    names = ["minibatch_discrimination" + suffix for suffix in ("", "_grad", "_grad2")]
    return emulate('#include "minibatch_discrimination.cu"', [f"fastgan::cuda::{name}" for name in names])


@pytest.fixture
def seed():
    return int.from_bytes(os.urandom(4), "little")


def draw(shape, dtype, seed):
    """m, g and v in `dtype`; m has distances of order one and many ties, equal rows among them."""
    B, K, C = shape
    random = torch.Generator().manual_seed(seed)
    m = torch.randn(B, K, C, generator=random, dtype=torch.float64) * 2 / C
    coarse = (m * 4 * C).round() / (4 * C)
    m = torch.where(torch.rand(B, K, C, generator=random) < 0.5, coarse, m)
    if B > 2:
        m[B // 2] = m[0]
    g = torch.randn(B, K, generator=random, dtype=torch.float64)
    v = torch.randn(B, K, C, generator=random, dtype=torch.float64)
    return m.to(dtype), g.to(dtype), v.to(dtype)


def reference(m, g, v):
    """o, dm, gg and mm by automatic differentiation of the formula with all pairs written out."""
    m, g = m.double().requires_grad_(), g.double().requires_grad_()
    distances = (m[:, None] - m[None, :]).abs().sum(dim=-1)
    others = 1 - torch.eye(len(m), dtype=torch.float64)
    o = (torch.exp(-distances) * others[:, :, None]).sum(dim=1)
    (dm,) = torch.autograd.grad(o, m, g, create_graph=True)
    gg, mm = torch.autograd.grad(dm, (g, m), v.double())
    return [x.detach() for x in (o, dm, gg, mm)]


def rounding_bounds(m, g, v, u, additions):
    """What rounding to a unit u can do to o, dm, gg and mm, element by element, to first order.

    A distance is wrong by at most C u d (C - 1 additions of differences with one rounding each), hence its
    exponential by C u d and 2 ulp = 4 u of its own; a sum over j adds one rounding for each of `additions` on the
    way of a term; products and g_i + g_j one each. q is wrong by (C + 1) u times the sum Q of its terms' sizes.
    """
    m, g, v = m.double(), g.double(), v.double()
    C = m.shape[2]
    difference = m[:, None] - m[None, :]
    S = difference.sign()
    d = difference.abs().sum(dim=-1)
    c = torch.exp(-d) * (1 - torch.eye(len(m), dtype=torch.float64))[:, :, None]
    G = (g[:, None] + g[None, :]).abs()
    v_difference = (v[:, None] - v[None, :]) * S
    q, Q = v_difference.sum(dim=-1).abs(), v_difference.abs().sum(dim=-1)
    roundings = C * d + 4 + additions
    of_cq = c * q * (roundings + 1) + c * Q * (C + 1)
    of_weight = [c * roundings, c * G * (roundings + 2), of_cq, G * (of_cq + 2 * c * q)]
    bounds = [w.sum(dim=1) if n % 2 == 0 else (w[..., None] * S.abs()).sum(dim=1) for n, w in enumerate(of_weight)]
    return [1.001 * u * bound for bound in bounds]  # a thousandth for the higher orders


def tolerances(m, g, v, expected):
    B, _, C = m.shape
    dtype = m.dtype
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    per_thread = 2 if dtype == torch.float64 else 4
    additions = math.ceil(B / (16 * per_thread)) * per_thread + 4  # tile after tile, then four shuffles
    u = torch.finfo(wide).eps / 2
    bounds = rounding_bounds(m, g, v, u, additions)
    if dtype == torch.float64:  # the reference rounds as coarsely, and may add up in any order
        bounds = [a + b for a, b in zip(bounds, rounding_bounds(m, g, v, u, B + C), strict=True)]
    # exp(-d) and its products may be subnormal, where the error is absolute.
    smallest = torch.finfo(wide).smallest_normal * torch.finfo(wide).eps
    floor = 4 * B * smallest * (1 + g.double().abs().amax()) * (1 + 2 * v.double().abs().sum(dim=2).amax())
    bounds = [bound + floor for bound in bounds]
    if wide != dtype:  # the result is rounded once more
        info = torch.finfo(dtype)
        half_ulp = [info.eps / 2 * x.abs() + info.smallest_normal * info.eps / 2 for x in expected]
        bounds = [bound * (1 + info.eps) + half for bound, half in zip(bounds, half_ulp, strict=True)]
    return bounds


def same_bits(a, b):
    return torch.equal(a.contiguous().view(torch.uint8), b.contiguous().view(torch.uint8))


@dataclass
class Results:
    o: torch.Tensor
    dm: torch.Tensor
    gg: torch.Tensor
    mm: torch.Tensor

    def all(self):
        return [self.o, self.dm, self.gg, self.mm]


def run(kernels, m, g, v):
    """The three functions between guard zones, which are checked."""
    (B, K, C), dtype = m.shape, m.dtype
    code = ctypes.c_int(DTYPES.index(dtype))
    m_, g_, v_ = (Guarded(x.shape, dtype, x) for x in (m, g, v))
    o, gg = (Guarded((B, K), dtype) for _ in range(2))
    dm, mm = (Guarded((B, K, C), dtype) for _ in range(2))
    kernels.minibatch_discrimination(m_.tensor, o.tensor, B, K, C, code, None)
    kernels.minibatch_discrimination_grad(g_.tensor, m_.tensor, dm.tensor, B, K, C, code, None)
    kernels.minibatch_discrimination_grad2(v_.tensor, g_.tensor, m_.tensor, gg.tensor, mm.tensor, B, K, C, code, None)
    for given, guarded in ((m, m_), (g, g_), (v, v_)):
        assert same_bits(guarded.check(), given), "an input was changed"
    return Results(*(x.check() for x in (o, dm, gg, mm)))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_against_float64(kernels, dtype, shape, seed):
    m, g, v = draw(shape, dtype, seed)
    expected = reference(m, g, v)
    kernels.set_order(*ORDERS[0])
    results = run(kernels, m, g, v)
    names = ["o", "dm", "gg", "mm"]
    for name, x, y, bound in zip(names, results.all(), expected, tolerances(m, g, v, expected), strict=True):
        excess = ((x.double() - y).abs() / bound).max().item()
        assert excess <= 1, f"{name} errs {excess:.3g} times what rounding can explain (seed {seed})"


@pytest.mark.parametrize("shape", [(65, 2, 5), (70, 1, 33)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_order_of_threads_gives_the_same_bits(kernels, dtype, shape, seed):
    m, g, v = draw(shape, dtype, seed)
    first = None
    for order in ORDERS:
        kernels.set_order(*order)
        results = run(kernels, m, g, v)
        first = first or results
        for x, y in zip(results.all(), first.all(), strict=True):
            assert same_bits(x, y), f"seed {seed}, order {order}"


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_ties_only(kernels, dtype, seed):
    """Equal rows: every distance and every sign is zero."""
    shape = (67, 2, 18)
    m, g, v = draw(shape, dtype, seed)
    m = m[:1].expand(shape).contiguous()
    results = run(kernels, m, g, v)
    assert bool((results.o == 66).all())
    for x in (results.dm, results.gg, results.mm):
        assert bool((x == 0).all()), f"seed {seed}"


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(0, 3, 4), (3, 0, 4), (3, 2, 0), (1, 2, 0), (0, 0, 0)], ids=str)
def test_empty(kernels, dtype, shape, seed):
    """Without features all rows are equal, so that gg is zero but not empty."""
    B = shape[0]
    m, g, v = (torch.randn(s, dtype=torch.float64).to(dtype) for s in (shape, shape[:2], shape))
    results = run(kernels, m, g, v)
    assert bool((results.o == B - 1).all())
    assert bool((results.gg == 0).all())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_nan_reaches_every_output_that_depends_on_it(kernels, dtype, seed):
    m, g, v = draw((66, 2, 18), dtype, seed)
    m[64, 1, 17] = torch.nan
    results = run(kernels, m, g, v)
    clean = run(kernels, m.nan_to_num(0.0), g, v)
    for x, y in zip(results.all(), clean.all(), strict=True):
        assert bool(x[:, 1].isnan().all()), f"seed {seed}"
        assert same_bits(x[:, 0], y[:, 0]), f"seed {seed}"


def test_nan_alone_does_not_count_itself(kernels):
    m, g = torch.full((1, 1, 3), torch.nan), torch.ones(1, 1)
    results = run(kernels, m, g, m.nan_to_num(1.0))
    assert results.o.item() == 0


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_infinitely_far_row_counts_for_nothing(kernels, dtype, seed):
    m, g, v = draw((66, 2, 3), dtype, seed)
    m[65] = torch.inf
    results = run(kernels, m, g, v)
    without = run(kernels, *(x[:65].contiguous() for x in (m, g, v)))
    for x, y in zip(results.all(), without.all(), strict=True):
        assert torch.equal(x[:65], y), f"seed {seed}"
        assert bool((x[65] == 0).all()), f"seed {seed}"


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1 << 30, 1, 1), "must be below"),
        ((1, 1 << 30, 1), "must be below"),
        ((1, 1 << 15, 1 << 15), "must be below"),
        (((1 << 30) - 1, 1 << 8, 1), "too large for one CUDA grid"),
    ],
    ids=str,
)
def test_sizes_beyond_the_grid_are_refused(kernels, shape, message):
    null = ctypes.c_void_p(None)
    for name, pointers in (("", 2), ("_grad", 3), ("_grad2", 5)):
        with pytest.raises(EmulatorError, match=message):
            getattr(kernels, f"minibatch_discrimination{name}")(*[null] * pointers, *shape, ctypes.c_int(0), None)


def test_unknown_dtype_is_refused(kernels):
    null = ctypes.c_void_p(None)
    with pytest.raises(EmulatorError, match="unknown dtype"):
        kernels.minibatch_discrimination(null, null, 1, 1, 1, ctypes.c_int(4), None)
