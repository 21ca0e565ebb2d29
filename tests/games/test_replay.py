"""Closures that draw from PyTorch's global generators draw the same in all calls of one step."""

import math

import pytest
import torch
from torch import nn
from torch.optim import SGD

from fastgan.games import Extragradient, RungeKutta, VarianceReducedExtragradient
from fastgan.games.replay import Replayed

LR = 0.1


class Noisy:
    """L_critic = a |x|^2 / 2 and L_generator = b |y|^2 / 2, with a and b drawn at every call: v(w) = (a x, b y)."""

    def __init__(self):
        self.x, self.y = (torch.ones(2, dtype=torch.float64, requires_grad=True) for _ in range(2))
        self.drawn = []

    def loss(self, parameter):
        self.drawn.append(torch.rand([], dtype=torch.float64))
        return self.drawn[-1] * (parameter**2).sum() / 2

    def critic(self):
        return self.loss(self.x)

    def generator(self):
        return self.loss(self.y)

    def game(self, kind, *settings):
        return kind(SGD([self.x], lr=LR), SGD([self.y], lr=LR), *settings)


@pytest.fixture
def noisy(generator):
    return Noisy()


def two_draws():
    """What two calls draw from here, and the state after them."""
    with torch.random.fork_rng(devices=[]):
        return torch.rand([], dtype=torch.float64), torch.rand([], dtype=torch.float64), torch.get_rng_state()


@pytest.mark.parametrize("order", [2, 4])
def test_every_slope_of_runge_kutta_is_of_one_game(noisy, order):
    """exp(-lr a) to that order, for one a."""
    a, b, after = two_draws()
    noisy.game(RungeKutta, order).step(noisy.critic, noisy.generator)
    assert noisy.drawn == [a, b] * order
    for parameter, drawn in ((noisy.x, a), (noisy.y, b)):
        expected = sum((-LR * drawn) ** k / math.factorial(k) for k in range(order + 1))
        torch.testing.assert_close(parameter.detach(), expected.expand(2), rtol=1e-12, atol=1e-12)
    assert torch.equal(torch.get_rng_state(), after)


def test_variance_reduction_at_its_snapshot_descends_along_the_mean(noisy):
    game = noisy.game(VarianceReducedExtragradient)
    game.snapshot([(noisy.critic, noisy.generator)] * 3)
    mean = [torch.stack(noisy.drawn[i::2]).mean() for i in (0, 1)]
    noisy.drawn.clear()
    a, b, after = two_draws()
    game.step(noisy.critic, noisy.generator)
    assert noisy.drawn == [a, b] * 3  # here, at the snapshot, ahead
    for parameter, drawn, of_all in zip((noisy.x, noisy.y), (a, b), mean, strict=True):
        ahead = 1 - LR * of_all  # the batch's own terms cancel
        expected = 1 - LR * (drawn * (ahead - 1) + of_all)
        torch.testing.assert_close(parameter.detach(), expected.expand(2), rtol=1e-12, atol=1e-12)
    assert torch.equal(torch.get_rng_state(), after)


def test_other_methods_draw_anew(noisy):
    noisy.game(Extragradient).step(noisy.critic, noisy.generator)
    assert len(set(map(float, noisy.drawn))) == 4


def test_the_generators_are_put_back_after_an_error(generator):
    calls = []

    def closure():
        calls.append(torch.rand([]))
        if len(calls) == 2:
            raise ZeroDivisionError
        return calls[-1]

    replayed = Replayed(closure, [])
    replayed()
    state = torch.get_rng_state()
    with pytest.raises(ZeroDivisionError):
        replayed()
    assert torch.equal(torch.get_rng_state(), state)
    assert replayed() == calls[0] == calls[1]


@pytest.mark.gpu
def test_draws_on_a_gpu(generator):
    layer = nn.Dropout()
    replayed = Replayed(lambda: layer(torch.ones(1000, device="cuda")), [torch.device("cuda", 0)])
    first = replayed()
    after = torch.cuda.get_rng_state(0)
    assert torch.equal(replayed(), first)
    assert torch.equal(torch.cuda.get_rng_state(0), after)
    assert not torch.equal(layer(torch.ones(1000, device="cuda")), first)
