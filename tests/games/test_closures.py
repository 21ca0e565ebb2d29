"""The engine of closures: what it draws again, whose gradient it leaves where, which data it reads."""

import math
import weakref

import pytest
import torch
from torch import nn
from torch.optim import SGD

from fastgan.games import Closures, Extragradient, RungeKutta, VarianceReducedExtragradient
from fastgan.tasks import Batch
from tests.games.games import engine_of

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

    def engine(self, game):
        return engine_of(game, self.critic, self.generator)

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
    game = noisy.game(RungeKutta, order)
    game.step(noisy.engine(game))
    assert noisy.drawn == [a, b] * order
    for parameter, drawn in ((noisy.x, a), (noisy.y, b)):
        expected = sum((-LR * drawn) ** k / math.factorial(k) for k in range(order + 1))
        torch.testing.assert_close(parameter.detach(), expected.expand(2), rtol=1e-12, atol=1e-12)
    assert torch.equal(torch.get_rng_state(), after)


def test_variance_reduction_at_its_snapshot_descends_along_the_mean(noisy):
    game = noisy.game(VarianceReducedExtragradient)
    game.snapshot(noisy.engine(game))
    assert len(set(map(float, noisy.drawn))) == 8
    mean = [torch.stack(noisy.drawn[i::2]).mean() for i in (0, 1)]
    noisy.drawn.clear()
    a, b, after = two_draws()
    game.step(noisy.engine(game))
    assert noisy.drawn == [a, b] * 3  # here, at the snapshot, ahead
    for parameter, drawn, of_all in zip((noisy.x, noisy.y), (a, b), mean, strict=True):
        ahead = 1 - LR * of_all  # the batch's own terms cancel
        expected = 1 - LR * (drawn * (ahead - 1) + of_all)
        torch.testing.assert_close(parameter.detach(), expected.expand(2), rtol=1e-12, atol=1e-12)
    assert torch.equal(torch.get_rng_state(), after)


def test_other_methods_draw_anew(noisy):
    game = noisy.game(Extragradient)
    game.step(noisy.engine(game))
    assert len(set(map(float, noisy.drawn))) == 4


def test_one_key_replays_and_others_draw_anew(noisy):
    engine = noisy.engine(noisy.game(Extragradient))
    first = engine.batch()
    batches = {"first": first, "again": engine.again(first), "next": engine.batch()}
    assert len({batch.key for batch in batches.values()}) == 3
    values = {}
    for name, batch in batches.items():
        values[name] = [engine.gradient(side, batch).item() for side in ("critic", "generator")]
    assert len({value for pair in values.values() for value in pair}) == 6
    after = torch.get_rng_state()
    for name, batch in reversed(batches.items()):
        assert [loss.item() for loss in engine.losses(batch)] == values[name]
        assert [engine.gradient(side, batch).item() for side in ("generator", "critic")] == values[name][::-1]
    assert torch.equal(torch.get_rng_state(), after)
    torch.rand([])  # what others draw changes nothing
    assert engine.gradient("critic", first).item() == values["first"][0]


def test_first_calls_draw_as_the_closures_alone_would(noisy):
    engine = noisy.engine(noisy.game(Extragradient))
    a, b, after = two_draws()
    losses = engine.losses(engine.batch())
    assert [loss.item() for loss in losses] == [a, b]  # |x| = |y| = sqrt(2)
    assert torch.equal(torch.get_rng_state(), after)


def test_a_gradient_is_assigned_with_the_opponent_frozen(noisy):
    """In the place of an older one; the opponent's stays."""
    needed = []

    def critic():
        needed.append((noisy.x.requires_grad, noisy.y.requires_grad))
        return 3 * noisy.x.sum() * noisy.y.sum()

    def generator():
        needed.append((noisy.x.requires_grad, noisy.y.requires_grad))
        return 5 * noisy.x.sum() * noisy.y.sum()

    engine = Closures(noisy.game(Extragradient), critic, generator)
    batch = engine.batch()
    noisy.y.grad = torch.full_like(noisy.y, 9.0)
    with torch.no_grad():  # around the loop, say
        losses = [engine.gradient("critic", batch) for _ in range(2)]
    assert noisy.x.grad.tolist() == [6.0, 6.0]
    assert noisy.y.grad.tolist() == [9.0, 9.0]
    engine.gradient("generator", batch)
    assert noisy.y.grad.tolist() == [10.0, 10.0]
    assert noisy.x.grad.tolist() == [6.0, 6.0]
    assert needed == [(True, False), (True, False), (False, True)]
    assert [(loss.item(), loss.requires_grad) for loss in losses] == [(12.0, False)] * 2
    both = engine.losses(batch)
    assert needed[3:] == [(True, True)] * 2
    assert both.critic.requires_grad
    assert both.generator.requires_grad


def test_an_epoch_is_of_its_own_closures(noisy):
    game = noisy.game(Extragradient)
    pairs = [(lambda i=i: i * noisy.x.sum(), lambda i=i: -i * noisy.y.sum()) for i in (1, 2)]
    engine = Closures(game, noisy.critic, noisy.generator, epoch=lambda: iter(pairs))
    for _ in range(2):
        batches = list(engine.epoch())
        batches += [engine.again(batch) for batch in batches]
        assert len({batch.key for batch in batches}) == 4
        assert [tuple(v.item() for v in engine.losses(b)) for b in batches] == [(2.0, -2.0), (4.0, -4.0)] * 2


def test_no_epoch(noisy):
    game = noisy.game(VarianceReducedExtragradient)
    with pytest.raises(ValueError, match="Closures: epoch is None, expected a function that returns"):
        game.step(Closures(game, noisy.critic, noisy.generator))


def test_a_batch_of_another_engine(noisy):
    engine = noisy.engine(noisy.game(Extragradient))
    for use in (engine.again, engine.losses, lambda batch: engine.gradient("critic", batch)):
        with pytest.raises(ValueError, match="batch has tensors, expected one that batch, again or epoch returned"):
            use(Batch({"real": torch.zeros(2, 2)}, 0))


def test_what_is_remembered_goes_with_the_batch(noisy):
    """An engine that serves a whole run keeps nothing of its steps."""
    engine = noisy.engine(noisy.game(Extragradient))
    batch = engine.batch()
    engine.gradient("critic", batch)
    remembered = weakref.ref(batch.tensors)
    del batch
    assert remembered() is None


def test_the_generators_are_put_back_after_an_error(noisy):
    calls = []

    def closure():
        calls.append(torch.rand([]))
        if len(calls) == 2:
            raise ZeroDivisionError
        return calls[-1] * noisy.x.sum()

    engine = engine_of(noisy.game(Extragradient), closure, noisy.generator)
    batch = engine.batch()
    first = engine.gradient("critic", batch)
    state = torch.get_rng_state()
    with pytest.raises(ZeroDivisionError):
        engine.gradient("critic", batch)
    assert torch.equal(torch.get_rng_state(), state)
    assert noisy.y.requires_grad
    assert engine.gradient("critic", batch) == first
    assert calls[2] == calls[0]


@pytest.mark.gpu
def test_draws_on_a_gpu(generator):
    layer, drawn = nn.Dropout(), []
    x, y = (torch.ones(1000, device="cuda", requires_grad=True) for _ in range(2))

    def closure(parameter):
        drawn.append(layer(parameter).detach())
        return layer(parameter).sum()

    engine = engine_of(Extragradient(SGD([x]), SGD([y])), lambda: closure(x), lambda: closure(y))
    batch = engine.batch()
    for side in ("critic", "generator"):
        engine.gradient(side, batch)
    after = torch.cuda.get_rng_state(0)
    engine.losses(batch)
    assert torch.equal(torch.cuda.get_rng_state(0), after)
    assert torch.equal(drawn[2], drawn[0])
    assert torch.equal(drawn[3], drawn[1])
    engine.gradient("critic", engine.again(batch))
    assert not torch.equal(drawn[4], drawn[0])
