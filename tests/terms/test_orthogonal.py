"""Orthogonal regularisation against loops over pairs of filters, and the direct gradient against autograd's."""

import re
from itertools import combinations

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from fastgan.terms import add_orthogonal_gradient_, orthogonal

LAYERS = {
    "linear": lambda: nn.Linear(5, 4),
    "more filters than inputs": lambda: nn.Linear(3, 7),
    "one filter": lambda: nn.Linear(4, 1),
    "convolution": lambda: nn.Conv2d(3, 4, 3),
    "1d": lambda: nn.Conv1d(2, 3, 5),
    "transposed": lambda: nn.ConvTranspose2d(3, 4, 2),
    "groups": lambda: nn.Conv2d(4, 6, 3, groups=2),
    "transposed, groups": lambda: nn.ConvTranspose2d(6, 4, 3, groups=2),
    "depthwise": lambda: nn.Conv2d(3, 3, 3, groups=3),
    "embedding": lambda: nn.Embedding(5, 3),
    "spectral norm": lambda: spectral_norm(nn.ConvTranspose2d(2, 3, 2)),
}


def filters_of(layer):
    """The filters of each group as plain lists of vectors, read off the response to single inputs."""
    if isinstance(layer, nn.Embedding):
        return [list(layer.weight)]
    if isinstance(layer, nn.Linear):
        return [[row.flatten() for row in layer.weight]]
    w = layer.parametrizations.weight.original if hasattr(layer, "parametrizations") else layer.weight
    outputs, inputs, groups = layer.out_channels // layer.groups, layer.in_channels // layer.groups, layer.groups
    transposed = isinstance(layer, nn.ConvTranspose2d)
    found = []
    for g in range(groups):
        group = []
        for o in range(outputs):
            pieces = [w[g * inputs + i, o] if transposed else w[g * outputs + o, i] for i in range(inputs)]
            group.append(torch.stack(pieces).flatten())
        found.append(group)
    return found


def by_hand(layer):
    return sum(
        2 * (a @ b).item() ** 2 for group in filters_of(layer.double()) for a, b in combinations(group, 2)
    )  # both triangles


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_pairs_of_filters(make, generator):
    layer = make().double()
    assert orthogonal(layer, 0.3).item() == pytest.approx(0.3 * by_hand(layer), rel=1e-12)


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_the_direct_gradient_is_the_losss(make, generator):
    layer = make().double()
    weight = next(p for p in layer.parameters() if p.ndim >= 2)
    (expected,) = torch.autograd.grad(orthogonal(layer, 0.3), weight)
    assert torch.autograd.gradcheck(
        lambda w: torch.func.functional_call(Loss(layer), names(layer, weight, w), ()), weight
    )
    torch.manual_seed(0)
    before = torch.randn_like(weight)
    add_orthogonal_gradient_(layer, 0.3)
    torch.testing.assert_close(weight.grad, expected, rtol=1e-10, atol=1e-13)
    weight.grad = before.clone()
    add_orthogonal_gradient_(layer, 0.3)
    torch.testing.assert_close(weight.grad, before + expected, rtol=1e-10, atol=1e-13)
    assert all(p.grad is None for p in layer.parameters() if p.ndim < 2)


class Loss(nn.Module):
    """The regulariser as a function of parameters, for gradcheck."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self):
        return orthogonal(self.layer, 0.3)


def names(layer, weight, value):
    return {f"layer.{name}": value if p is weight else p for name, p in layer.named_parameters()}


def test_gradgradcheck(generator):
    layer = nn.Conv2d(2, 3, 2).double()

    def value(w):
        return torch.func.functional_call(Loss(layer), {"layer.weight": w}, ())

    assert torch.autograd.gradgradcheck(value, layer.weight)


def test_orthogonal_filters_of_any_length_cost_nothing(generator):
    layer = nn.Linear(6, 4, bias=False).double()
    nn.init.orthogonal_(layer.weight)
    layer.weight.data.mul_(torch.tensor([[1.0], [100.0], [1e-3], [7.0]]))
    assert orthogonal(layer, 1.0).item() < 1e-20 * 100**4
    # More filters than dimensions cannot all be orthogonal.
    nn.init.orthogonal_((wide := nn.Linear(4, 6, bias=False).double()).weight)
    assert orthogonal(wide, 1.0).item() > 0.1


def test_parallel_filters_in_closed_form():
    """n equal filters of norm² c: n (n - 1) ordered pairs of c² each; each is pushed by 4 (n - 1) c times itself."""
    layer = nn.Linear(3, 5, bias=False).double()
    nn.init.constant_(layer.weight, 2.0)
    assert orthogonal(layer, 1.0).item() == 5 * 4 * 12.0**2
    add_orthogonal_gradient_(layer, 1.0)
    assert (layer.weight.grad == 4 * 4 * 12 * 2).all()


def test_a_network_is_the_sum_of_its_weights_each_once(generator):
    shared = nn.Linear(4, 4)
    network = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), shared, nn.ReLU(), shared, nn.Linear(4, 2)).double()
    expected = by_hand(network[0]) + by_hand(shared) + by_hand(network[5])
    assert orthogonal(network, 1.0).item() == pytest.approx(expected, rel=1e-12)
    assert orthogonal(network).item() == pytest.approx(1e-4 * expected, rel=1e-12)


def test_excluded_modules_and_parameters(generator):
    network = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 4), nn.Linear(4, 2)).double()
    expected = by_hand(network[2])
    exclude = (network[0], network[1].weight)
    assert orthogonal(network, 1.0, exclude=exclude).item() == pytest.approx(expected, rel=1e-12)
    add_orthogonal_gradient_(network, 1.0, exclude=exclude)
    assert network[0].weight.grad is None
    assert network[1].weight.grad is None
    assert network[2].weight.grad is not None


def test_frozen_weights_get_no_gradient(generator):
    network = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    network[0].requires_grad_(False)
    add_orthogonal_gradient_(network)
    assert network[0].weight.grad is None
    assert network[1].weight.grad is not None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights_are_summed_in_float32(dtype, generator):
    layer = nn.Conv2d(8, 16, 3).to(dtype)
    value = orthogonal(layer, 1.0)
    assert value.dtype == torch.float32
    single = nn.Conv2d(8, 16, 3)
    single.load_state_dict(layer.state_dict())
    torch.testing.assert_close(value, orthogonal(single, 1.0), rtol=0, atol=0)
    add_orthogonal_gradient_(layer, 1.0)
    add_orthogonal_gradient_(single, 1.0)
    assert layer.weight.grad.dtype == dtype
    torch.testing.assert_close(layer.weight.grad, single.weight.grad.to(dtype), rtol=0, atol=0)


def test_weights_of_several_dtypes(generator):
    network = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2).double())
    assert orthogonal(network).dtype == torch.float64


def test_bad_arguments():
    layer = nn.Linear(3, 2)
    for name, function in (("orthogonal", orthogonal), ("add_orthogonal_gradient_", add_orthogonal_gradient_)):
        with pytest.raises(ValueError, match=re.escape(f"{name}: strength is -1, expected a finite number >= 0")):
            function(layer, -1)
        with pytest.raises(TypeError, match=re.escape(f"{name}: exclude is Linear, expected a sequence")):
            function(layer, exclude=layer)
        with pytest.raises(TypeError, match=re.escape(f"{name}: exclude holds a str, expected parameters and modules")):
            function(layer, exclude=["weight"])
        for module, exclude in ((layer, [layer]), (nn.BatchNorm2d(3), ())):
            with pytest.raises(ValueError, match=re.escape(f"{name}: module has no parameter of two dimensions")):
                function(module, exclude=exclude)
