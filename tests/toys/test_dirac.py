"""DiracGAN: known results on which methods converge, and at which rate."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from fastgan.errors import UserError
from fastgan.games import GAMES
from fastgan.losses import LOSSES
from fastgan.toys import DIRAC_RECIPES, DiracRecipe, trajectory, verdict
from fastgan.toys.dirac import quantiles
from tests.rotation import in_turn

# Mescheder et al. 2018, arXiv:1801.04406, figure 3 and section 4, for gradient descent; the game is locally bilinear,
# so the optimisers of games have their rates of the bilinear game there. Follow-the-ridge needs a critic whose Hessian
# is regular at the equilibrium, which R1 provides; the methods that follow the flow itself circle with it.
CONVERGE = {
    "instance noise", "R1", "R2", "relativistic pairing, R1 + R2", "consensus", "extragradient",
    "extrapolation from the past", "optimistic", "variance-reduced extragradient", "lookahead", "symplectic adjustment",
    "competitive descent", "follow-the-ridge, R1", "ODE-GAN: Runge-Kutta 2, regularised",
}  # fmt: skip


@pytest.mark.parametrize("name", in_turn(sorted(CONVERGE), "DiracGAN", run=5))
def test_who_converges(name):
    assert verdict(trajectory(DIRAC_RECIPES[name])) == "converges"


@pytest.mark.thorough
def test_how_the_others_fail(generator):
    """Simultaneous descent leaves, alternating circles. Stuck are minimax, where it saturates, WGAN-GP at the kink of
    its penalty, and least squares, as D(0) = 0 is all that this critic can say of the data."""
    found = {name: verdict(trajectory(recipe)) for name, recipe in DIRAC_RECIPES.items() if name not in CONVERGE}
    assert found["WGAN, simultaneous"] == "diverges"
    assert found["minimax, alternating"] == found["WGAN, alternating"] == found["WGAN, clipped"] == "circles"
    assert "converges" not in found.values()
    assert found["minimax, simultaneous"] == found["WGAN-GP"] == found["least squares"] == "stuck"


@pytest.mark.parametrize("game", ["simultaneous", "alternating"])
def test_wgan_by_hand(game):
    """V = psi theta: psi' = psi - lr theta, theta' = theta + lr psi."""
    theta, psi, expected = 0.7, -0.4, [(0.7, -0.4)]
    for _ in range(20):
        before = psi
        psi = psi - 0.3 * theta
        theta = theta + 0.3 * (before if game == "simultaneous" else psi)
        expected.append((theta, psi))
    found = trajectory(DiracRecipe("wasserstein", game, lr=0.3), 20, start=(0.7, -0.4))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize(("penalty", "weight"), in_turn([("r1", 0.4), ("r2", 0.4), ("r1", 2.0)], "DiracGAN's rate"))
def test_the_rate_with_r1_is_the_eigenvalue_s(penalty, weight):
    """Near 0: psi' = psi - lr (theta / 2 + weight psi), theta' = theta + lr psi' / 2."""
    lr = 0.1
    critic = np.array([[1, 0], [-lr / 2, 1 - lr * weight]])  # of (theta, psi)
    generator = np.array([[1, lr / 2], [0, 1]])
    expected = np.abs(np.linalg.eigvals(generator @ critic)).max()
    path = trajectory(DiracRecipe(penalty=f"{penalty}:{weight}", lr=lr), 3000, start=(1e-3, 1e-3))
    distance = np.linalg.norm(path, axis=1)
    assert (distance[2500] / distance[500]) ** (1 / 2000) == pytest.approx(expected, abs=2e-4)


def test_clipping(generator):
    path = trajectory(DiracRecipe("wasserstein", clip=0.25))
    assert np.abs(path[1:, 1]).max() == 0.25


def test_quantiles_of_the_noise():
    points = quantiles(64)
    assert points.shape == (64, 1)
    cdf = torch.special.ndtr(points[:, 0])
    torch.testing.assert_close(cdf, (torch.arange(64, dtype=torch.float64) + 0.5) / 64)
    assert quantiles(1).item() == pytest.approx(0, abs=1e-15)


def test_verdicts():
    t = np.linspace(0, 50, 500)[:, None]
    circle = np.hstack([np.cos(t), np.sin(t)])
    assert verdict(circle) == "circles"
    assert verdict(np.exp(-t) * circle) == "converges"
    assert verdict(np.exp(t / 20) * circle) == "diverges"
    assert verdict(circle[:1] + np.exp(-t)) == "stuck"
    assert verdict(np.vstack([circle[:-1], [[np.nan, 0]]])) == "diverges"


REFUSED = {"mmd", "mmd:gaussian", "ebgan", "began", "feature_matching:hinge"}


@pytest.mark.parametrize("loss", [*LOSSES, "label_smoothing:0.9:nonsaturating", "feature_matching:hinge"])
def test_every_objective_under_every_optimiser(loss, generator):
    """Plays, or is refused before; with penalties of every kind and without."""
    choices = itertools.product([*GAMES, "runge-kutta:2:1"], ["", "r1:1,r2:1,wgan-gp:1,dragan:1"])
    for game, penalty in choices:
        if loss in REFUSED:
            with pytest.raises(UserError, match=f"^--loss is '{loss}'"):
                DiracRecipe(loss, game, penalty)
            continue
        path = trajectory(DiracRecipe(loss, game, penalty, lr=0.1), 2)
        assert np.isfinite(path).all()
        assert (path[0] != path[-1]).any()


@pytest.mark.parametrize("game", GAMES)
def test_every_method_under_every_optimiser(game, generator):
    for name, recipe in DIRAC_RECIPES.items():
        assert np.isfinite(trajectory(replace(recipe, game=game, lr=0.1), 2)).all(), name


def test_samples_that_are_compared_need_noise(generator):
    path = trajectory(DiracRecipe("mmd", noise=1.0), 2)
    assert np.isfinite(path).all()
    with pytest.raises(UserError, match=r"--loss is 'mmd': .* expected at least 2 points"):
        DiracRecipe("mmd")


@pytest.mark.parametrize("game", ["optimistic", "past-extragradient", "consensus"])
def test_optimisers_that_bear_less_of_a_penalty_converge_at_half_the_rate(game):
    """docs/choosing.md: R1 and R2 of weight 1 are curvature of 2, and a step of 0.5 along it is too large for these."""
    r1_r2 = DiracRecipe("relativistic_pairing", game, "r1:1,r2:1")
    assert verdict(trajectory(r1_r2, 100)) == "diverges"
    assert verdict(trajectory(replace(r1_r2, lr=0.25), 300)) == "converges"
