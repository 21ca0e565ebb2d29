"""The report of `accelerate`: a reason for each layer that is left, times, errors."""

import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

import fastgan
from fastgan.acceleration import sequential
from fastgan.acceleration.substitute import is_replacement
from tests.acceleration.zoo import Functional, MinibatchDiscrimination, Residual


class OwnForward(nn.LeakyReLU):
    def forward(self, x):
        return torch.where(x > 0, x, x * self.negative_slope)


class MinibatchStdDev(nn.Module):
    def forward(self, x):
        return torch.cat([x, x.std(0).mean().expand(len(x), 1)], 1)


class Minibatch_StdLayer(nn.Module):  # noqa: N801
    def forward(self, x):
        return torch.cat([x, x.std(0).mean().expand(len(x), 1, *x.shape[2:])], 1)


class Unknown(nn.Module):
    def forward(self, x):
        return x * 2


class Registers(Functional):
    def __init_subclass__(cls):
        raise RuntimeError("known already")


class Metaclass(type):
    pass


class WithMetaclass(Functional, metaclass=Metaclass):
    pass


class SquaredDistances(MinibatchDiscrimination):
    """Looks like the one that everybody copies."""

    def forward(self, x):
        M = x.mm(self.T.view(self.in_features, -1)).view(-1, self.out_features, self.kernel_dims)
        o = torch.exp(-(M.unsqueeze(0) - M.unsqueeze(1)).square().sum(3)).sum(0) - 1
        return torch.cat([x, o], 1)


class Breaks(MinibatchDiscrimination):
    def forward(self, x):
        raise RuntimeError("only on Tuesdays")


class WithBias(MinibatchDiscrimination):
    def __init__(self, *args):
        super().__init__(*args)
        self.bias = nn.Parameter(torch.zeros(self.out_features))


def with_forward_of_its_own(module):
    forward = type(module).forward
    module.forward = lambda *args: forward(module, *args)
    return module


LEFT = {
    "in place": (lambda: nn.Hardtanh(inplace=True), "works in place"),
    "in place 6": (lambda: nn.ReLU6(inplace=True), "works in place"),
    "elu": (lambda: nn.ELU(), "bias_act's elu has a slower first derivative"),
    "selu": (lambda: nn.SELU(), "bias_act's selu has a slower first derivative"),
    "elu alpha": (lambda: nn.ELU(0.5), "alpha is 0.5, bias_act's elu has 1"),
    "softplus": (lambda: nn.Softplus(), "above its threshold of 20.0 PyTorch's second derivative is 0"),
    "softplus beta": (lambda: nn.Softplus(2.0, 100), "beta is 2.0, bias_act's softplus has 1"),
    "sigmoid": (lambda: nn.Sigmoid(), "bias_act's sigmoid is not faster"),
    "silu": (lambda: nn.SiLU(), "bias_act's swish has a slower first derivative"),
    "instance": (lambda: with_forward_of_its_own(nn.ReLU()), "its instance has a forward of its own"),
    "instance conv": (lambda: with_forward_of_its_own(nn.Conv1d(2, 2, 1)), "its instance has a forward of its own"),
    "instance T": (
        lambda: with_forward_of_its_own(MinibatchDiscrimination(3, 2, 2)), "its instance has a forward of its own"
    ),
    "subclass": (OwnForward, "a subclass of LeakyReLU, which may compute something else"),
    "lazy": (lambda: nn.LazyConv2d(2, 1), "has no weight yet: accelerate it after a forward pass"),
    "padding": (lambda: nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular"), "padding_mode is 'circular'"),
    "minibatch std": (MinibatchStdDev, "could not be run on a copy in float64: Tensors must have same number of dim"),
    "minibatch_std": (Minibatch_StdLayer, "computes something else"),
    "squared": (lambda: SquaredDistances(4, 3, 2), "looks like minibatch discrimination but computes something else"),
    "breaks": (lambda: Breaks(4, 3, 2), "could not be run on a copy in float64: only on Tuesdays"),
    "bias": (lambda: WithBias(4, 3, 2), "has more in it than the parameter T"),
    "batch norm": (lambda: nn.BatchNorm2d(3), "nothing to replace"),
    "ours": (lambda: fastgan.nn.BiasAct(3), "nothing to replace"),
    "unknown": (Unknown, "its code names no function that fastgan replaces"),
    "registers": (Registers, "its class runs code of its own where a subclass is made"),
    "metaclass": (WithMetaclass, "its class runs code of its own where a subclass is made"),
    "instance functional": (lambda: with_forward_of_its_own(Functional()), "its instance has a forward of its own"),
}  # fmt: skip


@pytest.mark.parametrize("name", LEFT)
def test_what_is_left_is_left_and_the_report_says_why(name):
    make, reason = LEFT[name]
    layer = make()
    kind = type(layer)
    (row,) = fastgan.accelerate(nn.Sequential(layer)).rows
    assert (row.path, row.became) == ("0", None)
    assert reason in row.reason
    assert type(layer) is kind
    assert reason in str(fastgan.accelerate(layer))  # the model itself


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_is_left():
    (row,) = fastgan.accelerate(nn.Sequential(torch.jit.script(nn.ReLU()))).rows
    assert row.reason == "compiled by TorchScript"


def hooked(module):
    module.register_forward_hook(lambda *args: None)
    return module


APART = {
    "hook": (lambda: [hooked(nn.Conv2d(2, 2, 1)), nn.ReLU()], "a hook may see what is between them"),
    "hook on the activation": (lambda: [nn.Linear(2, 2), hooked(nn.ReLU())], "a hook may see what is between them"),
    "instance": (lambda: [nn.Linear(2, 2), with_forward_of_its_own(nn.Tanh())], "a hook may see what is between them"),
    "slope": (lambda: [nn.Linear(2, 2), nn.LeakyReLU(-0.1)], "negative_slope is -0.1"),
    "leaves": (lambda: [nn.Linear(2, 2), nn.LeakyReLU(0.1)], "the result may be changed in place"),
    "passed on": (
        lambda: [nn.Linear(2, 2), nn.LeakyReLU(0.1), nn.Dropout(), nn.ReLU(inplace=True)],
        "the result may be changed in place",
    ),
    "unknown": (lambda: [nn.Linear(2, 2), nn.LeakyReLU(0.1), Unknown()], "the result may be changed in place"),
}


@pytest.mark.parametrize("name", APART)
def test_why_a_pair_stays_apart(name):
    make, reason = APART[name]
    net = nn.Sequential(*make())
    report = fastgan.accelerate(net)
    (row,) = [row for row in report.rows if row.path == "0 + 1"]
    assert row.became is None
    assert reason in row.reason


def test_pairs_are_found_in_nested_sequentials_once():
    inner = nn.Sequential(nn.Conv2d(2, 2, 1), nn.LeakyReLU(0.2))
    net = nn.Sequential(inner, nn.Conv2d(2, 2, 1), nn.Tanh(), nn.Linear(2, 2, bias=False), nn.ReLU())
    report = fastgan.accelerate(net)
    found = {row.path: row.became for row in report.rows if " + " in row.path}
    assert found == {"0.0 + 0.1": "bias_act in one pass", "1 + 2": "bias_act in one pass"}
    fastgan.restore(net)
    assert type(net) is nn.Sequential
    assert type(inner) is nn.Sequential


def count_bias_act(monkeypatch):
    calls = []
    original = sequential.bias_act
    monkeypatch.setattr(sequential, "bias_act", lambda *args, **kwargs: calls.append(args) or original(*args, **kwargs))
    return calls


def test_hooks_that_come_later_see_what_they_would(monkeypatch, generator):
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.ReLU())
    x = torch.randn(2, 3, 4, 4, generator=generator)
    fastgan.accelerate(net)
    calls = count_bias_act(monkeypatch)
    net(x)
    assert not calls  # on a CPU
    monkeypatch.setattr(sequential, "BIAS_IS_FREE", frozenset())
    net(x)
    assert len(calls) == 2
    seen = []
    handle = net[0].register_forward_hook(lambda module, args, y: seen.append(y))
    net(x)
    assert len(calls) == 3
    torch.testing.assert_close(seen[0], torch.nn.functional.conv2d(x, net[0].weight, net[0].bias))
    handle.remove()
    handle = nn.modules.module.register_module_forward_hook(lambda *args: None)
    net(x)
    handle.remove()
    assert len(calls) == 3
    net(x)
    assert len(calls) == 5


def test_the_table_names_every_layer_and_counts():
    model = nn.Sequential(*(nn.Conv2d(3, 3, 1) for _ in range(5)), nn.BatchNorm2d(3))
    report = fastgan.accelerate(model)
    assert len(report.replaced) == 5
    assert len(report.left) == 1
    assert str(report).splitlines() == [
        "accelerate: 5 replaced, 1 left",
        "layers              class        became       reason",
        "0, 1, 2 and 2 more  Conv2d       convolution",
        "5                   BatchNorm2d  left         nothing to replace",
    ]
    assert "(the model)" in str(fastgan.accelerate(nn.ReLU()))
    assert str(fastgan.accelerate(nn.Module())).startswith("accelerate: 0 replaced")


def test_rows_follow_the_model_and_a_shared_layer_has_one():
    rows = fastgan.accelerate(Residual()).rows
    assert [row.path for row in rows] == ["", "stem", "first", "second", "act", "out"]


def test_profile_measures_on_copies(generator):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.LeakyReLU(0.2), nn.Dropout())
    x = torch.randn(2, 3, 8, 8, generator=generator)
    state = {name: t.clone() for name, t in model.state_dict().items()}
    random = torch.get_rng_state()
    report = fastgan.accelerate(model, profile=(x,))
    assert report.before_ms > 0
    assert report.after_ms > 0
    assert "ms before" in str(report)
    assert all(torch.equal(t, state[name]) for name, t in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(random, torch.get_rng_state())
    assert fastgan.accelerate(model).before_ms is None


def test_profile_of_several_outputs_and_of_none_that_needs_a_gradient(generator):
    class Several(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv1d(1, 1, 1)

        def forward(self, x, scale):
            return {"y": [self.conv(x) * scale, (x,)], "n": 3}

    x = torch.randn(2, 1, 8, generator=generator)
    assert fastgan.accelerate(Several(), profile=(x, 2.0)).after_ms > 0
    assert fastgan.accelerate(nn.ReLU(), profile=(x,)).after_ms > 0


def test_errors_name_the_argument_and_change_nothing():
    with pytest.raises(TypeError, match=r"accelerate: model is int, expected a torch\.nn\.Module"):
        fastgan.accelerate(3)
    with pytest.raises(TypeError, match=r"restore: model is type, expected a torch\.nn\.Module"):
        fastgan.restore(nn.ReLU)
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU())
    with pytest.raises(TypeError, match="accelerate: profile is Tensor, expected a tuple of the model's arguments"):
        fastgan.accelerate(model, profile=torch.zeros(1))
    with pytest.raises(RuntimeError, match="channels"):
        fastgan.accelerate(model, profile=(torch.zeros(1, 2, 3, 3),))
    model.uncopyable = (i for i in range(3))
    with pytest.raises(TypeError, match="accelerate: profile needs a copy of the model, which cannot be copied"):
        fastgan.accelerate(model, profile=(torch.zeros(1, 1, 3, 3),))
    assert not any(is_replacement(type(m)) for m in model.modules())


def test_restore_of_a_model_that_was_not_accelerated_changes_nothing():
    model = nn.Sequential(spectral_norm(nn.Conv2d(1, 1, 1)), MinibatchDiscrimination(1, 1, 1))
    kinds = [type(m) for m in model.modules()]
    fastgan.restore(model)
    assert [type(m) for m in model.modules()] == kinds


def test_the_function_is_not_hidden_by_its_module():
    code = (
        "import fastgan; from fastgan import accelerate, accelerated, restore\n"
        "import fastgan.acceleration\n"
        "print(callable(fastgan.accelerate), callable(accelerate), callable(fastgan.restore))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "True True True", result.stderr
