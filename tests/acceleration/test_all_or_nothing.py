"""A model stays as it was if an exception is raised while it is changed in place."""

import random

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, remove_spectral_norm
from torch.nn.utils import spectral_norm as hook_norm
from torch.nn.utils import weight_norm as hook_weight_norm

import fastgan
from fastgan.nn import SpectralNormGroup, spectral_norm, spectral_norm_
from tests.acceleration.normalised_layers import BigGANConv2d, MimicryConv2d
from tests.acceleration.zoo import MinibatchStdLayer
from tests.stopping import calls_of, stops


def build():
    bias = nn.Conv2d(4, 4, 1)
    nn.utils.parametrize.register_parametrization(bias, "bias", nn.Identity())
    return nn.Sequential(
        parametrizations.spectral_norm(nn.Conv2d(3, 4, 3)), nn.LeakyReLU(0.2),
        nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU(), bias), nn.Tanh(),
        MinibatchStdLayer(2), nn.Conv2d(5, 4, 1), nn.Flatten(), nn.Linear(64, 3),
    )  # fmt: skip


def build_normalised():
    return nn.Sequential(
        hook_norm(nn.Conv2d(3, 4, 3)), nn.LeakyReLU(0.2), MimicryConv2d(4, 4, 3), nn.ReLU(), BigGANConv2d(4, 4, 1),
        parametrizations.spectral_norm(nn.Conv2d(4, 2, 1)), nn.Flatten(), nn.Linear(32, 3),
    )  # fmt: skip


def state_of(model):
    """What `all_or_nothing` promises, taken apart."""
    found = []
    for name, module in model.named_modules():
        found.append((name, type(module), sorted(set(vars(type(module))) - {"__slotnames__"})))
        for key, value in vars(module).items():
            if isinstance(value, dict):
                found.append((name, key, [(k, id(v), type(v)) for k, v in value.items()]))
            else:
                found.append((name, key, sorted(value) if isinstance(value, set) else id(value)))
    return found


CHANGES = {
    "spectral_norm_": (build, spectral_norm_),
    "accelerate": (build, fastgan.accelerate),
    "accelerate norms": (build_normalised, fastgan.accelerate),
    "restore": (lambda: accelerated(build()), fastgan.restore),
    "restore norms": (lambda: accelerated(build_normalised()), fastgan.restore),
    "spectral_norm": (lambda: nn.Conv2d(3, 4, 3), spectral_norm),
    "group": (lambda: spectral_norm_(build()), SpectralNormGroup),
}


def accelerated(model):
    fastgan.accelerate(model)
    return model


@pytest.mark.parametrize("change", CHANGES)
def test_an_exception_anywhere_leaves_the_model_as_it_was(change, seed):
    make, apply = CHANGES[change]
    rng = random.Random(seed)
    torch.manual_seed(seed)
    total, stopped = calls_of(apply, make()), 0
    for _ in range(12):
        model = make()
        before = state_of(model)
        if stops(apply, model, after=rng.randrange(total)):
            stopped += 1
            assert state_of(model) == before
    assert stopped


def test_a_profile_that_fails_after_the_change(seed):
    class Failing(nn.Module):
        calls = 0

        def forward(self, x):
            Failing.calls += 1
            if Failing.calls > 3:
                raise RuntimeError("not again")
            return x

    torch.manual_seed(seed)
    model = nn.Sequential(build(), Failing())
    before = state_of(model)
    with pytest.raises(RuntimeError, match="not again"):
        fastgan.accelerate(model, profile=(torch.randn(2, 3, 8, 8),))
    assert state_of(model) == before


@pytest.mark.parametrize(("older", "message"), [
    (hook_norm, r"the weight of '2.1' is no parameter .*remove_spectral_norm"),
    (hook_weight_norm, r"the weight of '2.1' is no parameter .*remove_weight_norm"),
    (lambda layer: nn.LazyConv2d(4, 3), r"the weight of '2.1' has no shape yet"),
])  # fmt: skip
def test_spectral_norm_looks_before_it_changes_anything(older, message):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Sequential(nn.ReLU(), older(nn.Conv2d(4, 4, 3))))
    before = state_of(model)
    with pytest.raises(ValueError, match=message):
        spectral_norm_(model)
    assert state_of(model) == before
    assert spectral_norm_(model, skip=("2.1",)) is model
    if older is hook_norm:
        model = nn.Sequential(nn.Conv2d(3, 4, 3), older(nn.Conv2d(4, 4, 3)))
        remove_spectral_norm(model[1])
        spectral_norm_(model)


def test_a_weight_with_another_parametrization_gets_the_norm_on_top(seed):
    """As torch's norm does, and not left out in silence."""
    torch.manual_seed(seed)
    theirs = nn.Sequential(parametrizations.weight_norm(nn.Linear(6, 5))).double()
    ours = nn.Sequential(parametrizations.weight_norm(nn.Linear(6, 5))).double()
    ours.load_state_dict(theirs.state_dict())
    torch.manual_seed(seed)
    parametrizations.spectral_norm(theirs[0])
    torch.manual_seed(seed)
    spectral_norm_(ours)
    x = torch.randn(2, 6, dtype=torch.float64)
    for _ in range(3):
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-11, atol=1e-12)
    with pytest.raises(ValueError, match="spectral_norm_: nothing in the model is a convolution"):
        spectral_norm_(nn.ReLU())
