"""The methods over Adam, against their papers' algorithms written out in numpy."""

import numpy as np
import pytest
import torch
from torch import nn

from fastgan.games import ExtraAdam, OptimisticAdam
from fastgan.games.player import Player
from tests.games.games import engine_of, random_quadratic

LR, LR_CRITIC, BETAS, EPS = 0.03, 0.05, (0.5, 0.9), 1e-8


class Adam:
    """Adam's step as a function of the gradient."""

    def __init__(self, size, critic):
        self.rate = np.where(np.arange(size) < critic, LR_CRITIC, LR)
        self.m, self.v, self.t = np.zeros(size), np.zeros(size), 0

    def __call__(self, g):
        self.t += 1
        self.m = BETAS[0] * self.m + (1 - BETAS[0]) * g
        self.v = BETAS[1] * self.v + (1 - BETAS[1]) * g**2
        mean, square = self.m / (1 - BETAS[0] ** self.t), self.v / (1 - BETAS[1] ** self.t)
        return self.rate * mean / (np.sqrt(square) + EPS)


@pytest.fixture
def quadratic(seed):
    rng = np.random.default_rng(seed)
    q = random_quadratic(rng)
    q.w = rng.normal(size=q.n + q.m)
    return q


def test_extra_adam(quadratic):
    q, adam, w = quadratic, Adam(7, 4), quadratic.w
    game = ExtraAdam(q.x, q.y, LR, LR_CRITIC, BETAS, EPS)
    for _ in range(5):
        ahead = w - adam(q.J @ w)
        w = w - adam(q.J @ ahead)
        game.step(engine_of(game, q.critic, q.generator))
        np.testing.assert_allclose(q.w, w, rtol=1e-9, atol=1e-9)


def test_optimistic_adam(quadratic):
    q, adam, w = quadratic, Adam(7, 4), quadratic.w
    game = OptimisticAdam(q.x, q.y, LR, LR_CRITIC, BETAS, EPS)
    before = np.zeros_like(w)
    for _ in range(5):
        update = adam(q.J @ w)
        w, before = w - 2 * update + before, update
        game.step(engine_of(game, q.critic, q.generator))
        np.testing.assert_allclose(q.w, w, rtol=1e-9, atol=1e-9)


def test_one_learning_rate_is_for_both(quadratic):
    game = ExtraAdam(quadratic.x, quadratic.y, lr=3e-4)
    assert [player.optimizer.param_groups[0]["lr"] for player in game.players] == [3e-4, 3e-4]


def test_gradients_in_another_memory_order_move_the_right_numbers(generator):
    """Fused Adam reads the storage of a gradient in the order of the parameter's; autograd.grad may return any."""
    parameters = [nn.Parameter(torch.zeros(3, 4)), nn.Parameter(torch.zeros(2, 3, 4, 4))]
    player = Player("critic", torch.optim.Adam(parameters, 0.1, eps=1e-30, fused=True))
    gradients = [torch.randn(4, 3).t(), torch.randn(3, 2, 4, 4).transpose(0, 1)]
    signs = [gradient.sign() for gradient in gradients]
    player.descend_along(gradients)
    for p, sign in zip(parameters, signs, strict=True):
        torch.testing.assert_close(p.detach(), -0.1 * sign)  # Adam's first step
