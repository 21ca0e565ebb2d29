"""SVRE on a sum of quadratic games, one for each batch."""

import copy

import numpy as np
import pytest
import torch
from torch.optim import SGD

from fastgan.games import Closures, Extragradient, VarianceReducedExtragradient
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

    def engine(self, game, i):
        """The next batch is the i-th."""
        return Closures(game, *self.closures(i), epoch=lambda: (self.closures(j) for j in range(len(self.games))))

    def optimizers(self):
        return SGD(self.x, lr=LR), SGD(self.y, lr=LR)

    def expected(self, w, order, snapshots):
        """w after each step by the algorithm written out, with a snapshot before each of those steps."""
        found = []
        for step, i in enumerate(order):
            if step in snapshots:
                snapshot, mean = w, np.mean([self.v(j, w) for j in range(len(self.games))], axis=0)
            correction = mean - self.v(i, snapshot)
            ahead = w - LR * (self.v(i, w) + correction)
            w = w - LR * (self.v(i, ahead) + correction)
            found.append(w)
        return found


def test_the_algorithm_written_out(rng):
    """The snapshot is taken before the first step, and then after as many as there are batches."""
    batches, order = Batches(rng), (2, 0, 3, 3, 1, 1, 0, 2, 2, 1)
    batches.shape.w = w = rng.normal(size=5)
    game = VarianceReducedExtragradient(*batches.optimizers())
    for i, expected in zip(order, batches.expected(w, order, (0, 4, 8)), strict=True):
        game.step(batches.engine(game, i))
        np.testing.assert_allclose(batches.shape.w, expected, rtol=1e-10, atol=1e-10)


def test_a_snapshot_out_of_turn_begins_the_count_again(rng):
    batches, order = Batches(rng), (2, 0, 3, 3, 1, 1, 0, 2, 2, 1)
    batches.shape.w = w = rng.normal(size=5)
    game = VarianceReducedExtragradient(*batches.optimizers())
    for step, (i, expected) in enumerate(zip(order, batches.expected(w, order, (0, 3, 7)), strict=True)):
        engine = batches.engine(game, i)
        if step in (0, 3):
            before = batches.shape.w
            game.snapshot(engine)
            np.testing.assert_array_equal(batches.shape.w, before)
        game.step(engine)
        np.testing.assert_allclose(batches.shape.w, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("at", range(1, 6))
def test_a_game_resumed_in_the_middle_takes_its_next_snapshot_in_time(at, rng):
    batches, order, taken = Batches(rng), (2, 0, 3, 3, 1, 1, 0, 2, 2, 1), []
    batches.shape.w = w = rng.normal(size=5)
    game = VarianceReducedExtragradient(*batches.optimizers())
    expected = batches.expected(w, order, (0, 4, 8))
    for step, i in enumerate(order):
        if step == at:
            state = copy.deepcopy(game.state_dict())
            game = VarianceReducedExtragradient(*batches.optimizers())
            game.load_state_dict(state)
        snapshot = game.memory.get("mean")
        game.step(batches.engine(game, i))
        if game.memory["mean"][0] is not (snapshot and snapshot[0]):
            taken.append(step)
        np.testing.assert_allclose(batches.shape.w, expected[step], rtol=1e-10, atol=1e-10)
    assert taken == [0, 4, 8]
    assert [tensor.item() for name in ("steps", "batches") for tensor in game.memory[name]] == [2, 4]


def test_every_evaluation_of_a_step_is_of_one_batch(rng):
    """And a snapshot's of its own, before."""
    batches, seen = Batches(rng), []
    game = VarianceReducedExtragradient(*batches.optimizers())
    engine = batches.engine(game, 0)

    class Watched:
        def epoch(self):
            return engine.epoch()

        def batch(self):
            seen.append("batch")
            return engine.batch()

        def gradient(self, side, batch):
            seen.append((side, batch.key))
            return engine.gradient(side, batch)

    game.step(Watched())
    of_epoch, of_step = seen[: seen.index("batch")], seen[seen.index("batch") + 1 :]
    assert [side for side, _ in of_epoch + of_step] == ["critic", "generator"] * (4 + 3)
    assert len({key for _, key in of_epoch}) == 4
    assert len({key for _, key in of_step}) == 1


def test_converges_where_minibatches_keep_extragradient_away(rng):
    batches, order = Batches(rng), rng.integers(4, size=400)
    distance = {}
    for kind in (Extragradient, VarianceReducedExtragradient):
        batches.shape.w = np.ones(5)
        game = kind(*batches.optimizers())
        for i in order:
            game.step(batches.engine(game, i))
        distance[kind] = np.linalg.norm(batches.shape.w)
    assert distance[VarianceReducedExtragradient] < 1e-5
    assert distance[Extragradient] > 1e-2


def test_no_batch_at_all(rng):
    batches = Batches(rng)
    game = VarianceReducedExtragradient(*batches.optimizers())
    empty = Closures(game, *batches.closures(0), epoch=list)
    for refused in (game.snapshot, game.step):
        with pytest.raises(ValueError, match="the epoch is empty, expected batches of the whole data"):
            refused(empty)
    assert not game.memory
