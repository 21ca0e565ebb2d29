"""csrc/spectral_norm.cu, unmodified, on the host emulator against its formulas in float64."""

import ctypes
import os
from itertools import product

import pytest
import torch

from tests.rotation import in_turn

from .build import EmulatorError, emulate, unavailable
from .guarded import Guarded
from .spectral_norm_reference import Case, Iterate, draw, reference_gradients, sigma_of, wide

pytestmark = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]  # in the order of csrc/common.h's codes
# (A, h, B). Together they take every way of the kernels in every type, and more than one launch's table.
SHAPES = [
    (1, 1, 1),
    (1, 1, 8192),
    (1, 128, 27),
    (1, 300, 1),
    (1, 19, 104),
    (1, 37, 136),
    (1, 37, 131),
    (1, 9, 517),
    (1, 21, 600),
    (1, 11, 1544),
    (1, 17, 3000),
    (1, 9, 5000),
    (1, 9, 8200),
    (1, 3, 11000),
    (1, 2, 13000),
    (1, 2, 16904),
    (1, 2, 20488),
    (3, 5, 16),
    (7, 9, 9),
    (5, 6, 1),
    (2, 40, 300),
    (2, 3, 2101),
]
FEW = [(1, 33, 27), (1, 26, 1544), (1, 20, 517), (3, 21, 16)]
# The last one is drawn afresh in every run.
ORDERS = [("forward", 1), ("reverse", 1), ("random", int.from_bytes(os.urandom(4), "little"))]
EPS = 1e-12
# 16 bytes from an address between multiples of 16: a fault on a GPU, and so here (SIGILL), where x86 would not mind.
TRAP_MISALIGNED = ("-fsanitize=alignment", "-fsanitize-undefined-trap-on-error")

SOURCE = """
#include "spectral_norm.cu"
fastgan::Error scratch_bytes(const fastgan::SpectralMatrix* matrices, int count, const fastgan::SpectralNormArgs& args,
                             int64_t* bytes) {
  *bytes = fastgan::cuda::spectral_norm_scratch(matrices, count, args);
  return nullptr;
}
"""


class Matrix(ctypes.Structure):
    POINTERS = ("weight", "u", "v", "u_out", "v_out", "out", "g", "d", "g_out")
    _fields_ = [(name, ctypes.c_void_p) for name in POINTERS] + [(name, ctypes.c_int64) for name in "AhB"]


class Args(ctypes.Structure):
    _fields_ = [
        ("iterations", ctypes.c_int),
        ("eps", ctypes.c_double),
        ("v_first", ctypes.c_bool),
        ("dtype", ctypes.c_int),
    ]


@pytest.fixture(scope="module")
def kernels():
    names = [f"fastgan::cuda::spectral_norm{suffix}" for suffix in ("", "_grad", "_grad2")]
    return emulate(SOURCE, ["scratch_bytes", *names], TRAP_MISALIGNED)


@pytest.fixture
def seed():
    return int.from_bytes(os.urandom(4), "little")


class Table:
    """The table of a call, the guarded tensors that it points to, and scratch full of NaN."""

    def __init__(self, kernels, cases, iterations=1, eps=EPS, v_first=False):
        self.kernels, self.cases = kernels, cases
        self.dtype = cases[0].weight.dtype
        self.args = Args(iterations, eps, v_first, DTYPES.index(self.dtype))
        self.matrices = (Matrix * len(cases))()
        self.guarded = [{} for _ in cases]
        for matrix, case in zip(self.matrices, cases, strict=True):
            matrix.A, matrix.h, matrix.B = case.shape

    def give(self, *names):
        for case, matrix, guarded in zip(self.cases, self.matrices, self.guarded, strict=True):
            for name in names:
                value = getattr(case, name)
                guarded[name] = Guarded(value.shape, self.dtype, value)
                setattr(matrix, name, guarded[name].tensor.data_ptr())
        return self

    def want(self, **like):
        for case, matrix, guarded in zip(self.cases, self.matrices, self.guarded, strict=True):
            for name, model in like.items():
                guarded[name] = Guarded(getattr(case, model).shape, self.dtype)
                setattr(matrix, name, guarded[name].tensor.data_ptr())
        return self

    def call(self, function, *arguments):
        common = (ctypes.byref(self.matrices), ctypes.c_int(len(self.cases)))
        size = ctypes.c_int64(-1)
        self.kernels.scratch_bytes(*common, ctypes.byref(self.args), ctypes.byref(size))
        assert size.value >= 0
        assert size.value % 4 == 0
        nan = torch.full((size.value // 4,), torch.nan)
        scratch = Guarded(nan.shape, torch.float32, nan)
        getattr(self.kernels, function)(*common, *arguments, ctypes.byref(self.args), scratch.tensor, None)
        scratch.check()
        results = []
        for case, guarded in zip(self.cases, self.guarded, strict=True):
            results.append({name: x.check() for name, x in guarded.items()})
            for name in results[-1].keys() & {"weight", "u", "v", "g", "d"}:
                assert same_bits(results[-1][name], getattr(case, name)), f"{name} was changed"
        return results

    def scalars(self, values=None):
        return Guarded((len(self.cases),), wide(self.dtype), values)


def run_forward(kernels, cases, **options):
    table = Table(kernels, cases, **options).give("weight", "u", "v").want(u_out="u", v_out="v", out="weight")
    sigma = table.scalars()
    results = table.call("spectral_norm", sigma.tensor)
    for result, value in zip(results, sigma.check(), strict=True):
        result["sigma"] = value
    return results


def run_gradients(kernels, cases, gs):
    """grad and grad2, for sigma = u' M v."""
    sigma = torch.stack([sigma_of(case) for case in cases])
    table = Table(kernels, cases).give("weight", "u", "v", "g").want(out="weight")
    sigma_, gs_ = table.scalars(sigma), table.scalars(gs)
    first = table.call("spectral_norm_grad", sigma_.tensor, gs_.tensor)
    table = Table(kernels, cases).give("weight", "u", "v", "g", "d").want(out="weight", g_out="weight")
    dgs = table.scalars()
    second = table.call("spectral_norm_grad2", sigma_.tensor, dgs.tensor)
    sigma_.check()
    gs_.check()
    names = ("dM", "dG", "dM2")
    return [
        dict(zip(names, (x["out"], y["g_out"], y["out"]), strict=True)) | {"dgs": z}
        for x, y, z in zip(first, second, dgs.check(), strict=True)
    ]


def same_bits(a, b):
    return torch.equal(a.reshape(-1).view(torch.uint8), b.reshape(-1).view(torch.uint8))


def check(result, expected, dtype, where, normal_only=False):
    for name, (value, bound) in expected.items():
        info = torch.finfo(wide(dtype) if name in ("sigma", "dgs") else dtype)
        got = result[name].double()
        # The last rounding, and what lies below the normal numbers of the arithmetic and of the result.
        tiny = info.smallest_normal * (1 if normal_only else info.eps)
        bound = 1.01 * bound + info.eps / 2 * value.abs() + tiny
        finite = value.abs() < info.max
        excess = ((got - value).abs() / bound)[finite].nan_to_num(torch.inf).amax().item() if finite.any() else 0
        assert excess <= 1, f"{name} errs {excess:.3g} times what rounding can explain ({where})"


@pytest.mark.parametrize(
    ("dtype", "v_first", "iterations"),
    in_turn(list(product(DTYPES, (False, True), (0, 1, 3))), "spectral_norm forward", run=8),
    ids=str,
)
def test_forward_against_float64(kernels, dtype, v_first, iterations, seed):
    kernels.set_order(*ORDERS[0])
    cases = draw(SHAPES if iterations == 1 else SHAPES[2:-1:2], dtype, seed)
    results = run_forward(kernels, cases, iterations=iterations, v_first=v_first)
    for case, result in zip(cases, results, strict=True):
        expected = Iterate(case, iterations, EPS, v_first).expected()
        check(result, expected, dtype, f"{case.shape}, seed {seed}")
        if iterations == 0:
            assert same_bits(result["u_out"], case.u)
            assert same_bits(result["v_out"], case.v)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_gradients_against_float64(kernels, dtype, seed):
    kernels.set_order(*ORDERS[0])
    cases = draw(SHAPES, dtype, seed)
    gs = torch.randn(len(cases), generator=torch.Generator().manual_seed(seed)).to(wide(dtype))
    for case, value, result in zip(cases, gs, run_gradients(kernels, cases, gs), strict=True):
        expected = {
            name: tuple(case.shaped(x) if x.dim() == 2 else x for x in pair)
            for name, pair in reference_gradients(case, value).items()
        }
        check(result, expected, dtype, f"{case.shape}, seed {seed}")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_order_and_company_gives_the_same_bits(kernels, dtype, seed):
    """In every order of threads and blocks, and whatever other matrices are in the call."""
    cases = draw(FEW, dtype, seed)
    gs = torch.randn(len(cases), dtype=wide(dtype))
    first = None
    for order in ORDERS:
        kernels.set_order(*order)
        results = [run_forward(kernels, cases, iterations=2, v_first=v_first) for v_first in (False, True)]
        results.append(run_gradients(kernels, cases, gs))
        first = first or results
        for x, y in zip(results, first, strict=True):
            assert all(same_bits(a[k], b[k]) for a, b in zip(x, y, strict=True) for k in a), f"{seed}, {order}"
    for n, case in enumerate(cases):
        (alone,) = run_forward(kernels, [case], iterations=2)
        assert all(same_bits(alone[k], first[0][n][k]) for k in alone), f"seed {seed}"


@pytest.mark.parametrize("v_first", [False, True], ids=["u_first", "v_first"])
@pytest.mark.parametrize(("scale", "eps"), [(1e30, EPS), (1e-30, 0.0), (1e-30, 1e-37), (1e-12, EPS), (1e-20, EPS)])
def test_products_beyond_float32(kernels, scale, eps, v_first, seed):
    """t is of the order of scale^2; u, v and sigma are not, or underflow only where they must."""
    for iterations in (1, 3):
        cases = draw(FEW, torch.float32, seed, scale)
        results = run_forward(kernels, cases, iterations=iterations, eps=eps, v_first=v_first)
        for case, result in zip(cases, results, strict=True):
            expected = Iterate(case, iterations, eps, v_first).expected()
            if abs(expected["sigma"][0]) < torch.finfo(torch.float32).smallest_normal:
                del expected["out"]  # rounds to a division by zero, or nearly
            check(result, expected, torch.float32, f"{case.shape}, seed {seed}", normal_only=True)


def test_slabs_of_different_sizes(kernels, seed):
    """The power of two that a slab multiplies by shrinks as rows grow, and differs between slabs."""
    cases = draw([(1, 40, 27), (1, 40, 1544)], torch.float32, seed)
    for case in cases:
        case.weight *= 2.0 ** torch.linspace(-60, 60, 40)[torch.randperm(40)].round()[None, :, None]
        case.weight[:, 8:16] = 0
    for case, result in zip(cases, run_forward(kernels, cases), strict=True):
        check(result, Iterate(case, 1, EPS, False).expected(), torch.float32, f"{case.shape}, seed {seed}")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_addresses_between_multiples_of_16(kernels, dtype, seed):
    cases = draw([(1, 9, 600), (3, 5, 16), (1, 8, 32)], dtype, seed)
    shifted = [torch.cat([case.weight.flatten()[:1], case.weight.flatten()])[1:] for case in cases]
    table = Table(kernels, cases).give("u", "v").want(u_out="u", v_out="v", out="weight")
    for matrix, weight in zip(table.matrices, shifted, strict=True):
        matrix.weight = weight.data_ptr()
        assert matrix.weight % 16 != 0
    sigma = table.scalars()
    results = table.call("spectral_norm", sigma.tensor)
    for case, result, value in zip(cases, results, sigma.check(), strict=True):
        check(result | {"sigma": value}, Iterate(case, 1, EPS, False).expected(), dtype, f"{case.shape}, seed {seed}")


@pytest.mark.parametrize("v_first", [False, True], ids=["u_first", "v_first"])
@pytest.mark.parametrize("iterations", [0, 2])
def test_in_place_and_without_outputs(kernels, iterations, v_first, seed):
    options = {"iterations": iterations, "v_first": v_first}
    cases = draw(FEW, torch.float32, seed)
    expected = run_forward(kernels, cases, **options)
    table = Table(kernels, cases, **options).give("weight", "u", "v")
    sigma = table.scalars()
    table.call("spectral_norm", sigma.tensor)
    assert same_bits(sigma.check(), torch.stack([x["sigma"] for x in expected]))
    u, v = [case.u.clone() for case in cases], [case.v.clone() for case in cases]
    for matrix, own_u, own_v in zip(table.matrices, u, v, strict=True):
        matrix.u = matrix.u_out = own_u.data_ptr()
        matrix.v = matrix.v_out = own_v.data_ptr()
    table.call("spectral_norm", sigma.tensor)
    for own_u, own_v, x in zip(u, v, expected, strict=True):
        assert same_bits(own_u, x["u_out"])
        assert same_bits(own_v, x["v_out"])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_cotangents_that_are_absent_are_zero(kernels, dtype, seed):
    cases = draw(FEW, dtype, seed)
    gs = torch.randn(len(cases), dtype=wide(dtype))
    null = ctypes.c_void_p(None)
    sigma = torch.stack([sigma_of(case) for case in cases]).to(wide(dtype))
    for absent in ({"g"}, {"gs"}, {"g", "gs"}, {"d"}, {"g", "d"}):
        zeroed = [Case(*(x * (n not in absent) for n, x in vars(case).items())) for case in cases]
        expected = run_gradients(kernels, zeroed, gs * ("gs" not in absent))
        given = [name for name in ("weight", "u", "v", "g") if name not in absent]
        table = Table(kernels, cases).give(*given).want(out="weight")
        results = table.call("spectral_norm_grad", sigma, null if "gs" in absent else gs)
        assert all(torch.equal(x["out"], y["dM"]) for x, y in zip(results, expected, strict=True)), absent
        given += [] if "d" in absent else ["d"]
        table = Table(kernels, cases).give(*given).want(out="weight", g_out="weight")
        dgs = table.scalars()
        results = table.call("spectral_norm_grad2", sigma, dgs.tensor)
        for x, y, z in zip(results, expected, dgs.check(), strict=True):
            assert torch.equal(x["out"], y["dM2"]), absent
            assert torch.equal(x["g_out"], y["dG"]), absent
            assert torch.equal(z, y["dgs"]), absent


def test_outputs_that_are_absent_are_not_written(kernels, seed):
    cases = draw(FEW, torch.float32, seed)
    gs = torch.randn(len(cases))
    expected = run_gradients(kernels, cases, gs)
    sigma = torch.stack([sigma_of(case) for case in cases]).float()
    null = ctypes.c_void_p(None)
    for wanted in ({"out"}, {"g_out"}, set()):
        table = Table(kernels, cases).give("weight", "u", "v", "g", "d").want(**dict.fromkeys(wanted, "weight"))
        dgs = table.scalars()
        results = table.call("spectral_norm_grad2", sigma, null if wanted else dgs.tensor)
        if not wanted:
            assert same_bits(dgs.check(), torch.stack([y["dgs"] for y in expected]))
        for x, y in zip(results, expected, strict=True):
            assert all(same_bits(x[name], y[{"out": "dM2", "g_out": "dG"}[name]]) for name in wanted)
    Table(kernels, cases).give("weight", "u", "v", "g").call("spectral_norm_grad", sigma, gs)


@pytest.mark.parametrize("v_first", [False, True], ids=["u_first", "v_first"])
def test_nan_stays_in_its_matrix(kernels, v_first, seed):
    cases = draw(FEW, torch.float32, seed)
    clean = run_forward(kernels, cases, v_first=v_first)
    cases[1].weight[0, 25, 1543] = torch.nan
    results = run_forward(kernels, cases, v_first=v_first)
    assert all(bool(x.isnan().all()) for name, x in results[1].items() if name in ("sigma", "out"))
    assert bool(results[1]["u_out"].isnan().all())
    assert bool(results[1]["v_out"].isnan().all())
    for n in (0, 2, 3):
        assert all(same_bits(results[n][name], clean[n][name]) for name in clean[n])


@pytest.mark.parametrize("v_first", [False, True], ids=["u_first", "v_first"])
def test_zero_matrices(kernels, v_first, seed):
    cases = draw(FEW, torch.float32, seed)
    for case in cases:
        case.weight.zero_()
    for result in run_forward(kernels, cases, v_first=v_first, iterations=2):
        assert result["sigma"] == 0
        assert bool((result["u_out"] == 0).all())
        assert bool((result["v_out"] == 0).all())
        assert bool(result["out"].isnan().all())


@pytest.mark.parametrize("iterations", [0, 1])
def test_empty(kernels, iterations, seed):
    empty = [(0, 3, 4), (1, 0, 5), (2, 3, 0), (0, 0, 0)]
    cases = draw([empty[0], FEW[0], *empty[1:]], torch.float32, seed)
    (expected,) = run_forward(kernels, [cases[1]], iterations=iterations)
    table = Table(kernels, cases, iterations=iterations).give("weight", "u", "v", "g", "d").want(out="weight")
    kept = [case.u.clone() for case in cases]
    for n, matrix in enumerate(table.matrices):
        matrix.u_out = kept[n].data_ptr()
    sigma, dgs = table.scalars(), table.scalars()
    table.call("spectral_norm", sigma.tensor)
    assert sigma.check().tolist() == [0, expected["sigma"].item(), 0, 0, 0]
    assert all(same_bits(kept[n], cases[n].u) for n in (0, 2, 3, 4))
    table.call("spectral_norm_grad", sigma.tensor, sigma.tensor)
    table.call("spectral_norm_grad2", sigma.tensor, dgs.tensor)
    assert [n for n, x in enumerate(dgs.check().tolist()) if x != 0] == [1]


def test_no_matrices(kernels):
    null, args = ctypes.c_void_p(None), ctypes.byref(Args(1, EPS, False, 0))
    kernels.spectral_norm(null, ctypes.c_int(0), null, args, null, None)
    kernels.spectral_norm_grad(null, ctypes.c_int(0), null, null, args, null, None)
    kernels.spectral_norm_grad2(null, ctypes.c_int(0), null, null, args, null, None)


@pytest.mark.parametrize("shape", [(1, 1 << 31, 1), (1 << 16, 1 << 15, 1), (1 << 40, 1 << 20, 1 << 20)], ids=str)
def test_sizes_beyond_31_bits_and_unknown_types_are_refused(kernels, shape):
    null, one = ctypes.c_void_p(None), ctypes.c_int(1)
    for sizes, dtype, message in ((shape, 0, "fewer than 2\\^31"), ((1, 1, 1), 4, "unknown dtype")):
        matrix = Matrix()
        matrix.A, matrix.h, matrix.B = sizes
        arguments, args = (ctypes.byref(matrix), one, null), ctypes.byref(Args(1, EPS, False, dtype))
        for name, more in (("", ()), ("_grad", (null,)), ("_grad2", (null,))):
            with pytest.raises(EmulatorError, match=message):
                getattr(kernels, f"spectral_norm{name}")(*arguments, *more, args, null, None)
