"""spectral_norm against numpy's singular values and the formulas written again in numpy; its errors and its updates."""

import numpy as np
import pytest
import torch

from fastgan import backend, backends
from fastgan.ops import spectral_norm, spectral_sigma
from fastgan.ops.spectral_norm.spec import SPEC

CPU = pytest.param("cpu", marks=pytest.mark.skipif(
    backends.missing("cpu") is not None, reason=str(backends.missing("cpu"))))  # fmt: skip
SHAPES = [(7, 5, 3, 3), (1, 40), (40, 1), (6, 33), (300, 900)]


def draw(shapes, generator, dims=None, dtype=torch.float64):
    """Weights, and unit vectors for their matrices."""
    dims = dims or [0] * len(shapes)
    weights = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    u, v = [], []
    for w, dim in zip(weights, dims, strict=True):
        for vectors, size in ((u, w.shape[dim]), (v, w.numel() // w.shape[dim])):
            x = torch.randn(size, generator=generator, dtype=torch.float64)
            vectors.append((x / x.norm()).to(dtype))
    return [w.to(dtype) for w in weights], u, v


def as_matrix(w, dim):
    return np.moveaxis(w.numpy(), dim, 0).reshape(w.shape[dim], -1)


def iterate(m, u, v, steps, v_first, eps=1e-12):
    """The power method in numpy."""
    for _ in range(steps):
        for side in ("v", "u") if v_first else ("u", "v"):
            x = m @ v if side == "u" else m.T @ u
            x = x / max(np.sqrt((x * x).sum()), eps)
            u, v = (x, v) if side == "u" else (u, x)
    return u, v, u @ m @ v


@pytest.mark.parametrize("name", [CPU, "reference"])
@pytest.mark.parametrize("v_first", [False, True])
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_weights_vectors_and_sigmas_are_those_of_numpy(name, v_first, steps, generator):
    shapes = [*SHAPES, (4, 6, 4, 4), (5, 7, 1), (20, 30), (3, 5, 2)]
    dims = [0] * len(SHAPES) + [1, 1, 1, 2]
    weights, u, v = draw(shapes, generator, dims)
    expected = [iterate(as_matrix(w, d), a.numpy().copy(), b.numpy().copy(), steps, v_first)
                for w, d, a, b in zip(weights, dims, u, v, strict=True)]  # fmt: skip
    with backend(name):
        normalised, sigmas = spectral_norm(weights, u, v, n_power_iterations=steps, dims=dims, v_first=v_first)
    for w, n, s, a, b, (left, right, sigma) in zip(weights, normalised, sigmas, u, v, expected, strict=True):
        np.testing.assert_allclose(a.numpy(), left, rtol=0, atol=1e-13)
        np.testing.assert_allclose(b.numpy(), right, rtol=0, atol=1e-13)
        np.testing.assert_allclose(s.item(), sigma, rtol=1e-11, atol=1e-13)
        np.testing.assert_allclose(n.numpy(), w.numpy() / s.item(), rtol=1e-14)


@pytest.mark.parametrize("v_first", [False, True])
def test_sigma_becomes_the_largest_singular_value(v_first, generator):
    weights, u, v = draw([(20, 8, 3, 3), (12, 30)], generator, dims=[1, 0])
    for w, dim in zip(weights, (1, 0), strict=True):  # a random matrix's two largest may be too close to converge
        left, values, right = np.linalg.svd(as_matrix(w, dim), full_matrices=False)
        values[0] = 1.1 * values[1]
        w.copy_(torch.from_numpy(left * values @ right).view(w.movedim(dim, 0).shape).movedim(0, dim))
    for _ in range(500):
        normalised, sigmas = spectral_norm(weights, u, v, dims=[1, 0], v_first=v_first)
    for w, n, sigma, dim in zip(weights, normalised, sigmas, (1, 0), strict=True):
        largest = np.linalg.svd(as_matrix(w, dim), compute_uv=False)[0]
        assert sigma.item() == pytest.approx(largest, rel=1e-6)
        assert np.linalg.svd(as_matrix(n, dim), compute_uv=False)[0] == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize("name", [CPU, "reference"])
def test_gradient_is_the_formula_and_vectors_are_constants(name, generator):
    weights, u, v = draw(SHAPES, generator)
    leaves = [w.clone().requires_grad_() for w in weights]
    g = [torch.randn(w.shape, generator=generator, dtype=torch.float64) for w in weights]
    gs = torch.randn(len(weights), generator=generator, dtype=torch.float64)
    with backend(name):
        normalised, sigmas = spectral_norm(leaves, u, v)
    found = torch.autograd.grad([*normalised, sigmas], leaves, [*g, gs])
    for w, a, b, cotangent, s, dw in zip(weights, u, v, g, gs, found, strict=True):
        m, G, left, right = as_matrix(w, 0), as_matrix(cotangent, 0), a.numpy(), b.numpy()
        sigma = left @ m @ right
        expected = G / sigma + (s.item() - (G * m).sum() / sigma**2) * np.outer(left, right)
        np.testing.assert_allclose(as_matrix(dw, 0), expected, rtol=1e-10, atol=1e-10 * np.abs(expected).max())


def test_outputs_that_nobody_uses_cost_no_gradient_of_zeros(generator):
    weights, u, v = draw([(4, 6), (5, 3)], generator)
    leaves = [w.requires_grad_() for w in weights]
    normalised, sigmas = spectral_norm(leaves, u, v)
    first = torch.autograd.grad(normalised[0].sum(), leaves, retain_graph=True, allow_unused=True)
    alone, _ = spectral_norm([leaves[0]], [u[0]], [v[0]], n_power_iterations=0)
    torch.testing.assert_close(first[0], torch.autograd.grad(alone[0].sum(), leaves[0])[0], rtol=1e-12, atol=1e-12)
    assert first[1] is None  # each has a graph of its own
    (of_sigma,) = torch.autograd.grad(sigmas[1], leaves[1])
    torch.testing.assert_close(of_sigma, torch.outer(u[1], v[1]))


def test_sigmas_alone_are_those_of_the_whole(generator):
    weights, u, v = draw(SHAPES, generator)
    leaves = [w.requires_grad_() for w in weights]
    copies = [x.clone() for x in u], [x.clone() for x in v]
    _, expected = spectral_norm(leaves, *copies)
    sigmas = spectral_sigma(leaves, u, v)
    assert torch.equal(sigmas, expected)
    weighted = torch.arange(1.0, len(SHAPES) + 1, dtype=torch.float64)
    for found, truth in zip(torch.autograd.grad((sigmas * weighted).sum(), leaves),
                            torch.autograd.grad((expected * weighted).sum(), leaves), strict=True):  # fmt: skip
        torch.testing.assert_close(found, truth)


@pytest.mark.parametrize("scale", [1e-12, 1e18, 1e25])
def test_weights_of_absurd_size_in_float32(scale, generator):
    """M'(M v) leaves the range of float32 long before M does."""
    weights, u, v = draw([(60, 500), (1, 9), (9, 1)], generator, dtype=torch.float32)
    weights = [w * scale for w in weights]
    wide = [w.double() for w in weights], [x.double() for x in u], [x.double() for x in v]
    with backend("reference"):
        expected, sigmas = spectral_norm(*wide)
    normalised, found = spectral_norm(weights, u, v)
    torch.testing.assert_close(found.double(), sigmas, rtol=3e-6, atol=0)
    for n, truth, a, left in zip(normalised, expected, u, wide[1], strict=True):
        torch.testing.assert_close(n.double(), truth, rtol=3e-6, atol=3e-6 * truth.abs().max().item())
        torch.testing.assert_close(a.double(), left, rtol=0, atol=3e-6 * left.abs().max().item())


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float16, torch.bfloat16], ids=["float32", "float16", "bfloat16"]
)
@pytest.mark.parametrize("v_first", [False, True])
def test_an_iteration_in_low_precision(dtype, v_first, generator):
    """u and v against the iteration in float64; then weights, sigmas and gradients against float64 with these u and v.

    A sum of n products in at least four lanes is off by at most (n / 4 + 8) units of float32 times the sum of their
    sizes; what it makes of a vector of norm one, by twice that over the norm of the product, and by its own rounding.
    """
    dims = [0, 0, 0, 0, 0, 1, 1]
    weights, u, v = draw([*SHAPES, (6, 5, 4, 4), (20, 33)], generator, dims, dtype)
    starts = [(a.double().numpy().copy(), b.double().numpy().copy()) for a, b in zip(u, v, strict=True)]
    leaves = [w.requires_grad_() for w in weights]
    normalised, sigmas = spectral_norm(leaves, u, v, dims=dims, v_first=v_first)
    g = [torch.randn(w.shape, generator=generator, dtype=torch.float64).to(dtype) for w in weights]
    gradients = torch.autograd.grad(normalised, leaves, g)
    eps, single = torch.finfo(dtype).eps, torch.finfo(torch.float32).eps
    for i, (w, dim, (left, right)) in enumerate(zip(weights, dims, starts, strict=True)):
        m = as_matrix(w.detach().double(), dim)
        exact_u, exact_v, _ = iterate(m, left, right, 1, v_first)
        sizes = np.linalg.norm(np.abs(m) @ np.abs(exact_v)) + np.linalg.norm(np.abs(m).T @ np.abs(exact_u))
        least = min(np.linalg.norm(m @ exact_v), np.linalg.norm(m.T @ exact_u), np.linalg.norm(m @ right))
        bound = 4 * (max(m.shape) / 4 + 8) * single * sizes / least + 2 * eps
        found_u, found_v = u[i].double().numpy(), v[i].double().numpy()
        assert np.linalg.norm(found_u - exact_u) <= bound
        assert np.linalg.norm(found_v - exact_v) <= bound
        sigma = found_u @ m @ found_v
        assert abs(sigmas[i].item() / sigma - 1) <= 16 * single + 2 * eps
        quotient, subnormal = w.detach().double() / sigmas[i].item(), torch.finfo(dtype).smallest_normal * eps
        np.testing.assert_allclose(normalised[i].detach().double(), quotient, rtol=2 * eps, atol=subnormal)
        G = as_matrix(g[i].double(), dim)
        exact = G / sigma - (G * m).sum() / sigma**2 * np.outer(found_u, found_v)
        error = as_matrix(gradients[i].double(), dim) - exact
        assert np.abs(error).max() <= (64 * single + 4 * eps) * (np.abs(G / sigma).max() + np.abs(exact).max())


def test_a_zero_weight_gives_what_pytorch_gives():
    u, v = torch.ones(3) / 3**0.5, torch.ones(4) / 2
    (normalised,), sigmas = spectral_norm([torch.zeros(3, 4)], [u], [v])
    assert sigmas.item() == 0
    assert normalised.isnan().all()  # 0 / 0
    assert u.abs().max() == 0
    assert v.abs().max() == 0


@pytest.mark.parametrize("arrange", [
    lambda w: w.to(memory_format=torch.channels_last), lambda w: w.transpose(0, 1).contiguous().transpose(0, 1),
    lambda w: w.transpose(1, 3).contiguous().transpose(1, 3), lambda w: torch.cat([w, w], 2)[:, :, : w.shape[2]],
], ids=["channels_last", "transposed", "permuted", "strided"])  # fmt: skip
@pytest.mark.parametrize("dim", [0, 1])
def test_memory_order_changes_nothing_but_the_order_of_the_result(arrange, dim, generator):
    (w,), u, v = draw([(6, 5, 3, 2)], generator, [dim])
    g = torch.randn(w.shape, generator=generator, dtype=torch.float64)
    runs = []
    for each in (w, arrange(w)):
        leaf = each.detach().clone(memory_format=torch.preserve_format).requires_grad_()
        left, right = [u[0].clone()], [v[0].clone()]
        (n,), sigma = spectral_norm([leaf], left, right, dims=dim)
        first = torch.autograd.grad(n, leaf, g, create_graph=True)[0]
        second = torch.autograd.grad(first.square().sum(), leaf)[0]
        runs.append([n, sigma, left[0], right[0], first, second])
        if torch.ops.aten.is_non_overlapping_and_dense.default(leaf):
            assert n.stride() == leaf.stride()
    for found, truth in zip(runs[1], runs[0], strict=True):
        torch.testing.assert_close(found, truth, rtol=1e-11, atol=1e-12)


def test_results_do_not_depend_on_the_number_of_threads(generator):
    before = torch.get_num_threads()
    runs = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            weights, u, v = draw(SHAPES, torch.Generator().manual_seed(3), dtype=torch.float32)
            leaves = [w.requires_grad_() for w in weights]
            normalised, sigmas = spectral_norm(leaves, u, v)
            runs.append(
                [*normalised, sigmas, *u, *v, *torch.autograd.grad(sum(n.sin().sum() for n in normalised), leaves)]
            )
    finally:
        torch.set_num_threads(before)
    for run in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(run, runs[0], strict=True))


def test_no_iteration_leaves_the_vectors_alone(generator):
    weights, u, v = draw(SHAPES, generator)
    versions = [x._version for x in (*u, *v)]
    spectral_norm(weights, u, v, n_power_iterations=0)
    assert [x._version for x in (*u, *v)] == versions


def test_no_weights_are_no_work():
    normalised, sigmas = spectral_norm([], [], [])
    assert normalised == []
    assert sigmas.shape == (0,)


@pytest.mark.parametrize(("change", "error", "message"), [
    (lambda a: a.update(u=a["u"][:1]), ValueError, "u has 1 entries, expected 2"),
    (lambda a: a.update(dims=[0]), ValueError, "dims has 1 entries, expected 2"),
    (lambda a: a.update(n_power_iterations=-1), ValueError, "n_power_iterations is -1"),
    (lambda a: a.update(n_power_iterations=1.5), ValueError, "n_power_iterations is 1.5"),
    (lambda a: a.update(eps=-1.0), ValueError, "eps is -1.0"),
    (lambda a: a.update(dims=[0, 2]), ValueError, r"dims\[1\] is 2"),
    (lambda a: a["weights"].__setitem__(1, None), TypeError, r"weights\[1\] is NoneType"),
    (lambda a: a["weights"].__setitem__(0, torch.zeros(3, 4).long()), TypeError, r"weights\[0\] is torch.int64"),
    (lambda a: a["weights"].__setitem__(1, torch.zeros(5)), ValueError, r"weights\[1\] has shape \[5\], expected two"),
    (lambda a: a["u"].__setitem__(0, a["u"][0].double()), TypeError, r"u\[0\] is torch.float64, expected"),
    (lambda a: a["v"].__setitem__(1, torch.zeros(4)), ValueError, r"v\[1\] has shape \[4\], expected \[7\]"),
    (lambda a: a["v"].__setitem__(1, torch.zeros(7, device="meta")), ValueError, r"v\[1\] is on meta, expected cpu"),
])  # fmt: skip
def test_bad_arguments_are_named(change, error, message):
    arguments = {"weights": [torch.ones(3, 4), torch.ones(2, 7)], "u": [torch.ones(3), torch.ones(2)],
                 "v": [torch.ones(4), torch.ones(7)]}  # fmt: skip
    change(arguments)
    with pytest.raises(error, match=message):
        spectral_norm(**arguments)


def test_the_registry_lists_it():
    assert set(SPEC.backends) == {"cpu", "cuda"}
