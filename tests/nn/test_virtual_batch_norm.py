"""Virtual batch normalisation against the authors' formula in numpy, and its way through a network."""

import copy
import re

import numpy as np
import pytest
import torch
from torch import nn

from fastgan.nn import VirtualBatchNorm, reference_batch, set_reference_batch

SHAPES = [(7, 3), (5, 3, 4), (4, 3, 5, 6), (3, 3, 2, 4, 2)]


def by_hand(x, reference, weight, bias, eps):
    """One sample at a time, by means of squares as the authors have it: float64."""
    n = len(reference)
    everywhere = (0, *range(2, x.ndim))
    mean, square = reference.mean(everywhere), (reference**2).mean(everywhere)
    result = np.empty_like(x)
    for i, sample in enumerate(x):
        own = sample.reshape(len(sample), -1)
        m = n / (n + 1) * mean + own.mean(1) / (n + 1)
        v = n / (n + 1) * square + (own**2).mean(1) / (n + 1) - m**2
        y = (own - m[:, None]) / np.sqrt(v + eps)[:, None] * weight[:, None] + bias[:, None]
        result[i] = y.reshape(sample.shape)
    return result


def layer_with(reference, **arguments):
    layer = VirtualBatchNorm(reference.shape[1], **arguments).to(reference.dtype)
    if layer.affine:
        nn.init.normal_(layer.weight)
        nn.init.normal_(layer.bias)
    set_reference_batch(layer, reference)
    return layer


def inputs(shape, n=6, scale=2.0, shift=1.5, dtype=torch.float64):
    reference = torch.randn(n, *shape[1:], dtype=torch.float64) * scale + shift
    return (torch.randn(shape, dtype=torch.float64) * 0.7 - 0.3).to(dtype), reference.to(dtype)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n", [2, 6])
def test_reference_and_sample_are_one_batch(shape, n, generator):
    x, reference = inputs(shape, n)
    layer = layer_with(reference, eps=0.01)
    w, b = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    expected = by_hand(x.numpy(), reference.numpy(), w, b, 0.01)
    np.testing.assert_allclose(layer(x).detach().numpy(), expected, rtol=1e-10, atol=1e-12)
    # Said otherwise: batch norm of the reference batch and the sample together, of which the last is kept.
    for i in range(len(x)):
        together = torch.cat([reference, x[i : i + 1]])
        y = nn.functional.batch_norm(together, None, None, layer.weight, layer.bias, training=True, eps=0.01)
        torch.testing.assert_close(layer(x)[i], y[-1], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_sample_does_not_depend_on_its_batch_nor_on_the_mode(shape, generator):
    x, reference = inputs(shape)
    layer = layer_with(reference)
    whole = layer(x)
    torch.testing.assert_close(layer(x[1:2]), whole[1:2], rtol=1e-12, atol=1e-12)
    assert torch.equal(layer.eval()(x), whole)
    assert layer(x[:0]).shape == x[:0].shape


def test_the_reference_batch_is_normalised_by_itself(generator):
    _, reference = inputs(SHAPES[2])
    layer, found = VirtualBatchNorm(3).double(), []
    network = nn.Sequential(layer)
    layer.register_forward_hook(lambda module, given, y: found.append(y))
    set_reference_batch(network, reference)
    expected = nn.functional.batch_norm(reference, None, None, training=True)
    torch.testing.assert_close(found[0], expected)
    torch.testing.assert_close(layer.reference_mean, reference.mean((0, 2, 3)))
    torch.testing.assert_close(layer.reference_var, reference.var((0, 2, 3), correction=0))
    assert layer.reference_size == 6


@pytest.mark.parametrize("shape", SHAPES)
def test_derivatives(shape, generator):
    x, reference = inputs((2, *shape[1:]), 3)
    layer = layer_with(reference, eps=0.1)

    def y(x, weight, bias):
        return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, (x,))

    arguments = x.requires_grad_(), layer.weight, layer.bias
    assert torch.autograd.gradcheck(y, arguments)
    assert torch.autograd.gradgradcheck(y, arguments)


def network_of_two():
    layers = nn.Linear(4, 5), VirtualBatchNorm(5), nn.Tanh(), nn.Unflatten(1, (5, 1)), nn.Conv1d(5, 2, 1)
    return nn.Sequential(*layers, VirtualBatchNorm(2, affine=False)).double()


def test_each_layer_of_a_network_sees_the_normalised_reference(generator):
    network = network_of_two()
    reference, x = torch.randn(2, 8, 4, dtype=torch.float64)
    set_reference_batch(network, reference)
    h = network[0](reference)
    torch.testing.assert_close(network[1].reference_mean, h.mean(0).detach())
    h = network[2:5](nn.functional.batch_norm(h, None, None, training=True))
    torch.testing.assert_close(network[5].reference_mean, h.mean((0, 2)).detach())
    torch.testing.assert_close(network[5].reference_var, h.var((0, 2), correction=0).detach())
    assert not network[5].reference_mean.requires_grad
    assert network(x).shape == (8, 2, 1)


def test_inside_reference_batch_gradients_flow_through_the_statistics(generator):
    """Against the same network written down with batch norms over reference and sample together, one at a time."""
    network = network_of_two()
    reference, x = torch.randn(2, 3, 4, dtype=torch.float64)
    target = torch.randn(3, 2, 1, dtype=torch.float64)

    def plainly():
        hs, weight, bias = network[0](reference), network[1].weight, network[1].bias
        first = nn.functional.batch_norm(hs, None, None, weight, bias, training=True)
        second = network[2:5](first)
        results = []
        for sample in x:
            h = torch.cat([hs, network[0](sample[None])])
            h = nn.functional.batch_norm(h, None, None, weight, bias, training=True)[-1:]
            h = torch.cat([second, network[2:5](h)])
            results.append(nn.functional.batch_norm(h, None, None, training=True)[-1])
        return torch.stack(results)

    parameters = list(network.parameters())
    with reference_batch(network, reference):
        y = network(x)
    found = torch.autograd.grad((y * target).sum(), parameters)
    expected = torch.autograd.grad((plainly() * target).sum(), parameters)
    torch.testing.assert_close(y, plainly(), rtol=1e-9, atol=1e-10)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-8)
    # The statistics stay, as constants; the values are the same.
    torch.testing.assert_close(network(x), y, rtol=1e-9, atol=1e-10)
    constant = torch.autograd.grad((network(x) * target).sum(), parameters)
    assert not torch.allclose(constant[0], found[0], rtol=1e-3)


def test_with_gradients_the_length_of_a_weight_does_not_matter(generator):
    """And so the gradient has no part along the weight; with constant statistics it has."""
    network = nn.Sequential(nn.Linear(4, 5, bias=False), VirtualBatchNorm(5, eps=1e-30, affine=False)).double()
    reference, x = torch.randn(2, 6, 4, dtype=torch.float64)
    weight = network[0].weight

    def along(y):
        (g,) = torch.autograd.grad(y.square().sum(), weight)
        return (g * weight).sum(1).abs().max().item(), g.abs().max().item()

    with reference_batch(network, reference):
        radial, size = along(network(x))
    assert radial < 1e-10 * size
    radial, size = along(network(x))
    assert radial > 1e-3 * size


def test_statistics_are_in_the_state_dict(generator):
    network = network_of_two()
    reference, x = torch.randn(2, 8, 4, dtype=torch.float64)
    set_reference_batch(network, reference)
    fresh = network_of_two()
    fresh.load_state_dict(network.state_dict())
    assert torch.equal(fresh(x), network(x))
    copied = copy.deepcopy(network)
    assert torch.equal(copied(x), network(x))


def test_a_copy_of_the_buffers_alone_is_enough(generator):
    """As the moving average of a generator is made: its copy never sees a reference batch."""
    network = network_of_two()
    averaged = copy.deepcopy(network)
    reference, x = torch.randn(2, 8, 4, dtype=torch.float64)
    set_reference_batch(network, reference)
    for ours, theirs in zip(averaged.buffers(), network.buffers(), strict=True):
        ours.copy_(theirs)
    assert torch.equal(averaged(x), network(x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype, generator):
    """Means of 4,096 numbers near 8: in bfloat16 they would be off by percents."""
    x, reference = inputs((3, 3, 32, 32), 4, scale=1.0, shift=8.0, dtype=dtype)
    x = x + 8
    layer = VirtualBatchNorm(3)
    set_reference_batch(layer, reference)
    y = layer(x)
    assert y.dtype == dtype
    exact = by_hand(x.double().numpy(), reference.double().numpy(), np.ones(3), np.zeros(3), 1e-5)
    # The result's own rounding, and float32's of x - m, whose terms are near 8.
    allowed = torch.finfo(dtype).eps * np.abs(exact) + 1e-5
    assert (np.abs(y.detach().double().numpy() - exact) <= allowed).all()


def test_large_means_do_not_cancel(generator):
    """The mean of squares minus the square of the mean would leave nothing of a variance of 1 beside 1e8 in float32."""
    x, reference = inputs((4, 2, 8, 8), 6, scale=1.0, shift=1e4, dtype=torch.float32)
    x = x + 1e4
    layer = VirtualBatchNorm(2)
    set_reference_batch(layer, reference)
    exact = by_hand(x.double().numpy(), reference.double().numpy(), np.ones(2), np.zeros(2), 1e-5)
    # x - m is a difference of numbers of 1e4, each right to 1e4 * 2^-24 and a few roundings more.
    np.testing.assert_allclose(layer(x).detach().numpy(), exact, rtol=1e-3, atol=20 * 1e4 * 2**-24)


def test_compiles_in_one_graph(generator):
    x, reference = inputs(SHAPES[2], dtype=torch.float32)
    layer = layer_with(reference)
    torch.testing.assert_close(torch.compile(layer, backend="aot_eager", fullgraph=True)(x), layer(x))


def test_no_reference_batch():
    layer = VirtualBatchNorm(3)
    with pytest.raises(
        RuntimeError, match=re.escape("there is no reference batch, expected set_reference_batch(network")
    ):
        layer(torch.zeros(2, 3))


def test_a_state_without_a_reference_batch_is_loaded(generator):
    layer = VirtualBatchNorm(3)
    set_reference_batch(layer, torch.randn(4, 3))
    layer(torch.zeros(2, 3))
    layer.load_state_dict(VirtualBatchNorm(3).state_dict())
    with pytest.raises(RuntimeError, match="there is no reference batch"):
        layer(torch.zeros(2, 3))


def test_a_layer_that_is_called_twice_is_refused():
    layer = VirtualBatchNorm(3)
    with pytest.raises(RuntimeError, match="the reference batch came twice"):
        set_reference_batch(nn.Sequential(layer, nn.ReLU(), layer), torch.randn(4, 3))
    assert not layer._measuring
    assert layer._live is None


def test_a_network_that_fails_leaves_nothing_behind(generator):
    network = network_of_two()
    with pytest.raises(RuntimeError):
        set_reference_batch(network, torch.zeros(3, 9, dtype=torch.float64))
    assert not any(layer._measuring for layer in network if isinstance(layer, VirtualBatchNorm))


def test_bad_arguments():
    with pytest.raises(ValueError, match="VirtualBatchNorm: num_features is 0, expected an integer of at least 1"):
        VirtualBatchNorm(0)
    with pytest.raises(ValueError, match="VirtualBatchNorm: eps is 0, expected a finite number > 0"):
        VirtualBatchNorm(2, eps=0)
    with pytest.raises(ValueError, match="network has no VirtualBatchNorm, expected at least one"):
        set_reference_batch(nn.Linear(2, 2), torch.zeros(3, 2))
    layer = VirtualBatchNorm(3)
    with pytest.raises(ValueError, match=re.escape("the reference batch has shape [0, 3], expected one not empty")):
        set_reference_batch(layer, torch.zeros(0, 3))
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        set_reference_batch(layer, torch.zeros(1, 3))
    with pytest.raises(TypeError, match=re.escape("x is torch.int64, expected a floating-point tensor")):
        layer(torch.zeros(2, 3, dtype=torch.long))
    set_reference_batch(layer, torch.randn(4, 3))
    for shape in ((2, 4), (3,), (2, 4, 3)):
        with pytest.raises(ValueError, match=re.escape(f"x has shape {list(shape)}, expected [batch, 3, ...]")):
            layer(torch.zeros(shape))
