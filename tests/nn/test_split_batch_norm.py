"""Separate statistics against two of torch's batch norms that share weight and bias."""

import copy
import re

import pytest
import torch
from torch import nn

from fastgan.nn import SplitBatchNorm2d, fake_statistics


@pytest.fixture
def trio(generator):
    """(the layer, torch's for real samples, torch's for generated ones), with the same weight and bias."""
    ours, real = SplitBatchNorm2d(3, momentum=0.3).double(), nn.BatchNorm2d(3, momentum=0.3).double()
    with torch.no_grad():
        for name in ("weight", "bias"):
            getattr(ours, name).normal_()
            getattr(real, name).copy_(getattr(ours, name))
    return ours, real, copy.deepcopy(real)


def batches():
    real = torch.randn(5, 3, 4, 4, dtype=torch.float64)
    return real, torch.randn(6, 3, 4, 4, dtype=torch.float64) * 3 - 4


def test_two_batch_norms_with_one_weight_and_bias(trio, generator):
    ours, for_real, for_fake = trio
    for _ in range(3):
        real, fake = batches()
        assert torch.equal(ours(real), for_real(real))
        with fake_statistics(ours):
            assert torch.equal(ours(fake), for_fake(fake))
    assert torch.equal(ours.running_mean, torch.stack([for_real.running_mean, for_fake.running_mean]))
    assert torch.equal(ours.running_var, torch.stack([for_real.running_var, for_fake.running_var]))
    for layer in trio:
        layer.eval()
    before = copy.deepcopy(ours.state_dict())
    assert torch.equal(ours(real), for_real(real))
    with fake_statistics(ours):
        assert torch.equal(ours(fake), for_fake(fake))
        assert torch.equal(ours(real), for_fake(real))
    assert torch.equal(ours(fake), for_real(fake))
    assert all(torch.equal(value, before[name]) for name, value in ours.state_dict().items())


def test_gradients_of_both_batches_meet_in_the_weight(trio, generator):
    ours, for_real, for_fake = trio
    (real, fake), found, expected = batches(), [], []
    real.requires_grad_(), fake.requires_grad_()
    y = ours(real).square().mean()
    with fake_statistics(ours):
        y = y + ours(fake).sin().mean()
    found += torch.autograd.grad(y, (real, fake, ours.weight, ours.bias), create_graph=True)
    y = for_real(real).square().mean() + for_fake(fake).sin().mean()
    parts = torch.autograd.grad(
        y, (real, fake, for_real.weight, for_fake.weight, for_real.bias, for_fake.bias), create_graph=True
    )
    expected += [*parts[:2], parts[2] + parts[3], parts[4] + parts[5]]
    found += torch.autograd.grad(found[1].square().sum(), (fake, ours.weight))
    expected += torch.autograd.grad(expected[1].square().sum(), (fake, for_fake.weight))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_derivatives(trio, generator):
    ours, *_ = trio
    ours.eps = 0.1
    x = torch.randn(3, 3, 1, 2, dtype=torch.float64, requires_grad=True)

    def y(x, weight, bias):
        return torch.func.functional_call(ours, {"weight": weight, "bias": bias}, (x,))

    assert torch.autograd.gradcheck(y, (x, ours.weight, ours.bias))
    assert torch.autograd.gradgradcheck(y, (x, ours.weight, ours.bias))


def test_a_networks_layers_change_together_and_no_others(generator):
    network, other = (nn.Sequential(SplitBatchNorm2d(2), nn.Conv2d(2, 3, 1), SplitBatchNorm2d(3)) for _ in range(2))
    x = torch.randn(4, 2, 3, 3)
    with fake_statistics(network):
        network(x), other(x)
    for layer in (network[0], network[2]):
        assert (layer.running_mean[0] == 0).all()
        assert (layer.running_mean[1] != 0).all()
    assert (other[0].running_mean[1] == 0).all()
    assert (other[0].running_mean[0] != 0).all()


def test_nested_and_after_an_error(generator):
    layer = SplitBatchNorm2d(2)
    x = torch.randn(4, 2, 3, 3)
    with fake_statistics(layer):
        with fake_statistics(layer):
            pass
        layer(x)
    assert (layer.running_mean[0] == 0).all()
    with pytest.raises(ValueError, match="expected"), fake_statistics(layer):
        layer(torch.zeros(4, 3, 3, 3))
    layer(x)
    assert (layer.running_mean[0] != 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_torchs(dtype, generator):
    layer, plain = SplitBatchNorm2d(3), nn.BatchNorm2d(3)
    x = (torch.randn(8, 3, 16, 16) + 8).to(dtype)
    with fake_statistics(layer):
        y = layer(x)
    assert y.dtype == dtype
    assert torch.equal(y, plain(x))
    assert layer.running_mean.dtype == torch.float32
    assert torch.equal(layer.running_mean[1], plain.running_mean)


def test_state_dict_holds_both(trio, generator):
    ours, *_ = trio
    with fake_statistics(ours):
        ours(batches()[1])
    fresh = SplitBatchNorm2d(3).double()
    fresh.load_state_dict(ours.state_dict())
    assert torch.equal(fresh.running_mean, ours.running_mean)
    assert sorted(ours.state_dict()) == ["bias", "running_mean", "running_var", "weight"]
    assert list(SplitBatchNorm2d(3, affine=False).parameters()) == []


def test_compiles_in_one_graph(trio, generator):
    ours, for_real, for_fake = trio
    compiled = torch.compile(ours, backend="aot_eager", fullgraph=True)
    real, fake = batches()
    torch.testing.assert_close(compiled(real), for_real(real))
    with fake_statistics(ours):
        torch.testing.assert_close(compiled(fake), for_fake(fake))
    torch.testing.assert_close(ours.running_mean[1], for_fake.running_mean)


def test_bad_arguments():
    for change, message in (
        ({"num_features": 0}, "num_features is 0, expected an integer of at least 1"),
        ({"eps": 0}, "eps is 0, expected a finite number > 0"),
        ({"momentum": -1}, "momentum is -1, expected a finite number >= 0"),
    ):
        with pytest.raises(ValueError, match=re.escape(f"SplitBatchNorm2d: {message}")):
            SplitBatchNorm2d(**{"num_features": 3, **change})
    with pytest.raises(ValueError, match=re.escape("x has shape [2, 4, 3, 3], expected [batch, 3, height, width]")):
        SplitBatchNorm2d(3)(torch.zeros(2, 4, 3, 3))
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        SplitBatchNorm2d(3)(torch.zeros(1, 3, 1, 1))
    with pytest.raises(ValueError, match="network has no SplitBatchNorm2d, expected at least one"):
        fake_statistics(nn.BatchNorm2d(3)).__enter__()
