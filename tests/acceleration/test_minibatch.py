"""Minibatch discrimination layers of other code bases are recognised, and compute what they did."""

import copy
import pickle

import pytest
import torch
from torch import nn

import fastgan
from fastgan.acceleration import minibatch
from tests.acceleration.zoo import MinibatchDiscrimination, assert_same, derivatives


class Flat(nn.Module):
    """T of two dimensions; counts a sample's similarity to itself, as the paper's sum does."""

    def __init__(self, in_features, num_kernels, dim_per_kernel):
        super().__init__()
        self.num_kernels, self.dim_per_kernel = num_kernels, dim_per_kernel
        self.T = nn.Parameter(torch.randn(in_features, num_kernels * dim_per_kernel) * 0.1)

    def forward(self, x):
        m = (x @ self.T).reshape(-1, self.num_kernels, self.dim_per_kernel)
        return torch.cat([x, torch.exp(-(m[:, None] - m[None]).abs().sum(3)).sum(1)], 1)


class Noisy(MinibatchDiscrimination):
    def forward(self, x):
        return super().forward(x + 1e-3 * torch.randn_like(x))


class OtherInEvaluation(MinibatchDiscrimination):
    def forward(self, x):
        y = super().forward(x)
        return y if self.training else y * 0.5


class Batched(MinibatchDiscrimination):
    def forward(self, x, scale=1.0):
        return super().forward(x) * scale


MODULES = {
    "gist": lambda: MinibatchDiscrimination(6, 4, 3),
    "mean": lambda: MinibatchDiscrimination(6, 4, 3, mean=True),
    "flat": lambda: Flat(6, 4, 3),
}


@pytest.mark.parametrize("name", MODULES)
def test_a_known_layer_is_replaced_and_computes_the_same(name, generator):
    layer = MODULES[name]().double()
    original = copy.deepcopy(layer)
    x = torch.randn(5, 6, generator=generator, dtype=torch.float64)
    random = torch.get_rng_state()
    (row,) = fastgan.accelerate(layer).rows
    assert torch.equal(random, torch.get_rng_state())
    assert (row.kind, row.became) == (type(original).__name__, "minibatch_discrimination")
    assert isinstance(layer, type(original))
    assert type(layer) is not type(original)
    assert_same(derivatives(layer, x), derivatives(original, x))
    for copied in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert type(copied) is type(layer)
        assert_same(derivatives(copied, x), derivatives(original, x))
        fastgan.restore(copied)
        assert type(copied) is type(original)
    if hasattr(layer, "mean"):
        layer.mean = original.mean = not layer.mean
        assert_same(derivatives(layer, x), derivatives(original, x))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(layer(x), original(x))
    assert torch.equal(layer(x.requires_grad_())[:0], original(x)[:0])
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    assert_same({"y": compiled(x).detach()}, {"y": original(x).detach()})
    fastgan.restore(layer)
    assert torch.equal(layer(x), original(x))


@pytest.mark.parametrize("kind", [Noisy, OtherInEvaluation])
def test_a_layer_that_computes_something_else_is_left(kind):
    layer = kind(6, 4, 3)
    (row,) = fastgan.accelerate(layer).rows
    assert row.became is None
    assert "computes something else" in row.reason
    assert type(layer) is kind


def test_far_apart_samples_do_not_make_every_layer_look_alike():
    """With T so large all similarities are 0, whatever the norm: verification draws its own."""

    class Halved(MinibatchDiscrimination):
        def forward(self, x):
            y = super().forward(x)
            return torch.cat([y[:, : self.in_features], 0.5 * y[:, self.in_features :]], 1)

    layer = Halved(6, 4, 3)
    nn.init.normal_(layer.T, 0, 1e4)
    assert fastgan.accelerate(layer).rows[0].became is None


def test_further_arguments_go_to_the_original(generator):
    layer = Batched(6, 4, 3)
    original = copy.deepcopy(layer)
    x = torch.randn(5, 6, generator=generator)
    assert fastgan.accelerate(layer).replaced
    assert torch.equal(layer(x, 2.0), original(x, 2.0))
    assert torch.equal(layer(x, scale=2.0), original(x, scale=2.0))
    torch.testing.assert_close(layer(x), original(x))


def test_a_parameter_of_that_name_is_not_enough():
    class Temperature(nn.Module):
        def __init__(self):
            super().__init__()
            self.T = nn.Parameter(torch.ones(3, 6))

        def forward(self, x):
            return x @ self.T

    layer = Temperature()
    (row,) = fastgan.accelerate(layer).rows
    assert row.became is None
    assert "unknown to fastgan" in row.reason


def test_the_kernels_run(generator, monkeypatch):
    calls = []
    original = minibatch.minibatch_discrimination
    monkeypatch.setattr(minibatch, "minibatch_discrimination", lambda m: calls.append(m.shape) or original(m))
    layer = MinibatchDiscrimination(6, 4, 3)
    fastgan.accelerate(layer)
    calls.clear()
    layer(torch.randn(5, 6, generator=generator))
    assert calls == [(5, 4, 3)]


class Faded(MinibatchDiscrimination):
    """Fades its features in, by an attribute that may be its own, its class's or not there yet."""

    gain = 1.0

    def forward(self, x):
        y = super().forward(x)
        return torch.cat([x, y[:, x.shape[1] :] * self.gain * getattr(self, "late", 1.0)], 1)


@pytest.mark.parametrize("name", ["gain", "late", "mean"])
def test_attributes_that_change_after_acceleration(name, generator):
    layer = Faded(6, 4, 3).double()
    theirs = copy.deepcopy(layer)
    (row,) = fastgan.accelerate(layer).rows
    assert row.became == "minibatch_discrimination"
    x = torch.randn(5, 6, generator=generator, dtype=torch.float64)
    for each in (layer, theirs):
        setattr(each, name, True if name == "mean" else 0.25)
    torch.testing.assert_close(layer(x), theirs(x))
    torch.testing.assert_close(pickle.loads(pickle.dumps(layer))(x), theirs(x))


def test_a_layer_whose_attributes_may_change_inside_is_left():
    layer = Faded(6, 4, 3)
    layer.gains = {"now": 1.0}
    (row,) = fastgan.accelerate(layer).rows
    assert row.became is None
    assert row.reason == "has an attribute gains that may change, a dict"
