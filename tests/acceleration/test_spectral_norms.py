"""torch's spectral norms, and those of other code bases, before and after `accelerate`: the same numbers, one call."""

import copy
import pickle
import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, parametrize, remove_spectral_norm
from torch.nn.utils import spectral_norm as hook_norm

import fastgan
from fastgan.acceleration import spectral_norms
from fastgan.nn import spectral_norm_ahead as ahead
from fastgan.penalties import R1
from tests.acceleration.normalised_layers import KINDS, BigGANConv2d, MimicryConv2d, MimicryLinear


class Critic(nn.Module):
    def __init__(self, conv, linear):
        super().__init__()
        self.first, self.second = conv(3, 8, 3, padding=1), conv(8, 12, 4, stride=2, padding=1)
        self.head = linear(12 * 16, 1)

    def forward(self, x):
        h = F.leaky_relu(self.first(x), 0.2)
        return self.head(F.leaky_relu(self.second(h), 0.2).flatten(1))


def build(kind):
    return Critic(*KINDS[kind]).double()


def step(model, x, cotangent):
    """Output, gradients and the gradients of the gradient's square."""
    x = x.clone().requires_grad_()
    y = model(x)
    (g,) = torch.autograd.grad(y, x, cotangent, create_graph=True)
    parameters = list(model.parameters())
    first = torch.autograd.grad(y, parameters, cotangent, retain_graph=True)
    second = torch.autograd.grad(g.square().sum(), parameters, allow_unused=True)
    return [y, g, *first, *(torch.zeros_like(p) if s is None else s for p, s in zip(parameters, second, strict=True))]


def assert_equal_steps(theirs, ours, generator, steps=3):
    for _ in range(steps):
        x = torch.randn(3, 3, 8, 8, generator=generator, dtype=torch.float64)
        cotangent = torch.randn(3, 1, generator=generator, dtype=torch.float64)
        for a, b in zip(step(theirs, x, cotangent), step(ours, x, cotangent), strict=True):
            torch.testing.assert_close(b, a, rtol=1e-9, atol=1e-10)
    assert list(theirs.state_dict()) == list(ours.state_dict())
    for a, b in zip(theirs.state_dict().values(), ours.state_dict().values(), strict=True):
        torch.testing.assert_close(b, a, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_gradients_and_buffers_before_and_after(kind, generator):
    theirs = build(kind)
    ours = copy.deepcopy(theirs)
    keys = list(ours.state_dict())
    report = fastgan.accelerate(ours)
    assert list(ours.state_dict()) == keys
    assert sum(row.became == spectral_norms.BECAME for row in report.rows) == 3, str(report)
    assert_equal_steps(theirs, ours, generator)
    theirs.eval(), ours.eval()
    assert_equal_steps(theirs, ours, generator)
    theirs.train(), ours.train()
    assert_equal_steps(theirs, ours, generator, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_all_layers_take_one_call(kind, monkeypatch):
    calls, real = [], ahead.estimates
    model = Critic(*KINDS[kind])
    fastgan.accelerate(model)
    monkeypatch.setattr(ahead, "estimates", lambda w, *a, **k: (calls.append(len(w)), real(w, *a, **k))[1])
    model(torch.randn(2, 3, 8, 8))
    settings = {"hook": [2, 1], "mixed": [2, 1]}.get(kind, [3])  # iterations or eps differ
    assert sorted(calls, reverse=True) == settings


def test_two_groups_of_one_model_do_not_disturb_each_other(monkeypatch):
    model = nn.Sequential(nn.Linear(3, 4), hook_norm(nn.Linear(4, 4)), nn.Linear(4, 4), hook_norm(nn.Linear(4, 2)))
    fastgan.nn.spectral_norm_(model, skip=("1", "3"))
    fastgan.accelerate(model)
    calls, real = [], ahead.estimates
    monkeypatch.setattr(ahead, "estimates", lambda w, *a, **k: (calls.append(len(w)), real(w, *a, **k))[1])
    for _ in range(2):
        model(torch.randn(2, 3))
    assert calls == [2, 2, 2, 2]


@pytest.mark.parametrize("kind", KINDS)
def test_restore_brings_everything_back(kind, generator):
    theirs = build(kind)
    ours = copy.deepcopy(theirs)
    x = torch.randn(2, 3, 8, 8, generator=generator, dtype=torch.float64)
    fastgan.accelerate(ours)
    fastgan.restore(ours)
    assert torch.equal(ours(x), theirs(x))
    for a, b in zip(theirs.modules(), ours.modules(), strict=True):
        if not parametrize.is_parametrized(a):
            assert type(a) is type(b)
            assert set(a.__dict__) == set(b.__dict__)
        assert [type(hook) for hook in a._forward_pre_hooks.values()] == [
            type(hook) for hook in b._forward_pre_hooks.values()
        ]
        assert not b._forward_hooks


@pytest.mark.parametrize("kind", KINDS)
def test_twice_and_on_a_copy(kind, generator):
    theirs = build(kind)
    ours = copy.deepcopy(theirs)
    fastgan.accelerate(ours)
    report = fastgan.accelerate(ours)
    assert sum(row.reason == "already" and row.became == spectral_norms.BECAME for row in report.rows) == 3
    ours = copy.deepcopy(ours)
    assert_equal_steps(theirs, ours, generator, 2)
    fastgan.restore(ours)
    assert_equal_steps(theirs, ours, generator, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_one_pass_penalties_go_through_it(kind, generator):
    theirs = build(kind)
    ours = copy.deepcopy(theirs)
    fastgan.accelerate(ours)
    real, fake = (torch.randn(3, 3, 8, 8, generator=generator, dtype=torch.float64) for _ in range(2))
    fastgan.critic_loss(theirs, real, fake, penalties=(R1(10.0),), method="double_backward").backward()
    fastgan.critic_loss(ours, real, fake, penalties=(R1(10.0),), method="one_pass").backward()
    for a, b in zip(theirs.parameters(), ours.parameters(), strict=True):
        torch.testing.assert_close(b.grad, a.grad, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("kind", ["hook", "mimicry", "biggan", "mixed"])
def test_what_could_be_pickled_still_can(kind, generator):
    model = build(kind)
    fastgan.accelerate(model)
    x = torch.randn(2, 3, 8, 8, generator=generator, dtype=torch.float64)
    model(x)
    again = pickle.loads(pickle.dumps(model))
    assert_equal_steps(model, again, generator, 2)
    fastgan.restore(again)
    assert_equal_steps(model, again, generator, 1)


def test_several_iterations_of_a_foreign_layer(generator):
    theirs = BigGANConv2d(3, 5, 3, num_itrs=3).double()
    ours = copy.deepcopy(theirs)
    assert fastgan.accelerate(ours).replaced
    x = torch.randn(2, 3, 6, 6, generator=generator, dtype=torch.float64)
    for training in (True, True, False):
        theirs.train(training), ours.train(training)
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-11, atol=1e-12)
        torch.testing.assert_close(ours.u0, theirs.u0, rtol=1e-11, atol=1e-12)
        torch.testing.assert_close(ours.sv0, theirs.sv0, rtol=1e-11, atol=1e-12)


def test_torchs_own_removal_still_works(generator):
    model = build("hook").eval()
    fastgan.accelerate(model)
    x = torch.randn(2, 3, 8, 8, generator=generator, dtype=torch.float64)
    y = model(x)
    for layer in (model.first, model.second, model.head):
        remove_spectral_norm(layer)
    torch.testing.assert_close(model(x), y)
    assert "first.weight" in dict(model.named_parameters())


class Liar(BigGANConv2d):
    def W_(self):  # noqa: N802
        return 2 * super().W_()


class Broken(BigGANConv2d):
    def W_(self):  # noqa: N802
        raise RuntimeError("not today")


def changed(layer, **attributes):
    for name, value in attributes.items():
        setattr(layer, name, value)
    return layer


LEFT = {
    "liar": (lambda: Liar(3, 4, 3), "computes something else"),
    "broken": (lambda: Broken(3, 4, 3), "could not be run on a copy in float64: .*not today"),
    "two parametrizations": (
        lambda: parametrizations.orthogonal(parametrizations.spectral_norm(nn.Linear(4, 4))), "one of several"
    ),
    "on a weight norm": (
        lambda: parametrizations.spectral_norm(parametrizations.weight_norm(nn.Linear(6, 8))), "one of several"
    ),
    "attribute": (lambda: changed(MimicryLinear(3, 4), gain=torch.ones(1)), "attribute gain that may change, a Tensor"),
    "hook on a vector": (lambda: hook_norm(nn.BatchNorm1d(4)), "a vector's norm"),
    "vector": (lambda: parametrizations.spectral_norm(nn.BatchNorm1d(4)), "a vector's norm"),
    "num_svs": (lambda: BigGANConv2d(3, 4, 3, num_svs=2), r"keeps 2 singular vectors \(num_svs\)"),
    "transpose": (lambda: changed(BigGANConv2d(3, 4, 3), transpose=True), r"columns for rows \(transpose\)"),
    "num_itrs": (lambda: changed(BigGANConv2d(3, 4, 3), num_itrs=0), "num_itrs is 0, expected an integer"),
    "num_iters": (lambda: changed(MimicryConv2d(3, 4, 3), num_iters=1.5), "num_iters is 1.5, expected an integer"),
    "eps": (lambda: changed(MimicryConv2d(3, 4, 3), eps=0), "eps is 0, expected a float"),
    "u": (lambda: changed(MimicryConv2d(3, 4, 3), sn_u=torch.ones(2, 4)), r"sn_u has shape \[2, 4\]"),
    "sigma": (lambda: changed(MimicryConv2d(3, 4, 3), sn_sigma=None), "has no buffer sn_sigma"),
    "method": (lambda: changed(MimicryLinear(3, 4), sn_weights=lambda: 0), "its instance has a method of its own"),
}  # fmt: skip


class Scaled(BigGANConv2d):
    """Scales its normalised weight."""

    def W_(self):  # noqa: N802 (BigGAN-PyTorch's name)
        return super().W_() * getattr(self, "gain", 1.0)


def test_attributes_that_change_after_acceleration(generator):
    layer = Scaled(3, 4, 3)
    theirs = copy.deepcopy(layer)
    assert any(row.became == spectral_norms.BECAME for row in fastgan.accelerate(nn.Sequential(layer)).rows)
    layer.gain = theirs.gain = 0.5
    x = torch.randn(2, 3, 8, 8, generator=generator)
    for _ in range(2):
        torch.testing.assert_close(layer(x), theirs(x))
        torch.testing.assert_close(layer.u0, theirs.u0)


@pytest.mark.parametrize("name", LEFT)
def test_what_is_left_alone_and_why(name):
    make, reason = LEFT[name]
    layer = make()
    rows = fastgan.accelerate(nn.Sequential(layer)).rows
    assert any(row.became is None and re.search(reason, row.reason) for row in rows), rows
    assert not any(row.became == spectral_norms.BECAME for row in rows)


@pytest.mark.parametrize("layer", [BigGANConv2d(3, 4, 3), BigGANConv2d(3, 4, 3, num_svs=2), MimicryConv2d(3, 4, 3)])
def test_the_convolution_of_such_a_layer_is_fastgans_whatever_becomes_of_its_norm(layer):
    rows = fastgan.accelerate(nn.Sequential(layer)).rows
    assert [row.became for row in rows][-1] == "fastgan's conv2d in its calls"


SETTINGS = [("num_itrs", [1, 3]), ("eps", [1e-6, 0.5]), ("num_svs", [2]), ("transpose", [True])]


@pytest.mark.parametrize(("name", "values"), SETTINGS)
def test_settings_of_a_layer_are_read_at_every_use(name, values, generator):
    """Those that are not ours are answered by the layer itself, also where they are changed afterwards."""
    theirs = BigGANConv2d(4, 4, 1, num_svs=2).double()
    theirs.num_svs = 1
    ours = copy.deepcopy(theirs)
    assert fastgan.accelerate(ours).replaced
    x = torch.randn(2, 4, 3, 3, generator=generator, dtype=torch.float64)
    for value in values:
        for layer in (theirs, ours):
            setattr(layer, name, value)
        for training in (True, False):
            theirs.train(training), ours.train(training)
            torch.testing.assert_close(ours(x), theirs(x), rtol=1e-11, atol=1e-12)
            for a, b in zip(theirs.buffers(), ours.buffers(), strict=True):
                torch.testing.assert_close(b, a, rtol=1e-11, atol=1e-12)
