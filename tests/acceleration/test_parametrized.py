"""Convolutions under torch.nn.utils.parametrize: normalised, released and normalised again, in any order."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

import fastgan
from tests.acceleration.zoo import assert_same, derivatives


class Double(nn.Module):
    def forward(self, w):
        return 2 * w


@pytest.fixture
def x(generator):
    return torch.randn(2, 4, 6, 6, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("make", [lambda: nn.Conv2d(4, 4, 3, groups=2), lambda: nn.ConvTranspose2d(4, 4, 3, 2)])
@pytest.mark.parametrize("norm", [spectral_norm, weight_norm])
def test_a_parametrized_convolution_is_replaced_and_given_back(make, norm, x, pairs):
    model = nn.Sequential(norm(make().double()), nn.ReLU())
    kind = type(model[0])
    original = copy.deepcopy(model)
    (row, *_) = fastgan.accelerate(model).rows
    assert row.became == "convolution below its parametrization"
    assert parametrize.is_parametrized(model[0], "weight")
    assert list(model.state_dict()) == list(original.state_dict())
    assert_same(derivatives(model, x), derivatives(original, x))
    assert type(original[0]) is kind  # parametrize shares the class among copies
    with pytest.raises(RuntimeError, match="state_dict"):
        pickle.dumps(model)
    fastgan.restore(model)
    assert type(model[0]) is kind
    assert_same(derivatives(model, x), derivatives(original, x))


def test_parametrizations_removed_from_an_accelerated_convolution(x):
    model = nn.Sequential(spectral_norm(nn.Conv2d(4, 4, 3, groups=2)).double())
    original = copy.deepcopy(model)
    fastgan.accelerate(model)
    for m in (model, original):
        parametrize.remove_parametrizations(m[0], "weight")
    assert parametrize.type_before_parametrizations(model[0]) is type(model[0])
    assert isinstance(model[0], nn.Conv2d)
    assert_same(derivatives(model, x), derivatives(original, x))
    fastgan.restore(model)
    assert type(model[0]) is nn.Conv2d


def test_parametrized_after_it_was_accelerated(x):
    model = nn.Sequential(nn.Conv2d(4, 4, 3, groups=2).double())
    original = copy.deepcopy(model)
    fastgan.accelerate(model)
    for m in (model, original):
        parametrize.register_parametrization(m[0], "weight", Double())
    assert_same(derivatives(model, x), derivatives(original, x))
    fastgan.accelerate(model)
    fastgan.restore(model)
    assert type(model[0]).__name__ == "ParametrizedConv2d"
    assert type(model[0]).__bases__ == (nn.Conv2d,)
    assert_same(derivatives(model, x), derivatives(original, x))
    parametrize.remove_parametrizations(model[0], "weight")
    assert type(model[0]) is nn.Conv2d


def test_another_tensor_parametrized_between_accelerate_and_restore(x):
    # Not a copy: parametrize shares the class of a module, and with it the properties, among its copies.
    model, original = (nn.Sequential(spectral_norm(nn.Conv2d(4, 4, 3)).double()) for _ in range(2))
    original.load_state_dict(model.state_dict())
    fastgan.accelerate(model)
    for m in (model, original):
        parametrize.register_parametrization(m[0], "bias", Double())
    assert_same(derivatives(model, x), derivatives(original, x))
    fastgan.restore(model)
    assert type(model[0]).__bases__ == (nn.Conv2d,)
    assert_same(derivatives(model, x), derivatives(original, x))
    copied = copy.deepcopy(model)
    assert_same(derivatives(copied, x), derivatives(model, x))
