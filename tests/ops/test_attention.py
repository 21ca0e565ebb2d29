"""attention itself: the formulas as sums, any shape, memory, masks, far from the origin, what is computed."""

import math
import sys

import numpy as np
import pytest
import torch

import fastgan
from fastgan.ops import attention
from fastgan.ops.attention import backends as operators
from fastgan.ops.attention.reference import attention_reference
from tests.rotation import in_turn

pytestmark = pytest.mark.usefixtures("other_default_dtype")


def draw(*shape, dtype=torch.float64, **kwargs):
    return torch.randn(shape, dtype=dtype, **kwargs)


def by_sums(q, k, v, kind, scale, bias):
    """One head, term by term."""
    q, k, v, bias = (x.detach().numpy() for x in (q, k, v, bias))
    o = np.zeros((len(q), v.shape[1]))
    for i in range(len(q)):
        if kind == "dot":
            scores = [scale * sum(a * b for a, b in zip(q[i], key, strict=True)) for key in k]
        else:
            scores = [-scale * sum((a - b) ** 2 for a, b in zip(q[i], key, strict=True)) for key in k]
        weights = [math.exp(score + extra) for score, extra in zip(scores, bias[i], strict=True)]
        for weight, value in zip(weights, v, strict=True):
            o[i] += weight / sum(weights) * value
    return torch.from_numpy(o)


@pytest.mark.parametrize("kind", ["dot", "l2"])
@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_is_the_formula_of_the_paper(kind, backend, generator):
    q, k, v, bias = draw(4, 3), draw(6, 3), draw(6, 2), draw(4, 6)
    with fastgan.backend(backend):
        found = attention(q, k, v, kind=kind, scale=0.6, bias=bias)
        default = attention(q, k, v, kind=kind, bias=bias)
    torch.testing.assert_close(found, by_sums(q, k, v, kind, 0.6, bias))
    torch.testing.assert_close(default, by_sums(q, k, v, kind, 1 / math.sqrt(3), bias))


def textbook(q, k, v, bias=None, kind="dot", scale=None):
    """One softmax of scores by einsum, of differences for l2."""
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    if kind == "l2":
        scores = -scale * (q.unsqueeze(-2) - k.unsqueeze(-3)).square().sum(-1)
    else:
        scores = scale * torch.einsum("...id,...jd->...ij", q, k)
    weights = (scores if bias is None else scores + bias).exp()
    return torch.einsum("...ij,...je->...ie", weights / weights.sum(-1, keepdim=True), v)


def shapes_of(seed: int):
    """Random sizes around the tiles' edges, heads and how a bias is shared."""
    generator = torch.Generator().manual_seed(seed)

    def pick(*choices):
        return choices[torch.randint(len(choices), (), generator=generator)]

    batch = pick((), (2,), (2, 3), (1, 2, 2))
    N, M = pick(1, 7, 63, 64, 65, 130), pick(1, 5, 64, 66, 129, 200)
    d, e = pick(1, 3, 8, 16, 17, 33), pick(1, 2, 16, 31)
    own = tuple(pick(1, size) for size in batch)
    bias = pick(None, (*own, pick(1, N), pick(1, M)))
    return batch, N, M, d, e, bias, pick("dot", "l2")


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("case", in_turn(list(range(60)), "attention shapes", run=12))
def test_second_derivatives_of_any_shape_and_any_cotangents(case, generator, seed):
    batch, N, M, d, e, bias_shape, kind = shapes_of(seed + case)
    tensors = [draw(*batch, N, d), draw(*batch, M, d), draw(*batch, M, e)]
    tensors += [] if bias_shape is None else [draw(*bias_shape)]
    chosen = [i for i in range(len(tensors)) if torch.rand((), generator=generator) < 0.7] or [0]
    kept = [i for i in chosen if torch.rand((), generator=generator) < 0.7] or chosen[:1]
    w0, ws = draw(*batch, N, e), {i: torch.randn_like(tensors[i]) for i in kept}

    def run(function):
        inputs = [x.clone().requires_grad_(i in chosen) for i, x in enumerate(tensors)]
        g = w0.clone().requires_grad_()
        bias = inputs[3] if len(inputs) == 4 else None
        o = function(*inputs[:3], bias=bias, kind=kind)
        wanted = [inputs[i] for i in chosen]
        first = torch.autograd.grad(o, wanted, g, create_graph=True)
        of_first = sum((first[chosen.index(i)] * w).sum() for i, w in ws.items())
        second = torch.autograd.grad(of_first, [g, *wanted], allow_unused=True, materialize_grads=True)
        return [o, *first, *second]

    for found, expected in zip(run(attention), run(textbook), strict=True):
        assert (found - expected).abs().max() <= 1e-12 * max(expected.abs().max(), 1), (batch, N, M, d, e, bias_shape)


def test_only_what_is_wanted_is_computed(generator, monkeypatch):
    asked = []
    original = operators.attention_grad
    monkeypatch.setattr(operators, "attention_grad", lambda *args: asked.append(args[-2]) or original(*args))
    q, k, v = (draw(5, 3, requires_grad=True) for _ in range(3))
    o = attention(q, k, v, bias=draw(5, 5))
    torch.autograd.grad(o.sum(), [k], retain_graph=True)
    o.sum().backward(inputs=[q, v])
    assert asked == [[False, True, False, False], [True, False, True, False]]


def peak_of(function):
    """The largest sum of what is allocated at once by PyTorch, in bytes."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as trace:
        function()
    held = largest = 0
    for event in trace.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            largest = max(largest, held)
    return largest


def test_memory_is_linear(generator):
    """Of what PyTorch allocates; the kernels' own scratch is at most 8 shares of the queries' gradient."""
    N, d = 1024, 8
    q, k, v = (draw(N, d, dtype=torch.float32, requires_grad=True) for _ in range(3))

    def twice(function):
        first = torch.autograd.grad(function(q, k, v).square().sum(), (q, k, v), create_graph=True)
        torch.autograd.grad(sum(g.square().sum() for g in first), (q, k, v))

    matrix = 4 * N * N
    for kind in ("dot", "l2"):
        assert peak_of(lambda kind=kind: twice(lambda *x: attention(*x, kind=kind))) < matrix / 3
    assert peak_of(lambda: twice(attention_reference)) > 3 * matrix


def test_a_masked_query_gives_zero_and_no_gradient(generator):
    q, k, v = draw(3, 4, requires_grad=True), draw(5, 4, requires_grad=True), draw(5, 2, requires_grad=True)
    bias = torch.zeros(3, 5, dtype=torch.float64)
    bias[1] = -math.inf
    bias.requires_grad_()
    o = attention(q, k, v, bias=bias)
    assert torch.equal(o[1], torch.zeros(2, dtype=torch.float64))
    inputs = (q, k, v, bias)
    first = torch.autograd.grad(o.square().sum(), inputs, create_graph=True)
    second = torch.autograd.grad(sum(g.square().sum() for g in first), inputs)
    for gradients in (first, second):
        assert all(g.isfinite().all() for g in gradients)
        assert not gradients[0][1].any()
        assert not gradients[3][1].any()
    sdpa = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias.detach())
    torch.testing.assert_close(o, sdpa)


def test_a_repeated_mask_is_not_copied(generator, monkeypatch):
    seen = []
    original = operators.attention
    monkeypatch.setattr(operators, "attention", lambda *args: seen.append(args[3].shape) or original(*args))
    q, mask = draw(4, 3, 8, 2), torch.zeros(1, 1, 1, 8, dtype=torch.float64)
    attention(q, q, q, bias=mask.expand(4, 3, 8, 8))
    assert seen == [(1, 1, 1, 8)]
    grown = mask.clone().requires_grad_()
    attention(q, q, q, bias=grown.expand(4, 3, 8, 8)).sum().backward()
    assert grown.grad.shape == mask.shape


def test_l2_loses_no_digits_far_from_the_origin(generator):
    """At a distance of 1000 the squares of float32 are off by 0.06, the differences by 1e-4."""
    q, k, v = (draw(40, 8, dtype=torch.float32) for _ in range(3))
    q, k = q + 1000, k + 1000
    exact = textbook(q.double(), k.double(), v.double(), kind="l2")
    near = (attention(q, k, v, kind="l2").double() - exact).abs().max()
    assert near < 1e-4
    squares = q.square().sum(-1, keepdim=True) + k.square().sum(-1) - 2 * q @ k.T
    expanded = (-squares / math.sqrt(8)).softmax(-1) @ v
    assert (expanded.double() - exact).abs().max() > 10 * near


def test_half_precision_sums_in_float32(generator):
    q, k, v = (draw(300, 16, dtype=torch.bfloat16) for _ in range(3))
    exact = attention_reference(q.double(), k.double(), v.double())
    assert (attention(q, k, v).double() - exact).abs().max() <= 2**-8 * exact.abs().max()


def test_wide_heads_are_refused_by_the_gpus_kernels(generator, monkeypatch):
    module = sys.modules["fastgan.ops.attention"]
    q, v = draw(3, 2), draw(3, 257)
    expected = attention(q, q, v)
    monkeypatch.setattr(module, "select", lambda op, x: "triton")
    torch.testing.assert_close(attention(q, q, v), expected)
    monkeypatch.setattr(module, "wanted", lambda: "triton")
    with pytest.raises(fastgan.BackendError, match="at most 256 features, not 257"):
        attention(q, q, v)


def test_a_third_derivative_says_what_has_one():
    q, k, v = (draw(3, 2, requires_grad=True) for _ in range(3))
    value = attention(q, k, v).square().sum()
    for _ in range(2):
        value = sum(g.square().sum() for g in torch.autograd.grad(value, (q, k, v), create_graph=True))
    with pytest.raises(RuntimeError, match=r"no third derivative.*reference"):
        torch.autograd.grad(value, (q, k, v))


@pytest.mark.parametrize(("arguments", "options", "error", "message"), [
    ((draw(3, 2), draw(4, 2).int(), draw(4, 2)), {}, TypeError, "k is torch.int32, expected a floating-point tensor"),
    ((draw(3, 2), draw(4, 2), draw(4, 2).float()), {}, TypeError, "v is torch.float32, expected torch.float64"),
    ((draw(2), draw(4, 2), draw(4, 2)), {}, ValueError, r"q has shape \[2\], expected \[..., length, features\]"),
    ((draw(3, 0), draw(4, 0), draw(4, 2)), {}, ValueError, r"q has shape \[3, 0\], expected at least one feature"),
    ((draw(3, 2), draw(4, 3), draw(4, 2)), {}, ValueError, r"k has shape \[4, 3\], expected \[..., 2\] like q"),
    ((draw(3, 2), draw(4, 2), draw(5, 2)), {}, ValueError, r"v has shape \[5, 2\], expected \[..., 4, features\]"),
    ((draw(2, 3, 2), draw(3, 4, 2), draw(4, 2)), {}, ValueError, "leading dimensions do not broadcast"),
    ((draw(3, 2), draw(4, 2), draw(4, 2)), {"kind": "cosine"}, ValueError, "kind is 'cosine', expected one of dot, l2"),
    ((draw(3, 2), draw(4, 2), draw(4, 2)), {"scale": math.inf}, ValueError, "scale is inf, expected a finite number"),
    ((draw(3, 2), draw(4, 2), draw(4, 2)), {"bias": draw(3, 4) > 0}, TypeError, "bias is torch.bool, expected a float"),
    ((draw(3, 2), draw(4, 2), draw(4, 2)), {"bias": draw(4, 3)}, ValueError, r"one that broadcasts to \[3, 4\]"),
])  # fmt: skip
def test_bad_arguments_are_named(arguments, options, error, message):
    with pytest.raises(error, match="attention: .*" + message):
        attention(*arguments, **options)
