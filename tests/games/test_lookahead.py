"""Lookahead over methods that have a memory of their own, itself among them."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from torch.optim import SGD

from fastgan.games import Alternating, Extragradient, Lookahead, Optimistic, Simultaneous, VarianceReducedExtragradient
from tests.games.games import bilinear, engine_of, random_quadratic, step_matrix
from tests.games.test_linear import alternating, extragradient, rates

LR = 0.1


@pytest.fixture
def rng(seed):
    return np.random.default_rng(seed)


def over(quadratic, lr=LR, **settings):
    return Lookahead(SGD(quadratic.x, lr=lr), SGD(quadratic.y, lr=lr), **settings)


def nested(k, inner_k, alpha=0.5, inner_alpha=0.5):
    return {"k": k, "alpha": alpha, "inner": partial(Lookahead, k=inner_k, alpha=inner_alpha)}


def test_the_nested_variant(rng):
    """After 4 steps the inner one has pulled back twice, and the outer one goes on from there."""
    q = random_quadratic(rng)
    identity, once = np.eye(7), alternating(q, rates(q, (LR, LR)))
    inner = 0.7 * identity + 0.3 * once @ once
    outer = 0.4 * identity + 0.6 * inner @ inner
    made = lambda: over(q, **nested(4, 2, 0.6, 0.3))  # noqa: E731
    for steps, expected in ((3, once @ inner), (4, outer), (6, inner @ outer), (8, outer @ outer)):
        np.testing.assert_allclose(step_matrix(made, q, steps), expected, rtol=0, atol=1e-12)


def test_nested_on_the_bilinear_game_by_hand():
    q = bilinear()
    q.w = np.array([1.0, 1.0])
    game = over(q, **nested(4, 2), lr=0.3)

    def alternate(x, y):
        x = x - 0.3 * y
        return x, y + 0.3 * x

    slow = fast = (1.0, 1.0)
    for _ in range(2):
        ahead = alternate(*alternate(*fast))
        fast = tuple((a + b) / 2 for a, b in zip(fast, ahead, strict=True))
    for _ in range(4):
        game.step(engine_of(game, q.critic, q.generator))
    np.testing.assert_allclose(q.w, [(a + b) / 2 for a, b in zip(slow, fast, strict=True)], rtol=1e-12)


def test_over_variance_reduction(rng):
    """With one batch the correction vanishes: the inner steps are extragradient's."""
    q = random_quadratic(rng)
    w = q.w = rng.normal(size=7)
    game = over(q, k=2, inner=VarianceReducedExtragradient)
    for _ in range(2):
        game.step(engine_of(game, q.critic, q.generator))
    once = extragradient(q, rates(q, (LR, LR)))
    np.testing.assert_allclose(q.w, (w + once @ once @ w) / 2, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("inner", [Optimistic, VarianceReducedExtragradient, partial(Lookahead, k=2, inner=Optimistic)])
def test_a_state_holds_both_games(inner, rng):
    q = random_quadratic(rng)
    q.w = rng.normal(size=7)
    game = over(q, k=4, inner=inner)
    for _ in range(3):
        game.step(engine_of(game, q.critic, q.generator))
    w, state = q.w.copy(), copy.deepcopy(game.state_dict())
    for _ in range(3):
        game.step(engine_of(game, q.critic, q.generator))
    expected = q.w.copy()
    q.w = w
    resumed = over(q, k=4, inner=inner)
    resumed.load_state_dict(state)
    for _ in range(3):
        resumed.step(engine_of(resumed, q.critic, q.generator))
    np.testing.assert_array_equal(q.w, expected)


def test_a_state_of_one_memory_for_both(rng):
    """Which is how they were written once."""
    q = random_quadratic(rng)
    q.w = rng.normal(size=7)
    game = over(q, inner=Optimistic)
    for _ in range(2):
        game.step(engine_of(game, q.critic, q.generator))
    state = game.state_dict()
    state["memory"] |= state.pop("inner")["memory"]
    assert set(state["memory"]) == {"slow", "inner_steps", "update"}
    loaded = over(q, inner=Optimistic)
    loaded.load_state_dict(state)
    assert set(loaded.memory) == {"slow", "inner_steps"}
    assert set(loaded.inner.memory) == {"update"}


@pytest.mark.parametrize("inner", [Alternating, Simultaneous, Extragradient])
def test_goes_back_to_where_its_steps_began(inner, rng):
    """What moves the parameters between two steps moves the slow ones too."""
    q, twin = (bilinear() for _ in range(2))
    games = [over(each, k=2, inner=inner) for each in (q, twin)]
    q.w = [0.7, -0.2]
    for _ in range(2):
        games[0].step(engine_of(games[0], q.critic, q.generator))
    q.w = twin.w = np.clip(q.w, -0.3, 0.3)
    for _ in range(2):
        games[0].step(engine_of(games[0], q.critic, q.generator))
        games[1].step(engine_of(games[1], twin.critic, twin.generator))
    np.testing.assert_array_equal(q.w, twin.w)


def test_parameters_that_no_longer_fit(rng):
    q = random_quadratic(rng)
    q.w = rng.normal(size=7)
    game = over(q, k=2)
    game.step(engine_of(game, q.critic, q.generator))
    q.x[0].requires_grad_(False)
    with pytest.raises(
        RuntimeError, match=r"Lookahead: memory\['slow'\] is of 4 tensors, expected the shapes of the 3"
    ):
        game.step(engine_of(game, q.critic, q.generator))
    game.memory.clear()
    held = q.x[0].detach().clone()
    game.step(engine_of(game, q.critic, q.generator))
    assert torch.equal(q.x[0], held)
