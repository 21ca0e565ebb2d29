"""bias_act: its formula written again in numpy, its arguments' errors, and what it keeps of memory order and memory."""

import math

import numpy as np
import pytest
import torch

from fastgan import backend
from fastgan.ops import bias_act
from fastgan.ops._common.activations import ACTIVATIONS

NUMPY = {
    "linear": (lambda z: z, 1.0),
    "relu": (lambda z: np.maximum(z, 0), math.sqrt(2)),
    "lrelu": (lambda z: np.where(z > 0, z, 0.2 * z), math.sqrt(2)),
    "tanh": (np.tanh, 1.0),
    "sigmoid": (lambda z: 1 / (1 + np.exp(-z)), 1.0),
    "elu": (lambda z: np.where(z > 0, z, np.exp(np.minimum(z, 0)) - 1), 1.0),
    "selu": (
        lambda z: 1.0507009873554805 * np.where(z > 0, z, 1.6732632423543772 * (np.exp(np.minimum(z, 0)) - 1)),
        1.0,
    ),
    "softplus": (lambda z: np.log1p(np.exp(z)), 1.0),
    "swish": (lambda z: z / (1 + np.exp(-z)), math.sqrt(2)),
}


@pytest.mark.parametrize("act", sorted(ACTIVATIONS))
@pytest.mark.parametrize("name", ["reference", "cpu"])
def test_is_the_formula_with_stylegans_defaults(name, act, generator):
    x = torch.randn(3, 5, 7, generator=generator, dtype=torch.float64)
    b = torch.randn(5, generator=generator, dtype=torch.float64)
    function, gain = NUMPY[act]
    expected = gain * function(x.numpy() + b.numpy()[None, :, None])
    with backend(name):
        np.testing.assert_allclose(bias_act(x, b, act=act), expected, rtol=1e-12, atol=1e-15)
        clamped = bias_act(x, b, act=act, gain=3, clamp=0.5)
    np.testing.assert_allclose(clamped, np.clip(expected / gain * 3, -0.5, 0.5), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("format", [torch.contiguous_format, torch.channels_last])
def test_keeps_the_memory_format(format, generator):
    x = torch.randn(2, 4, 5, 3, generator=generator).to(memory_format=format).requires_grad_()
    b = torch.randn(4, generator=generator)
    y = bias_act(x, b, act="lrelu")
    assert y.is_contiguous(memory_format=format)
    (dx,) = torch.autograd.grad(y, x, torch.randn(y.shape, generator=generator))
    assert dx.is_contiguous(memory_format=format)


@pytest.mark.parametrize("act", ["linear", "relu", "lrelu"])
def test_piecewise_linear_activations_give_no_second_derivative_to_x(act):
    """None, not zeros: zeros would drag a whole backward pass through the network below."""
    x = torch.randn(2, 3, requires_grad=True)
    b = torch.zeros(3, requires_grad=True)
    weight = torch.ones(2, 3, requires_grad=True)
    dx, db = torch.autograd.grad(bias_act(x, b, act=act), [x, b], weight, create_graph=True)
    penalty = dx.square().sum() + db.square().sum()
    grads = torch.autograd.grad(penalty, [x, b, weight], allow_unused=True)
    assert grads[0] is None
    assert grads[1] is None
    assert grads[2] is not None


@pytest.mark.parametrize("act", sorted(ACTIVATIONS))
def test_saves_one_tensor_of_the_size_of_the_activations_at_most(act):
    saved = []
    x, b = torch.randn(4, 3, 5, requires_grad=True), torch.zeros(3, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.numel()) or t, lambda t: t):
        bias_act(x, b, act=act)
    assert sum(n for n in saved if n > 3) <= x.numel()


def test_the_bias_may_have_another_dtype_as_under_autocast():
    x = torch.randn(2, 3, 4).bfloat16()
    b = torch.randn(3, requires_grad=True)
    y = bias_act(x, b, act="lrelu")
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()
    assert b.grad.dtype == torch.float32


def test_a_bias_gradient_over_a_million_elements_keeps_its_accuracy():
    x = torch.full((4, 1, 512, 512), 1.0, requires_grad=True)
    b = torch.zeros(1, requires_grad=True)
    (db,) = torch.autograd.grad(bias_act(x, b, gain=0.1), b, torch.ones_like(x))
    assert db.item() == pytest.approx(0.1 * x.numel(), rel=1e-7)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"x": [1.0]}, TypeError, "x is list, expected a floating-point tensor"),
        ({"x": torch.arange(3)}, TypeError, "x is torch.int64"),
        ({"x": torch.tensor(1.0)}, ValueError, "x has no dimensions"),
        ({"b": torch.arange(3)}, TypeError, "b is torch.int64"),
        ({"b": torch.zeros(4)}, ValueError, r"b has shape \[4\], expected \[3\]"),
        ({"b": torch.zeros(3, 1)}, ValueError, r"b has shape \[3, 1\]"),
        ({"dim": 2}, ValueError, "dim is 2, expected a dimension of x, which has 2"),
        ({"act": "gelu"}, ValueError, "act is 'gelu', expected one of linear, relu"),
        ({"act": "tanh", "alpha": 0.2}, ValueError, "alpha is 0.2, but tanh has no parameter"),
        ({"act": "lrelu", "alpha": -0.1}, ValueError, "alpha is -0.1, expected a slope >= 0"),
        ({"clamp": -1.0}, ValueError, "clamp is -1.0, expected a bound >= 0 or None"),
        ({"clamp": float("nan")}, ValueError, "clamp is nan"),
    ],
)
def test_bad_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        bias_act(**{"x": torch.zeros(2, 3), **arguments})
