"""Which of torch's functions a module's code names."""

import functools

import pytest
import torch
from torch import nn

from fastgan.acceleration.named_functions import named_functions
from tests.acceleration.functional_layers import OwnWeight, Recursive, Renamed, Squashed, Standardised


class ChildNamedRelu(nn.Module):
    def __init__(self):
        super().__init__()
        self.relu = nn.ReLU()

    def forward(self, x):
        return self.relu(x)


class OfBase(Standardised):
    def forward(self, x):
        return Standardised.forward(self, x)


class Cached(nn.Module):
    @functools.cached_property
    def relu(self):
        raise RuntimeError("asked for")

    def forward(self, x):
        return self.relu(x)


class Decorated(nn.Module):
    @torch.no_grad()
    def forward(self, x):
        return x.abs()


class InClosure(nn.Module):
    def forward(self, x):
        def inside(y):
            return [torch.nn.functional.hardtanh(z) for z in y]

        return inside(x)


NAMED = {
    "own weight": (lambda: OwnWeight(2, 2), ["conv2d", "leaky_relu"]),
    "subclass": (lambda: Standardised(2, 2, 1), ["conv2d"]),
    "renamed": (lambda: Renamed(2, 2, 1), ["conv2d"]),
    "super": (lambda: Squashed(2), ["abs", "conv2d", "hardtanh", "leaky_relu", "relu", "relu6"]),
    "a base class": (lambda: OfBase(2, 2, 1), ["conv2d"]),
    "recursive": (Recursive, ["leaky_relu"]),
    "in a closure": (InClosure, ["hardtanh"]),
    "decorated": (Decorated, ["abs"]),
    "a child": (ChildNamedRelu, []),
    "a cached property": (Cached, []),
}


@pytest.mark.parametrize("name", NAMED)
def test_the_functions_that_a_module_names(name):
    make, names = NAMED[name]
    assert named_functions(make()) == names
