"""gradient_norm_penalty: its formula as loops, and penalised_input against autograd; half precision, zeros, errors."""

import math

import pytest
import torch

from fastgan import allocation, backend
from fastgan.ops import gradient_norm_penalty, penalised_input
from fastgan.ops.gradient_norm_penalty import backends as operators
from tests.ops.cases import INTERPRETING

BACKENDS = ["triton"] if INTERPRETING else ["reference", "cpu"]
WIDEST = torch.float32 if INTERPRETING else torch.float64
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}
PENALTIES = [
    {"weight": 7.0},
    {"weight": 10.0, "target": 1.0},
    {"weight": 10.0, "target": 1.0, "one_sided": True},
    {"weight": 0.3, "target": 0.0},
]
# One block per sample and several; as many samples as threads, fewer, and many more.
SHAPES = [(2, 3, 4, 5), (3, 2, 50, 50), (1, 3, 60, 70), (40, 2, 3, 3)]


def penalty_of(norm: float, weight: float, target: float | None = None, one_sided: bool = False) -> float:
    if target is None:
        return weight / 2 * norm**2
    if one_sided and norm < target:
        return 0.0
    return weight * (norm - target) ** 2


def gradient(shape, generator, dtype=torch.float64) -> torch.Tensor:
    """Samples of norm 0.5, 2, 0.5, ...: below and above the target."""
    g = torch.randn(shape, generator=generator, dtype=torch.float64)
    norms = torch.tensor([0.5, 2.0]).repeat(shape[0])[: shape[0]]
    return (g.flatten(1) / g.flatten(1).norm(dim=1, keepdim=True) * norms[:, None]).view(shape).to(dtype)


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("penalty", PENALTIES, ids=str)
@pytest.mark.parametrize("name", BACKENDS)
def test_is_the_formula(name, penalty, generator):
    g = gradient((4, 3, 5), generator, WIDEST)
    with backend(name):
        r = gradient_norm_penalty(g, **penalty)
    for i in range(4):
        norm = math.sqrt(math.fsum(float(value) ** 2 for value in g[i].flatten()))
        assert r[i].item() == pytest.approx(penalty_of(norm, **penalty), rel=TOLERANCE[WIDEST])


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("penalty", PENALTIES, ids=str)
@pytest.mark.parametrize("name", BACKENDS)
def test_penalised_input_is_the_derivative_that_autograd_finds(name, penalty, shape, dtype, generator):
    if INTERPRETING and dtype == torch.float64:
        pytest.skip("triton takes no float64")
    scale, grad_scale = 0.25, -0.5
    g = gradient(shape, generator, dtype) / grad_scale
    x = torch.randn(shape, generator=generator).to(dtype).to(memory_format=torch.channels_last)
    s = torch.randn(shape[0], generator=generator)

    true = (g.double() * grad_scale).requires_grad_()
    norm = true.flatten(1).norm(dim=1)
    r = torch.stack([penalty["weight"] / 2 * n**2 if "target" not in penalty else
                     penalty["weight"] * ((n - penalty["target"]).relu() if penalty.get("one_sided") else
                                          n - penalty["target"]) ** 2 for n in norm])  # fmt: skip
    (v,) = torch.autograd.grad(r.sum() * scale, true)

    with backend(name):
        for factor in (s, None):
            u, found, norms = penalised_input(g, x, factor, **penalty, scale=scale, grad_scale=grad_scale)
            expected = v if factor is None else v + s.double().view(-1, 1, 1, 1) * x.double()
            assert u.dtype == dtype
            assert u.stride() == x.stride()
            assert found.dtype == norms.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
            error = (u.double() - expected).abs().max() / expected.abs().max().clamp(min=1e-30)
            assert error <= TOLERANCE[dtype]
            exact = 1e-12 if dtype == torch.float64 else 1e-5
            torch.testing.assert_close(found.double(), r.detach(), rtol=exact, atol=1e-12)
            torch.testing.assert_close(norms.double(), norm.detach(), rtol=exact, atol=0)


@pytest.mark.parametrize("name", BACKENDS)
def test_without_s_the_input_is_not_read(name, generator):
    g = gradient((3, 4), generator, torch.float32)
    with backend(name):
        u, _, _ = penalised_input(g, torch.full_like(g, float("nan")), None, 2.0)
    torch.testing.assert_close(u, 2 * g)


@pytest.mark.parametrize("name", BACKENDS)
def test_float16_squares_do_not_overflow(name):
    g = torch.full((2, 4000), 300.0, dtype=torch.float16)
    with backend(name):
        r = gradient_norm_penalty(g, 2.0)
        u, same, norm = penalised_input(g, g, None, 2.0, scale=0.5)
    assert r.dtype == torch.float32
    torch.testing.assert_close(r, torch.full((2,), 300.0**2 * 4000))
    assert torch.equal(r, same)
    torch.testing.assert_close(norm, torch.full((2,), 300.0 * math.sqrt(4000)))
    assert torch.equal(u, g)


@pytest.mark.parametrize("name", [name for name in BACKENDS if name != "reference"])
def test_squares_out_of_range_of_float32_do_not_spoil_the_norm(name):
    for value in (1e-30, 1e30):
        g = torch.full((1, 5000), value)
        with backend(name):
            _, _, norm = penalised_input(g, g, None, 1.0)
        torch.testing.assert_close(norm, torch.tensor([value * math.sqrt(5000)]), rtol=1e-6, atol=0)


@pytest.mark.parametrize("penalty", PENALTIES, ids=str)
@pytest.mark.parametrize("name", BACKENDS)
def test_a_zero_gradient_has_zero_derivatives(name, penalty):
    g = torch.zeros(2, 5, requires_grad=True)
    with backend(name):
        r = gradient_norm_penalty(g, **penalty)
        u, _, _ = penalised_input(g, g, None, **penalty)
    assert r[0].item() == penalty_of(0.0, **penalty)
    (dg,) = torch.autograd.grad(r.sum(), g, create_graph=True)
    (ddg,) = torch.autograd.grad(dg.sum(), g)
    assert not dg.any()
    assert not u.any()
    assert ddg.isfinite().all()


@pytest.mark.skipif(INTERPRETING, reason="about threads")
def test_penalised_input_does_not_depend_on_the_threads(generator):
    threads = torch.get_num_threads()
    try:
        for shape in SHAPES:
            g, x = (torch.randn(shape, generator=generator) for _ in range(2))
            runs = []
            for count in (1, 2, 3):
                torch.set_num_threads(count)
                with backend("cpu"):
                    runs.append(penalised_input(g, x, torch.ones(shape[0]), 10.0, 1.0))
            for run in runs[1:]:
                assert all(torch.equal(a, b) for a, b in zip(runs[0], run, strict=True))
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("name", [name for name in BACKENDS if name != "reference"])
def test_penalised_input_as_an_operator_and_compiled(name, generator):
    g, x = (torch.randn(3, 4, 2, 5, generator=generator) for _ in range(2))
    x = x.to(memory_format=torch.channels_last)
    for s in (None, torch.rand(3, generator=generator)):
        torch.library.opcheck(operators.penalised_input, (g, x, s, 10.0, 1.0, True, 0.5, 2.0, name))
    if not INTERPRETING:
        with backend(name):
            expected = penalised_input(g, x, s, 10.0, 1.0)
            found = torch.compile(penalised_input, fullgraph=True, backend="aot_eager")(g, x, s, 10.0, 1.0)
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("name", BACKENDS)
def test_penalised_input_needs_no_graph(name):
    g = torch.ones(2, 3, requires_grad=True)
    with backend(name):
        assert not any(t.requires_grad for t in penalised_input(g, g, torch.ones(2), 1.0))
        for result in penalised_input(torch.zeros(0, 3), torch.zeros(0, 3), torch.zeros(0), 1.0):
            assert result.shape[0] == 0


@pytest.mark.skipif(INTERPRETING, reason="about memory on the CPU")
def test_penalised_input_writes_one_tensor_of_the_size_of_the_gradient(monkeypatch):
    sizes = []
    original = allocation.empty_like
    monkeypatch.setattr(allocation, "empty_like", lambda x: sizes.append(x.numel()) or original(x))
    g = torch.ones(4, 1000)
    penalised_input(g, g, torch.ones(4), 1.0)
    assert sizes == [4000]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"g": [1.0]}, TypeError, "g is list, expected a floating-point tensor"),
        ({"g": torch.arange(3)}, TypeError, "g is torch.int64"),
        ({"g": torch.tensor(1.0)}, ValueError, "g has no dimensions"),
        ({"target": -1.0}, ValueError, "target is -1.0, expected a norm >= 0 or None"),
        ({"target": float("nan")}, ValueError, "target is nan"),
        ({"one_sided": True}, ValueError, "one_sided is True but target is None"),
        ({"x": 3}, TypeError, "x is int"),
        ({"x": torch.zeros(2, 3).half()}, TypeError, "x is torch.float16, expected torch.float32 like g"),
        ({"x": torch.zeros(3)}, ValueError, r"x has shape \[3\], expected \[2, 3\] like g"),
        ({"x": torch.zeros(2, 3, device="meta")}, ValueError, "x is on meta, expected cpu like g"),
        ({"s": torch.arange(2)}, TypeError, "s is torch.int64"),
        ({"s": torch.zeros(3)}, ValueError, r"s has shape \[3\], expected \[2\]"),
    ],
)
def test_bad_arguments_are_named(arguments, error, message):
    g = arguments.get("g", torch.zeros(2, 3))
    if not {"x", "s"} & arguments.keys():
        with pytest.raises(error, match=f"gradient_norm_penalty: {message}"):
            gradient_norm_penalty(**{"g": g, "weight": 1.0, **arguments})
    with pytest.raises(error, match=f"penalised_input: {message}"):
        penalised_input(**{"g": g, "x": g, "s": None, "weight": 1.0, **arguments})
