"""Wrappers of a critic: those that only hand on are looked through, whatever else one does is part of the critic."""

import pytest
import torch
from torch import Tensor, nn

import fastgan
from fastgan.nn import PackedCritic, pack, unpack
from fastgan.penalties import differentiable_critic_loss
from fastgan.penalties.wrappers import unwrap
from tests.penalties.common import ALL, METHODS, assert_same, plain
from tests.penalties.critics import gradients, textbook

pytestmark = pytest.mark.usefixtures("one_thread")


class Halved(nn.DataParallel):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) / 2


class Holds(nn.Module):
    """No torch.compile, although it has a child of that name."""

    def __init__(self, critic: nn.Module) -> None:
        super().__init__()
        self._orig_mod = critic

    def forward(self, x: Tensor) -> Tensor:
        return 5 * self._orig_mod(x)


class TripledPacks(PackedCritic):
    def forward(self, x: Tensor) -> Tensor:
        return 3 * super().forward(x)


def compiled(critic: nn.Module) -> nn.Module:
    return torch.compile(critic, backend="eager")


def packed(critic: nn.Module) -> nn.Module:
    return PackedCritic(critic, 2)


def instance_forward(wrapper: nn.Module) -> nn.Module:
    original = wrapper.forward
    wrapper.forward = lambda x: 3 * original(x)
    return wrapper


def hooked(wrapper: nn.Module) -> nn.Module:
    wrapper.register_forward_hook(lambda module, inputs, output: 3 * output)
    return wrapper


def hooked_before(wrapper: nn.Module) -> nn.Module:
    wrapper.register_forward_pre_hook(lambda module, inputs: (3 * inputs[0],))
    return wrapper


WRAPPERS = {
    "DataParallel, hook": lambda c: hooked(nn.DataParallel(c)),
    "DataParallel, hook before": lambda c: hooked_before(nn.DataParallel(c)),
    "DataParallel, forward": lambda c: instance_forward(nn.DataParallel(c)),
    "DataParallel, subclass": Halved,
    "torch.compile, hook": lambda c: hooked(compiled(c)),
    "torch.compile, hook before": lambda c: hooked_before(compiled(c)),
    "torch.compile, forward": lambda c: instance_forward(compiled(c)),
    "a child _orig_mod": Holds,
    "a hooked one in a plain one": lambda c: nn.DataParallel(hooked(nn.DataParallel(c))),
}
PACKING = {
    "hook": lambda c: hooked(packed(c)),
    "hook before": lambda c: hooked_before(packed(c)),
    "forward": lambda c: instance_forward(packed(c)),
    "subclass": lambda c: TripledPacks(c, 2),
    "in a hooked wrapper": lambda c: hooked(nn.DataParallel(packed(c))),
    "around a hooked wrapper": lambda c: packed(hooked(nn.DataParallel(c))),
}


def mlp(features: int) -> nn.Module:
    return nn.Sequential(nn.Linear(features, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1)).double()


@pytest.mark.parametrize("method", [*METHODS, "auto"])
@pytest.mark.parametrize("kind", WRAPPERS)
def test_what_a_wrapper_does_is_part_of_the_critic(kind, method):
    wrapper = WRAPPERS[kind](mlp(6))
    real, fake = torch.randn(2, 4, 6).double()
    truth = textbook(wrapper, real, fake, None, plain, r1=2, r2=5)
    total = fastgan.critic_loss(wrapper, real, fake, loss=plain, penalties=ALL, method=method)
    torch.testing.assert_close(total.detach().as_subclass(Tensor), truth.detach())
    assert_same(gradients(wrapper, total), gradients(wrapper, truth))


@pytest.mark.parametrize("kind", PACKING)
@pytest.mark.parametrize("method", [*METHODS, "auto", "differentiable"])
def test_what_wraps_packs_is_called_and_the_penalty_is_of_packs(kind, method):
    wrapper = PACKING[kind](mlp(12))
    real, fake = torch.randn(2, 4, 6).double()
    truth = textbook(lambda x: wrapper(unpack(x, 2)), pack(real, 2), pack(fake, 2), None, plain, r1=2, r2=5)
    if method == "differentiable":
        total = differentiable_critic_loss(wrapper, real, fake, fastgan.losses.parse("nonsaturating"), ALL)
    else:
        total = fastgan.critic_loss(wrapper, real, fake, penalties=ALL, method=method)
    torch.testing.assert_close(total.detach().as_subclass(Tensor), truth.detach())
    assert_same(gradients(wrapper, total), gradients(wrapper, truth))


@pytest.mark.parametrize("wrap", [nn.DataParallel, compiled])
def test_wrappers_that_only_hand_on_are_looked_through(wrap):
    """Compiled code cannot be differentiated twice."""
    critic = mlp(6)
    assert unwrap(wrap(critic)) == (None, critic)
