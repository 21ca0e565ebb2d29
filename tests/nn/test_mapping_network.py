"""The mapping network: its layers in numpy, the moving average of w, truncation."""

import numpy as np
import pytest
import torch

from fastgan.nn import MappingNetwork


def by_hand(network, z):
    """Normalised z through every layer, in numpy; weights and biases learn at lr_multiplier of the others' rate."""
    x = z / np.sqrt((z**2).mean(axis=1, keepdims=True) + 1e-8)
    for layer in network.layers:
        weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
        y = x @ weight.T * (layer.lr_multiplier / weight.shape[1] ** 0.5) + bias * layer.lr_multiplier
        x = np.sqrt(2) * np.where(y > 0, y, 0.2 * y)
    return x


def build(generator, z_dim=6, w_dim=5, **kwargs):
    network = MappingNetwork(z_dim, w_dim, num_layers=3, **kwargs).double()
    with torch.no_grad():
        for layer in network.layers:
            layer.bias.normal_(std=1 / layer.lr_multiplier, generator=generator)
    return network


def draw(generator, *size):
    return torch.randn(size, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("lr_multiplier", [0.01, 1.0, 0.5])
def test_is_its_layers(lr_multiplier, generator):
    network = build(generator, lr_multiplier=lr_multiplier)
    assert [tuple(layer.weight.shape) for layer in network.layers] == [(5, 6), (5, 5), (5, 5)]
    z = 3 * draw(generator, 7, 6)
    np.testing.assert_allclose(network(z).detach().numpy(), by_hand(network, z.numpy()), rtol=1e-10, atol=1e-12)


def test_the_average_of_w_moves_in_training(generator):
    network, expected = build(generator, w_avg_decay=0.9), np.zeros(5)
    for batch in (4, 1, 9, 0, 2):
        z = draw(generator, batch, 6)
        if batch:
            expected = 0.9 * expected + 0.1 * by_hand(network, z.numpy()).mean(axis=0)
        assert network(z).shape == (batch, 5)
        np.testing.assert_allclose(network.w_avg.numpy(), expected, rtol=1e-10, atol=1e-12)
    assert not network.w_avg.requires_grad
    network.eval()
    network(z)
    np.testing.assert_allclose(network.w_avg.numpy(), expected, rtol=1e-10, atol=1e-12)


def test_no_latents_leave_the_average_alone(generator):
    """A batch may be empty, as the last one of a split: the mean of nothing is not a number."""
    network = build(generator)
    network(draw(generator, 3, 6))
    before = network.w_avg.clone()
    w = network(torch.zeros(0, 6, requires_grad=True))
    w.sum().backward()
    assert w.shape == (0, 5)
    assert torch.equal(network.w_avg, before)
    assert all(not p.grad.any() for p in network.parameters())


@pytest.mark.parametrize("training", [False, True])
def test_truncation(training, generator):
    """Towards the average: after it has moved, in training."""
    network = build(generator).train(training)
    network.w_avg.normal_(generator=generator)
    z = draw(generator, 8, 6)
    w = by_hand(network, z.numpy())
    for psi in (0.0, 0.25, 0.7, 1.0, 1.5, -1.0):
        found = network(z, psi=psi).detach().numpy()
        average = network.w_avg.numpy()
        np.testing.assert_allclose(found, average + psi * (w - average), rtol=1e-10, atol=1e-12)
    assert torch.equal(network(z, psi=0.0), network.w_avg.expand(8, 5))
    assert torch.equal(network(z, psi=0), network.w_avg.expand(8, 5))


def test_no_gradient_is_left_at_the_average(generator):
    network = build(generator)
    w = network(draw(generator, 4, 6), psi=0.0)
    w.sum().backward()
    assert all(not p.grad.any() for p in network.parameters())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_latent_of_zeros_is_no_division_by_zero(dtype):
    network = MappingNetwork(6, 5, num_layers=2).to(dtype).eval()
    assert torch.equal(network(torch.zeros(2, 6)), torch.zeros(2, 5, dtype=dtype))


def test_latents_come_in_any_dtype(generator):
    network = build(generator).eval()
    z = draw(generator, 4, 6).float()
    assert torch.equal(network(z), network(z.double()))
    assert network.half()(z).dtype == torch.float16
