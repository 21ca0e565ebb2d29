"""SVRE on a sum of quadratic games, one for each batch."""

import numpy as np
import pytest
import torch
from torch.optim import SGD

from fastgan.games import Extragradient, VarianceReducedExtragradient
from tests.games.games import Quadratic

LR = 0.05


@pytest.fixture
def rng(seed):
    return np.random.default_rng(seed)


class Batches:
    """L_i with Jacobian J_i and an offset: v_i(w) = J_i w + c_i, the offsets of mean zero."""

    def __init__(self, rng, count=4):
        self.games = []
        shape = Quadratic(*(np.zeros(size) for size in ((2, 2), (2, 3), (3, 3), (3, 2))))
        self.x, self.y = shape.x, shape.y
        self.shape = shape
        mixed = rng.normal(size=(2, 3))
        for _ in range(count):
            noise = 0.1 * rng.normal(size=(2, 3))
            q = Quadratic(np.eye(2), mixed + noise, np.eye(3), -(mixed + noise).T)
            q.x, q.y = self.x, self.y
            self.games.append(q)
        c = rng.normal(size=(count, 5))
        self.c = c - c.mean(axis=0)

    def v(self, i, w):
        return self.games[i].J @ w + self.c[i]

    def closures(self, i):
        q, c = self.games[i], torch.as_tensor(self.c[i])

        def critic():
            return q.critic() + torch.cat([t.flatten() for t in q.x]) @ c[:2]

        def generator():
            return q.generator() + torch.cat([t.flatten() for t in q.y]) @ c[2:]

        return critic, generator

    def optimizers(self):
        return SGD(self.x, lr=LR), SGD(self.y, lr=LR)


def test_the_algorithm_written_out(rng):
    batches = Batches(rng)
    w = snapshot = rng.normal(size=5)
    batches.shape.w = w
    game = VarianceReducedExtragradient(*batches.optimizers())
    mean = np.mean([batches.v(i, snapshot) for i in range(4)], axis=0)
    game.snapshot(batches.closures(i) for i in range(4))
    np.testing.assert_array_equal(batches.shape.w, w)
    for i in (2, 0, 3):
        correction = mean - batches.v(i, snapshot)
        ahead = w - LR * (batches.v(i, w) + correction)
        w = w - LR * (batches.v(i, ahead) + correction)
        game.step(*batches.closures(i))
        np.testing.assert_allclose(batches.shape.w, w, rtol=1e-10, atol=1e-10)


def test_converges_where_minibatches_keep_extragradient_away(rng):
    batches, order = Batches(rng), rng.integers(4, size=400)
    distance = {}
    for kind in (Extragradient, VarianceReducedExtragradient):
        batches.shape.w = np.ones(5)
        game = kind(*batches.optimizers())
        for step, i in enumerate(order):
            if kind is VarianceReducedExtragradient and step % 4 == 0:
                game.snapshot(batches.closures(j) for j in range(4))
            game.step(*batches.closures(i))
        distance[kind] = np.linalg.norm(batches.shape.w)
    assert distance[VarianceReducedExtragradient] < 1e-5
    assert distance[Extragradient] > 1e-2


def test_errors(rng):
    batches = Batches(rng)
    game = VarianceReducedExtragradient(*batches.optimizers())
    with pytest.raises(RuntimeError, match="step before snapshot, expected one at each epoch's start"):
        game.step(*batches.closures(0))
    with pytest.raises(ValueError, match="batches is empty"):
        game.snapshot([])
