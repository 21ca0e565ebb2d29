"""Minibatch standard deviation layers of other code bases are recognised, and compute what they did."""

import copy
import pickle

import pytest
import torch
from torch import nn

import fastgan
from fastgan.acceleration import minibatch_stddev
from tests.acceleration.zoo import MinibatchStdLayer, assert_same, derivatives


class MinibatchStdDev(nn.Module):
    """One channel; says itself which batches it does not take, and lets its epsilon be chosen."""

    def __init__(self, group_size=4):
        super().__init__()
        self.group_size = group_size

    def forward(self, x, alpha=1e-8):
        batch, _, height, width = x.shape
        if batch > self.group_size:
            assert batch % self.group_size == 0, "not a multiple"
        group = min(batch, self.group_size)
        y = x.reshape(group, -1, *x.shape[1:])
        y = ((y - y.mean(0, keepdim=True)).square().mean(0) + alpha).sqrt().mean([1, 2, 3], keepdim=True)
        return torch.cat([x, y.repeat(group, 1, height, width)], 1)


class Minibatch_StdDev(nn.Module):  # noqa: N801
    """Progressive GAN's first: the whole batch."""

    def forward(self, x):
        s = ((x - x.mean(0)) ** 2).mean(0).add(1e-8).sqrt().mean()
        return torch.cat([x, s.expand(len(x), 1, *x.shape[2:])], 1)


class StddevChannels(nn.Module):
    """No name that says what it does, StyleGAN2's attributes in other words."""

    def __init__(self):
        super().__init__()
        self.stddev_group, self.stddev_feat = 3, 2

    def forward(self, x):
        batch, channel, height, width = x.shape
        group = min(batch, self.stddev_group)
        stddev = x.view(group, -1, self.stddev_feat, channel // self.stddev_feat, height, width)
        stddev = torch.sqrt(stddev.var(0, unbiased=False) + 1e-8)
        stddev = stddev.mean([2, 3, 4], keepdims=True).squeeze(2)
        return torch.cat([x, stddev.repeat(group, 1, height, width)], 1)


class PicklesItself(MinibatchStdLayer):
    def __reduce__(self):
        return PicklesItself, (self.group_size, self.num_channels)


MODULES = {
    "stylegan2": lambda: MinibatchStdLayer(4, 2),
    "pairs": lambda: MinibatchStdLayer(2, 1),
    "alone": lambda: MinibatchStdLayer(1, 1),
    "large group": lambda: MinibatchStdLayer(64, 1),
    "whole batch": lambda: MinibatchStdLayer(None, 2),
    "one channel": lambda: MinibatchStdDev(4),
    "no attributes": Minibatch_StdDev,
    "other words": StddevChannels,
}


@pytest.mark.parametrize("name", MODULES)
def test_a_known_layer_is_replaced_and_computes_the_same(name, generator):
    layer = MODULES[name]().double()
    original = copy.deepcopy(layer)
    random = torch.get_rng_state()
    (row,) = fastgan.accelerate(layer).rows
    assert torch.equal(random, torch.get_rng_state())
    assert (row.kind, row.became) == (type(original).__name__, "minibatch_stddev")
    assert isinstance(layer, type(original))
    assert type(layer) is not type(original)
    assert fastgan.accelerate(layer).rows[0].reason == "already"
    for batch in (1, 2, 3, 4, 6, 8, 12):
        x = torch.randn(batch, 6, 3, 5, generator=generator, dtype=torch.float64)
        try:
            expected = derivatives(original, x)
        except (RuntimeError, AssertionError):  # not a batch for it: its error remains
            with pytest.raises((RuntimeError, AssertionError)):
                layer(x)
            continue
        for copied in (layer, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
            assert type(copied) is type(layer)
            assert_same(derivatives(copied, x), expected)
    x = torch.randn(12, 6, 3, 5, generator=generator)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(layer(x), original(x))
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), original(x))
    fastgan.restore(layer)
    assert type(layer) is type(original)


def test_attributes_that_change_later_have_their_effect(generator):
    layer = MinibatchStdLayer(4, 2)
    original = copy.deepcopy(layer)
    fastgan.accelerate(layer)
    layer.group_size = original.group_size = 3
    layer.num_channels = original.num_channels = 1
    x = torch.randn(9, 6, 2, 2, generator=generator)
    torch.testing.assert_close(layer(x), original(x))


def test_further_arguments_go_to_the_original(generator):
    layer = MinibatchStdDev(4)
    original = copy.deepcopy(layer)
    x = torch.randn(4, 6, 2, 2, generator=generator)
    assert fastgan.accelerate(layer).replaced
    assert torch.equal(layer(x, 0.5), original(x, 0.5))
    assert torch.equal(layer(x, alpha=0.5), original(x, alpha=0.5))


def test_the_kernels_run_for_whole_groups_and_for_less_than_one(generator, monkeypatch):
    calls = []
    function = minibatch_stddev.minibatch_stddev
    monkeypatch.setattr(
        minibatch_stddev, "minibatch_stddev", lambda x, *sizes: calls.append((len(x), *sizes)) or function(x, *sizes)
    )
    layer = Forgiving(4)
    fastgan.accelerate(layer)
    calls.clear()
    for batch in (1, 3, 4, 5, 8):
        layer(torch.randn(batch, 2, 3, 3, generator=generator))
    assert calls == [(1, 4, 1), (3, 4, 1), (4, 4, 1), (8, 4, 1)]


class Forgiving(MinibatchStdLayer):
    """Takes any batch: whole, where it is no multiple of the group."""

    def forward(self, x):
        if self.group_size is not None and len(x) > self.group_size and len(x) % self.group_size:
            return Minibatch_StdDev()(x)
        return super().forward(x)


def test_what_a_layer_makes_of_other_batches_remains(generator):
    layer = Forgiving(4)
    original = copy.deepcopy(layer)
    assert fastgan.accelerate(layer).replaced
    for batch in (1, 3, 4, 5, 6, 8):
        x = torch.randn(batch, 2, 3, 3, generator=generator)
        torch.testing.assert_close(layer(x), original(x))


def test_a_layer_that_pickles_itself_goes_on_doing_so(generator):
    layer = PicklesItself(2, 1)
    x = torch.randn(4, 2, 3, 3, generator=generator)
    expected = layer(x)
    assert fastgan.accelerate(layer).replaced
    copied = pickle.loads(pickle.dumps(layer))
    assert type(copied) is PicklesItself
    assert torch.equal(copied(x), expected)


class Unbiased(MinibatchStdLayer):
    def forward(self, x):
        y = super().forward(x)
        group = min(len(x), self.group_size)
        return torch.cat([x, y[:, x.shape[1] :] * (group / max(group - 1, 1)) ** 0.5], 1)


class Neighbours(MinibatchStdLayer):
    """Groups of neighbours, not of every n-th sample."""

    def forward(self, x):
        groups = x.split(min(len(x), self.group_size))
        return torch.cat([MinibatchStdLayer(None, self.num_channels)(group) for group in groups])


class Interleaved(MinibatchStdLayer):
    """Every second channel in one feature."""

    def forward(self, x):
        mixed = x.unflatten(1, (-1, self.num_channels)).transpose(1, 2).flatten(1, 2)
        return torch.cat([x, super().forward(mixed)[:, x.shape[1] :]], 1)


class WholeBatch(MinibatchStdLayer):
    """One number for all groups."""

    def forward(self, x):
        y = super().forward(x)
        return torch.cat([x, y[:, x.shape[1] :].mean(0, keepdim=True).expand(len(x), -1, -1, -1)], 1)


class OtherEpsilon(MinibatchStdLayer):
    def forward(self, x):
        group = min(len(x), self.group_size)
        y = x.view(group, -1, self.num_channels, x.shape[1] // self.num_channels, *x.shape[2:])
        s = (y.var(0, unbiased=False) + 1e-7).sqrt().mean([2, 3, 4])
        return torch.cat([x, s.repeat(group, 1)[:, :, None, None].expand(-1, -1, *x.shape[2:])], 1)


class Detached(MinibatchStdLayer):
    def forward(self, x):
        return torch.cat([x, super().forward(x.detach())[:, x.shape[1] :]], 1)


class OtherInEvaluation(MinibatchStdLayer):
    def forward(self, x):
        y = super().forward(x)
        return y if self.training else y * 0.5


class Noisy(MinibatchStdLayer):
    def forward(self, x):
        return super().forward(x + 1e-3 * torch.randn_like(x))


@pytest.mark.parametrize(
    "kind", [Unbiased, Neighbours, Interleaved, WholeBatch, OtherEpsilon, Detached, OtherInEvaluation, Noisy]
)
def test_a_layer_that_computes_something_else_is_left(kind):
    layer = kind(2, 2)
    kind.__name__ = "MinibatchStd"
    (row,) = fastgan.accelerate(layer).rows
    assert row.became is None
    assert "looks like a minibatch standard deviation but computes something else" in row.reason
    assert type(layer) is kind


class MinibatchStdWithScale(MinibatchStdLayer):
    def __init__(self):
        super().__init__(2)
        self.scale = nn.Parameter(torch.ones(1))


def of_size(group_size, num_channels=1):
    layer = MinibatchStdLayer(2)
    layer.group_size, layer.num_channels = group_size, num_channels
    return layer


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (MinibatchStdWithScale, "has parameters, buffers or layers in it"),
        (lambda: of_size(0), "its group or number of channels is not an integer of at least 1"),
        (lambda: of_size(2.0), "its group or number of channels is not an integer of at least 1"),
        (lambda: of_size(2, None), "its group or number of channels is not an integer of at least 1"),
        (lambda: of_size(5000), "groups of 5000 are too large to be verified"),
    ],
)
def test_why_a_layer_is_left(make, reason):
    (row,) = fastgan.accelerate(make()).rows
    assert row.became is None
    assert reason in row.reason


def test_attributes_of_these_names_are_not_enough():
    class Shuffle(nn.Module):
        group_size, num_channels = 2, 2

        def forward(self, x):
            return x.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)

    layer = Shuffle()
    (row,) = fastgan.accelerate(layer).rows
    assert row.became is None
    assert "unknown to fastgan" in row.reason
    assert type(layer) is Shuffle


def test_a_statistic_inside_a_forward_is_named():
    class Discriminator(nn.Module):
        def __init__(self):
            super().__init__()
            self.stddev_group, self.stddev_feat = 4, 1
            self.conv = nn.Conv2d(3, 3, 1)

    rows = fastgan.accelerate(nn.Sequential(Discriminator())).rows
    assert [(row.path, row.became) for row in rows] == [("0", None), ("0.conv", "convolution")]
    assert "call fastgan.ops.minibatch_stddev there" in rows[0].reason
