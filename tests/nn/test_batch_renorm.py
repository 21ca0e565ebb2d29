"""Batch renormalisation against the paper's algorithm in numpy, and against torch's batch norm where they coincide."""

import copy
import re

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fastgan.nn import BatchRenorm1d, BatchRenorm2d

SHAPES = [(7, 3), (5, 3, 4), (4, 3, 5, 6)]
KINDS = {2: BatchRenorm1d, 3: BatchRenorm1d, 4: BatchRenorm2d}


def by_hand(x, m, s, r_max, d_max, weight, bias, eps):
    """Algorithm 1 of the paper, channel by channel: (y, batch mean, batch standard deviation, r, d)."""
    y, means, stds, rs, ds = np.empty_like(x), [], [], [], []
    for c in range(x.shape[1]):
        values = x[:, c]
        mean = values.sum() / values.size
        std = np.sqrt(eps + ((values - mean) ** 2).sum() / values.size)
        r = max(1 / r_max, min(r_max, std / s[c]))
        d = max(-d_max, min(d_max, (mean - m[c]) / s[c]))
        y[:, c] = weight[c] * ((values - mean) / std * r + d) + bias[c]
        means.append(mean), stds.append(std), rs.append(r), ds.append(d)
    return y, np.array(means), np.array(stds), np.array(rs), np.array(ds)


def random_layer(dims, steps=0, **arguments):
    layer = KINDS[dims](3, **arguments).double()
    with torch.no_grad():
        layer.weight.normal_()
        layer.bias.normal_()
        layer.running_mean.normal_()
        layer.running_std.uniform_(0.5, 2.0)
        layer.num_batches_tracked.fill_(steps)
    return layer


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("steps", [0, 7_000, 12_000, 60_000])
def test_three_steps_of_the_algorithm(shape, steps, generator):
    layer = random_layer(len(shape), steps, eps=0.01, momentum=0.2)
    w, b = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    m, s = layer.running_mean.numpy().copy(), layer.running_std.numpy().copy()
    ones = [1] * (len(shape) - 2)
    for k in range(3):
        x = torch.randn(shape, dtype=torch.float64) * 3 + torch.randn(1, 3, *ones, dtype=torch.float64) * 9
        step = steps + k
        # The paper's: 1 and 0 to step 5,000, then to 3 at step 40,000 and to 5 at step 25,000.
        r_max = min(3, max(1, 1 + 2 * (step - 5_000) / 35_000))
        d_max = min(5, max(0, 5 * (step - 5_000) / 20_000))
        expected, mean, std, _, _ = by_hand(x.numpy(), m, s, r_max, d_max, w, b, 0.01)
        # The limits are float32.
        np.testing.assert_allclose(layer(x).detach().numpy(), expected, rtol=1e-5, atol=1e-5)
        m, s = m + 0.2 * (mean - m), s + 0.2 * (std - s)
        np.testing.assert_allclose(layer.running_mean.numpy(), m, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(layer.running_std.numpy(), s, rtol=1e-12, atol=1e-12)
    assert layer.num_batches_tracked == steps + 3


def test_the_schedule():
    layer = BatchRenorm2d(3)
    for step, r_max, d_max in ((0, 1, 0), (5_000, 1, 0), (15_000, 1 + 2 * 10 / 35, 2.5), (25_000, 1 + 2 * 20 / 35, 5),
                               (40_000, 3, 5), (10**7, 3, 5)):  # fmt: skip
        layer.num_batches_tracked.fill_(step)
        assert [limit.item() for limit in layer.limits()] == pytest.approx([r_max, d_max], rel=1e-6)
    other = BatchRenorm2d(3, r_max=2, d_max=1, warmup=10, r_steps=4, d_steps=2)
    other.num_batches_tracked.fill_(11)
    assert [limit.item() for limit in other.limits()] == [1.25, 0.5]


@pytest.mark.parametrize("shape", SHAPES)
def test_during_warmup_it_is_batch_norm(shape, generator):
    """Outputs and all gradients, to the second derivative."""
    layer = random_layer(len(shape))
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    direction = torch.randn(shape, dtype=torch.float64)
    ours = layer(x)
    theirs = F.batch_norm(x, None, None, layer.weight, layer.bias, training=True, eps=layer.eps)

    def derivatives(y):
        first = torch.autograd.grad((y * direction).sum(), (x, layer.weight, layer.bias), create_graph=True)
        return *first, *torch.autograd.grad(first[0].square().sum(), (x, layer.weight))

    for a, b in zip((ours, *derivatives(ours)), (theirs, *derivatives(theirs)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_evaluation_is_batch_norms_with_the_moving_averages(shape, generator):
    layer = random_layer(len(shape), eps=0.01).eval()
    x = torch.randn(shape, dtype=torch.float64)
    before = copy.deepcopy(layer.state_dict())
    var = layer.running_std.square() - 0.01
    expected = F.batch_norm(x, layer.running_mean, var, layer.weight, layer.bias, eps=0.01)
    torch.testing.assert_close(layer(x), expected, rtol=1e-10, atol=1e-12)
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())


@pytest.mark.parametrize("shape", SHAPES)
def test_within_the_limits_training_computes_what_evaluation_does(shape, generator):
    layer = random_layer(len(shape), 10**6, r_max=1e6, d_max=1e6)
    x = torch.randn(shape, dtype=torch.float64)
    in_evaluation = copy.deepcopy(layer).eval()(x)
    torch.testing.assert_close(layer(x), in_evaluation, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("r_max", "d_max"), [(1.0, 0.25), (100.0, 100.0)], ids=["at the limits", "within"])
def test_no_gradient_through_r_and_d(shape, r_max, d_max, generator):
    """The derivatives are those of the formula with r and d as numbers, which gradcheck confirms of the formula."""
    layer = random_layer(len(shape), 10**6, r_max=r_max, d_max=d_max)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    buffers = copy.deepcopy(dict(layer.named_buffers()))
    m, s = buffers["running_mean"].numpy(), buffers["running_std"].numpy()
    limits = [limit.item() for limit in layer.limits()]
    *_, r, d = by_hand(x.detach().numpy(), m, s, *limits, np.ones(3), np.zeros(3), layer.eps)
    r, d = (torch.from_numpy(t).view(3, *[1] * (x.ndim - 2)) for t in (r, d))

    def formula(x, weight, bias):
        dims = [0, *range(2, x.ndim)]
        mean = x.mean(dims, keepdim=True)
        std = ((x - mean).square().mean(dims, keepdim=True) + layer.eps).sqrt()
        weight, bias = (t.view(3, *[1] * (x.ndim - 2)) for t in (weight, bias))
        return weight * ((x - mean) / std * r + d) + bias

    arguments = x, layer.weight, layer.bias
    direction = torch.randn(shape, dtype=torch.float64)

    def derivatives(y):
        first = torch.autograd.grad((y * direction).sum(), arguments, create_graph=True)
        penalty = first[0].square().sum() + first[1].square().sum()
        return y, *first, *torch.autograd.grad(penalty, (x, layer.weight))

    for a, b in zip(derivatives(layer(x)), derivatives(formula(*arguments)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("shape", SHAPES)
def test_gradcheck_where_the_limits_hold(shape, generator):
    """At the limits r and d do not move with x, so that finite differences see the same constants."""
    layer = random_layer(len(shape), 10**6, r_max=1.0, d_max=2.0**-20, momentum=0.0)

    def y(x, weight, bias):
        return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, (x,))

    x = torch.randn(2, *shape[1:], dtype=torch.float64, requires_grad=True)
    if x.ndim == 2:  # two values of a channel may lie close together, where 1 / s_B bends too fast for differences
        x = torch.tensor([[-1.0, 0.5, 2.0], [1.0, 2.0, 0.3], [0.2, -1.0, 1.1]], dtype=torch.float64, requires_grad=True)
    layer.eps = 0.1
    assert torch.autograd.gradcheck(y, (x, layer.weight, layer.bias))
    assert torch.autograd.gradgradcheck(y, (x, layer.weight, layer.bias))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype, generator):
    layer = BatchRenorm2d(3, warmup=0, r_steps=1, d_steps=1)
    layer.running_mean.fill_(7.0)
    layer.num_batches_tracked.fill_(5)
    single = copy.deepcopy(layer)
    x = (torch.randn(8, 3, 16, 16) + 8).to(dtype)
    y, exact = layer(x), single(x.float())
    assert y.dtype == dtype
    torch.testing.assert_close(layer.running_mean, single.running_mean, rtol=1e-6, atol=0)
    torch.testing.assert_close(layer.running_std, single.running_std, rtol=1e-6, atol=0)
    # The result's own rounding; torch's CPU kernel folds mean and variance into one product and sum in float32.
    allowed = torch.finfo(dtype).eps * exact.abs() + 1e-5
    assert ((y.float() - exact).abs() <= allowed).all()
    layer.eval()
    assert layer(x).dtype == dtype


@pytest.mark.parametrize("std", [300.0, 1e-3])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_evaluation_of_a_layer_in_half_precision(dtype, std, generator):
    """The square of 256 is no number of float16."""
    layer = BatchRenorm2d(3).eval()
    layer.running_std.fill_(std)
    layer.running_mean.fill_(2.0 * std)
    x = (std * torch.randn(4, 3, 5, 5, generator=generator)).to(dtype)
    y = copy.deepcopy(layer).to(dtype)(x)
    exact = layer.to(dtype).float()(x.float())
    assert y.dtype == dtype
    torch.testing.assert_close(y.float(), exact, rtol=torch.finfo(dtype).eps, atol=1e-6)


def test_without_weight_and_bias(generator):
    layer = BatchRenorm1d(3, affine=False).double()
    x = torch.randn(6, 3, dtype=torch.float64)
    torch.testing.assert_close(layer(x), F.batch_norm(x, None, None, training=True))
    assert list(layer.parameters()) == []
    assert sorted(layer.state_dict()) == ["num_batches_tracked", "running_mean", "running_std"]


def test_an_empty_batch_changes_nothing():
    layer = BatchRenorm2d(3)
    assert layer(torch.zeros(0, 3, 4, 4)).shape == (0, 3, 4, 4)
    assert layer.num_batches_tracked == 0
    assert (layer.running_mean == 0).all()


def test_one_value_per_channel_changes_nothing():
    layer = BatchRenorm1d(3)
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        layer(torch.zeros(1, 3))
    assert layer.num_batches_tracked == 0
    assert layer.eval()(torch.zeros(1, 3)).shape == (1, 3)


def test_compiles_in_one_graph(generator):
    layer = BatchRenorm2d(3, warmup=0)
    again = copy.deepcopy(layer)
    x = torch.randn(4, 3, 5, 5)
    torch.testing.assert_close(torch.compile(layer, backend="aot_eager", fullgraph=True)(x), again(x))
    torch.testing.assert_close(layer.running_std, again.running_std)


@pytest.mark.parametrize(("change", "message"), [
    ({"num_features": 0}, "num_features is 0, expected an integer of at least 1"),
    ({"eps": 0}, "eps is 0, expected a finite number > 0"),
    ({"momentum": -0.1}, "momentum is -0.1, expected a finite number >= 0"),
    ({"momentum": 1.5}, "momentum is 1.5, expected a number from 0 to 1"),
    ({"r_max": 0.5}, "r_max is 0.5, expected a finite number >= 1"),
    ({"d_max": -1}, "d_max is -1, expected a finite number >= 0"),
    ({"warmup": -1}, "warmup is -1, expected a finite number >= 0"),
    ({"r_steps": 0}, "r_steps is 0, expected an integer of at least 1"),
    ({"d_steps": 0}, "d_steps is 0, expected an integer of at least 1"),
])  # fmt: skip
@pytest.mark.parametrize("kind", [BatchRenorm1d, BatchRenorm2d])
def test_arguments(kind, change, message):
    with pytest.raises(ValueError, match=re.escape(f"{kind.__name__}: {message}")):
        kind(**{"num_features": 3, **change})


def test_inputs():
    flat, image = BatchRenorm1d(3), BatchRenorm2d(3)
    for layer, shape, expected in (
        (flat, (2, 4), "[batch, 3] or [batch, 3, length]"),
        (flat, (2, 3, 4, 4), "[batch, 3] or [batch, 3, length]"),
        (image, (2, 3), "[batch, 3, height, width]"),
        (image, (2, 4, 3, 3), "[batch, 3, height, width]"),
    ):
        with pytest.raises(ValueError, match=re.escape(f"x has shape {list(shape)}, expected {expected}")):
            layer(torch.zeros(shape))
    with pytest.raises(TypeError, match=re.escape("x is torch.int64, expected a floating-point tensor")):
        flat(torch.zeros(2, 3, dtype=torch.long))
