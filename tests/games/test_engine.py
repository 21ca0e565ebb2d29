"""What each method asks of its engine: how many batches, and whose gradient of which."""

import pytest

from fastgan.games import (
    GAMES,
    Alternating,
    Closures,
    Lookahead,
    RungeKutta,
    Simultaneous,
    VarianceReducedExtragradient,
)
from tests.games.games import engine_of
from tests.games.test_networks import EVERY, Pair


class Watched:
    """An engine that writes down what it is asked for; a batch is called by its number, one from `again` by that of
    the first with the same data and a dash."""

    def __init__(self, engine):
        self.engine, self.asked, self.names = engine, [], {}

    def batch(self):
        found = self.engine.batch()
        self.names[found.key] = str(len(self.names))
        return found

    def again(self, batch):
        found = self.engine.again(batch)
        self.names[found.key] = self.names[batch.key] + "'"
        return found

    def epoch(self):
        for found in self.engine.epoch():
            self.names[found.key] = "epoch"
            yield found

    def gradient(self, side, batch):
        self.asked.append((side, self.names[batch.key]))
        return self.engine.gradient(side, batch)

    def losses(self, batch):
        self.asked.append(("both", self.names[batch.key]))
        return self.engine.losses(batch)


@pytest.fixture
def pair(generator):
    return Pair(generator)


def asked(pair, game, steps=1):
    """What some steps of the game ask for."""
    engine = Watched(engine_of(game, pair.critic_loss, pair.generator_loss))
    for _ in range(steps):
        game.step(engine)
    return engine.asked


def both(batch, again=""):
    return [("critic", batch), ("generator", batch + again)]


EXPECTED = {
    "alternating": both("0", "'"),
    "simultaneous": both("0", "'"),
    "extragradient": both("0", "'") + both("2", "'"),
    "past-extragradient": both("0", "'"),
    "optimistic": both("0", "'"),
    "variance-reduced": both("epoch") * 4 + both("4") * 3,
    "lookahead": both("0", "'"),
    "runge-kutta": both("0") * 2,
}


@EVERY
def test_one_step(kind, pair):
    assert asked(pair, pair.game(kind)) == EXPECTED.get(kind.name, [("both", "0")])


def test_one_step_with_settings(pair):
    critics = [("critic", str(i)) for i in range(3)]
    assert asked(pair, pair.game(Alternating, critic_steps=3)) == [*critics, ("generator", "2'")]
    assert asked(pair, pair.game(RungeKutta, order=4, weight=0.1)) == [("both", "0"), *both("0") * 4]


def test_two_steps_of_lookahead_are_of_its_inner_method(pair):
    game = pair.game(Lookahead, k=2, inner=VarianceReducedExtragradient)
    assert asked(pair, game, 2) == both("epoch") * 4 + both("4") * 3 + both("5") * 3


@pytest.mark.parametrize("kind", [Simultaneous, VarianceReducedExtragradient, GAMES["consensus"]])
def test_gradients_of_one_batch_or_of_the_next(kind, pair):
    game = pair.game(kind)
    engine = Watched(Closures(game, pair.critic_loss, pair.generator_loss))
    expected = pair.critic_loss(), pair.generator_loss()
    for losses in (game.differentiate(engine), game.differentiate(engine, engine.batch())):
        assert [(a.item(), a.requires_grad) for a in losses] == [(b.item(), False) for b in expected]
    assert engine.asked == both("0", "'") + both("2")
