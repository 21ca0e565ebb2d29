"""A TorchFunctionMode that changes what torch's functions do: it has its effect with fastgan's in their place."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

import fastgan
from tests.penalties.common import ALL, METHODS, assert_same, plain
from tests.penalties.critics import gradients, textbook


class Doubled(TorchFunctionMode):
    """Doubles what one function returns."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def __torch_function__(self, func, types, args=(), kwargs=None):
        y = func(*args, **(kwargs or {}))
        return 2 * y if func is self.function else y


FUNCTIONS = {"leaky_relu": F.leaky_relu, "conv2d": torch.conv2d}


def critic() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(12, 1)).double()


@pytest.mark.parametrize("where", ["around the call", "in the critic"])
@pytest.mark.parametrize("accelerated", [False, True])
@pytest.mark.parametrize("method", [*METHODS, "auto"])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_penalties(function, method, accelerated, where):
    network, (real, fake) = critic(), torch.randn(2, 4, 2, 4, 4).double()
    with Doubled(FUNCTIONS[function]):
        truth = gradients(network, textbook(network, real, fake, None, plain, r1=2, r2=5))
    if accelerated:
        fastgan.accelerate(network)

    def inside(x: Tensor) -> Tensor:
        with Doubled(FUNCTIONS[function]):
            return network(x)

    if where == "in the critic":
        total = fastgan.critic_loss(inside, real, fake, penalties=ALL, method=method)
    else:
        with Doubled(FUNCTIONS[function]):
            total = fastgan.critic_loss(network, real, fake, penalties=ALL, method=method)
    assert_same(gradients(network, total), truth)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_accelerated_models_and_functions(function):
    network, x = critic(), torch.randn(4, 2, 4, 4).double()
    with Doubled(FUNCTIONS[function]):
        expected = network(x)
        with fastgan.accelerated():
            torch.testing.assert_close(network(x), expected)
        fastgan.accelerate(network)
        torch.testing.assert_close(network(x), expected)
    assert not torch.allclose(network(x), expected)
