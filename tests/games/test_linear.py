"""Every method on quadratic games: its step is the matrix that its paper says, with that spectral radius."""

import numpy as np
import pytest
import torch
from torch.optim import SGD

from fastgan import games
from fastgan.games import GAMES
from tests.games.games import bilinear, engine_of, radius, random_quadratic, step_matrix

ETA_X, ETA_Y = 0.11, 0.07


def method(name, *args, lrs=(ETA_X, ETA_Y), **settings):
    """Makes a fresh game of that kind over a quadratic game's parameters, with SGD."""

    def over(quadratic):
        return lambda: GAMES[name](SGD(quadratic.x, lr=lrs[0]), SGD(quadratic.y, lr=lrs[1]), *args, **settings)

    return over


def rates(q, lrs=(ETA_X, ETA_Y)):
    return np.diag([lrs[0]] * q.n + [lrs[1]] * q.m)


def only(q, critic):
    """J with the rows of one player."""
    return np.where((np.arange(q.n + q.m) < q.n)[:, None] == critic, q.J, 0)


def blocks(q):
    n = q.n
    return q.J[:n, :n], q.J[:n, n:], q.J[n:, n:], q.J[n:, :n]


def simultaneous(q, P):
    return np.eye(len(P)) - P @ q.J


def alternating(q, P, critic_steps=1):
    identity = np.eye(len(P))
    return (identity - P @ only(q, False)) @ np.linalg.matrix_power(identity - P @ only(q, True), critic_steps)


def extragradient(q, P):
    identity = np.eye(len(P))
    return identity - P @ q.J @ (identity - P @ q.J)


def consensus(q, P, gamma):
    return np.eye(len(P)) - P @ (q.J + gamma * q.J.T @ q.J)


def symplectic(q, P, strength):
    antisymmetric = (q.J - q.J.T) / 2
    return np.eye(len(P)) - P @ (q.J + strength * antisymmetric.T @ q.J)


def competitive(q, P):
    """The joint system: dx = -eta_x (v_x + B dy), dy = -eta_y (v_y + D dx)."""
    A, B, C, D = blocks(q)
    mixed = np.block([[0 * A, B], [D, 0 * C]])
    return np.eye(len(P)) - np.linalg.solve(np.eye(len(P)) + P @ mixed, P @ q.J)


def follow_the_ridge(q, P):
    A, B, _, _ = blocks(q)
    step = -P @ q.J
    step[: q.n] -= np.linalg.solve(A, B) @ step[q.n :]
    return np.eye(len(P)) + step


def runge_kutta(q, P, order):
    F = -P @ q.J
    terms = [np.eye(len(P))]
    for k in range(1, order + 1):
        terms.append(terms[-1] @ F / k)
    return sum(terms)


def drift_correction(q, P):
    A, B, C, D = blocks(q)
    mixed = np.block([[0 * A, B], [D, 0 * C]])
    return np.eye(len(P)) - P @ (q.J - mixed @ P @ q.J / 2)


ONE_STEP = {
    "simultaneous": (method("simultaneous"), simultaneous),
    "alternating": (method("alternating"), alternating),
    "alternating, 3 critic steps": (method("alternating", 3), lambda q, P: alternating(q, P, 3)),
    "extragradient": (method("extragradient"), extragradient),
    "consensus": (method("consensus", 0.4), lambda q, P: consensus(q, P, 0.4)),
    "symplectic": (method("symplectic", 0.7, align=False), lambda q, P: symplectic(q, P, 0.7)),
    "competitive": (method("competitive", 1e-13, 200), competitive),
    "follow-the-ridge": (method("follow-the-ridge", 0.0, 1e-13, 200), follow_the_ridge),
    "runge-kutta 2": (method("runge-kutta", 2), lambda q, P: runge_kutta(q, P, 2)),
    "runge-kutta 4": (method("runge-kutta", 4), lambda q, P: runge_kutta(q, P, 4)),
    "drift-correction": (method("drift-correction"), drift_correction),
}


@pytest.fixture
def rng(seed):
    return np.random.default_rng(seed)


@pytest.mark.parametrize(("made", "expected"), ONE_STEP.values(), ids=ONE_STEP)
def test_one_step_is_the_papers_matrix(made, expected, rng):
    q = random_quadratic(rng)
    found, truth = step_matrix(made(q), q), expected(q, rates(q))
    np.testing.assert_allclose(found, truth, rtol=0, atol=1e-9)
    assert radius(found) == pytest.approx(radius(truth), abs=1e-4)  # of a matrix that need not be normal


def test_competitive_steps_so_large_that_the_players_answers_matter(rng):
    """The system is far from the identity: its transpose must be the right one."""
    q, lrs = random_quadratic(rng), (0.9, 0.7)
    found = step_matrix(method("competitive", 1e-13, 200, lrs=lrs)(q), q)
    truth = competitive(q, rates(q, lrs))
    np.testing.assert_allclose(found, truth, rtol=0, atol=1e-6 * np.abs(truth).max())


def test_two_steps_of_methods_with_a_memory(rng):
    q = random_quadratic(rng)
    P, identity = rates(q), np.eye(q.n + q.m)
    step = P @ q.J
    first = identity - step

    # w1 = w0 - 2 eta v(w0); w2 = w1 - 2 eta v(w1) + eta v(w0)
    optimistic = (identity - 2 * step) @ (identity - 2 * step) + step
    np.testing.assert_allclose(step_matrix(method("optimistic")(q), q, 2), optimistic, rtol=0, atol=1e-12)
    # w1 = w0 - eta v(w0), which was looked at; w2 = w1 - eta v(w1 - eta v(w0))
    past = first - step @ (first - step)
    np.testing.assert_allclose(step_matrix(method("past-extragradient")(q), q, 2), past, rtol=0, atol=1e-12)


@pytest.mark.parametrize("inner", [games.Alternating, games.Simultaneous, games.Extragradient])
def test_lookahead_pulls_back_after_k_steps(inner, rng):
    q = random_quadratic(rng)
    expected = {games.Alternating: alternating, games.Simultaneous: simultaneous, games.Extragradient: extragradient}
    once = expected[inner](q, rates(q))
    made = method("lookahead", 3, 0.4, inner)(q)
    thrice = np.linalg.matrix_power(once, 3)
    after = 0.6 * np.eye(len(once)) + 0.4 * thrice
    np.testing.assert_allclose(step_matrix(made, q, 2), once @ once, rtol=0, atol=1e-12)
    np.testing.assert_allclose(step_matrix(made, q, 3), after, rtol=0, atol=1e-12)
    np.testing.assert_allclose(step_matrix(made, q, 8), once @ once @ after @ after, rtol=0, atol=1e-12)


def factor(game, q, steps):
    """How the distance to the equilibrium changes in a step, over the last of many."""
    q.w = [1.0, 0.5]
    sizes = []
    for _ in range(steps):
        game.step(engine_of(game, q.critic, q.generator))
        sizes.append(np.linalg.norm(q.w))
    return (sizes[-1] / sizes[steps // 2 - 1]) ** (1 / (steps - steps // 2))


ETA = 0.2
# The larger root of z^2 - (1 - 2 i eta) z - i eta: w' = w - 2 eta J w + eta J w_before; the looked-at points of the
# extrapolation from the past move by the same recursion.
OPTIMISTIC = max(abs(np.roots([1, -(1 - 2j * ETA), -1j * ETA])))
BILINEAR = {
    "simultaneous": ((), np.sqrt(1 + ETA**2)),
    "alternating": ((), 1.0),
    "extragradient": ((), np.sqrt(1 - ETA**2 + ETA**4)),
    "optimistic": ((), OPTIMISTIC),
    "past-extragradient": ((), OPTIMISTIC),
    "consensus": ((1.0,), np.sqrt((1 - ETA) ** 2 + ETA**2)),
    "symplectic": ((1.0, False), np.sqrt((1 - ETA) ** 2 + ETA**2)),
    "competitive": ((), 1 / np.sqrt(1 + ETA**2)),
    "runge-kutta": ((2,), np.sqrt(1 + ETA**4 / 4)),
    "drift-correction": ((), abs(1 - 1j * ETA - ETA**2 / 2)),
}


@pytest.mark.parametrize("name", BILINEAR)
def test_rate_on_the_bilinear_game(name):
    """V(x, y) = -xy, both learning rates 0.2: eigenvalues +-i of the game, and the closed form of each method's."""
    settings, expected = BILINEAR[name]
    q = bilinear()
    steps = 400
    found = factor(method(name, *settings, lrs=(ETA, ETA))(q)(), q, steps)
    assert found == pytest.approx(expected, abs=2e-3 if name == "alternating" else 1e-6)


INWARDS = ["extragradient", "past-extragradient", "optimistic", "lookahead", "consensus", "symplectic", "competitive"]


@pytest.mark.parametrize("name", INWARDS)
def test_what_converges_on_the_bilinear_game_does_so_by_its_defaults(name):
    """At 0.5, the learning rate of the recipes of DiracGAN, which is such a game near its equilibrium."""
    q = bilinear()
    assert factor(method(name, lrs=(0.5, 0.5))(q)(), q, 100) < 0.97


def test_lookahead_turns_a_circle_into_a_spiral_inwards():
    q = bilinear()
    game = method("lookahead", 5, 0.5, lrs=(ETA, ETA))(q)()
    once = alternating(q, ETA * np.eye(2))
    expected = radius(0.5 * np.eye(2) + 0.5 * np.linalg.matrix_power(once, 5)) ** (1 / 5)
    assert expected < 0.98
    assert factor(game, q, 200) == pytest.approx(expected, abs=2e-3)


def test_runge_kutta_4_follows_the_circle_of_the_flow():
    q = bilinear()
    found = factor(method("runge-kutta", 4, lrs=(ETA, ETA))(q)(), q, 400)
    assert found == pytest.approx(abs(np.polyval([1 / 24, 1 / 6, 1 / 2, 1, 1], -1j * ETA)), abs=1e-9)
    assert 1 - 1e-6 < found < 1


@pytest.mark.parametrize("product", [None, -0.4])
def test_alignment_of_the_symplectic_adjustment(product, rng):
    """Against the formula of the paper written out, at random points of random games, of both signs.

    Also where the product of the two alignments is -0.4: divided by the 7 parameters it is above -1/10.
    """
    signs = set()
    for _ in range(40):
        q = random_quadratic(rng)
        q.J[: q.n, : q.n] -= 2.5 * np.eye(q.n)  # unstable, so that the sign matters
        q.matrices[0] -= 2.5 * torch.eye(q.n, dtype=torch.float64)
        q.w = w = rng.normal(size=q.n + q.m)
        J = q.J
        xi, adjustment = J @ w, (J - J.T).T / 2 @ J @ w
        h = J.T @ xi
        if product is not None:
            if (xi @ h) * (adjustment @ h) >= 0:
                continue
            factor = (product / ((xi @ h) * (adjustment @ h))) ** 0.25
            q.w, w, xi, adjustment, h = (factor * part for part in (w, w, xi, adjustment, h))
        sign = np.sign((xi @ h) * (adjustment @ h) / len(w) + 0.1)
        signs.add(sign)
        game = method("symplectic", 0.7)(q)()
        game.step(engine_of(game, q.critic, q.generator))
        expected = w - rates(q) @ (xi + 0.7 * sign * adjustment)
        np.testing.assert_allclose(q.w, expected, rtol=1e-9, atol=1e-9)
    assert signs == ({-1.0, 1.0} if product is None else {1.0})
