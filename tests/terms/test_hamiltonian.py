"""Hamiltonian Monte Carlo on Gaussians, whose moments are known, and the integrator's own laws."""

import re

import pytest
import torch

from fastgan.terms.hamiltonian import _differentiate, _energy, _leapfrog, hamiltonian_monte_carlo

MEAN = torch.tensor([1.0, -2.0], dtype=torch.float64)
COVARIANCE = torch.tensor([[1.0, 0.6], [0.6, 2.0]], dtype=torch.float64)
PRECISION = torch.linalg.inv(COVARIANCE)
ROOT = torch.linalg.cholesky(COVARIANCE)
DEVIATIONS = 6  # of a standard error: one draw in 5e8 is beyond


def log_density(z):
    d = z - MEAN
    return -(d @ PRECISION * d).sum(1) / 2


def draws(n):
    return MEAN + torch.randn(n, 2, dtype=torch.float64) @ ROOT.T


def check_moments(z):
    """Of n independent draws: means within deviations of sd / sqrt(n), squares within those of their own spread."""
    n = len(z)
    centred = z - MEAN
    products = torch.stack([centred[:, i] * centred[:, j] for i, j in ((0, 0), (0, 1), (1, 1))])
    expected = torch.stack([COVARIANCE[0, 0], COVARIANCE[0, 1], COVARIANCE[1, 1]])
    spread = torch.stack([
        COVARIANCE[i, i] * COVARIANCE[j, j] + COVARIANCE[i, j] ** 2 for i, j in ((0, 0), (0, 1), (1, 1))
    ]).sqrt()  # fmt: skip
    assert (centred.mean(0).abs() <= DEVIATIONS * COVARIANCE.diagonal().sqrt() / n**0.5).all()
    assert ((products.mean(1) - expected).abs() <= DEVIATIONS * spread / n**0.5).all()


@pytest.mark.parametrize("step_size", [0.3, 1.3])
def test_leaves_the_density_invariant(step_size, generator):
    """From exact draws, with steps so long that proposals alone would widen it; the chains stay independent."""
    chain = hamiltonian_monte_carlo(log_density, draws(20_000), step_size, samples=3, burn_in=0, leapfrog_steps=3)
    check_moments(chain.samples[0])
    check_moments(chain.samples[2])
    assert chain.step_size == step_size
    if step_size > 1:
        assert 0.3 < chain.acceptance.mean() < 0.95


def test_finds_the_density_from_afar(generator):
    start = torch.full((20_000, 2), 8.0, dtype=torch.float64)
    # In 40 trajectories of length 1 the start is forgotten: each shrinks its share by cos(1 / sd) or so.
    chain = hamiltonian_monte_carlo(log_density, start, 0.2, samples=1, burn_in=60, adaption_rate=0.0)
    check_moments(chain.samples[0])


def test_the_uncorrected_integrator_would_be_seen(generator):
    """The same trajectories, all accepted, have other moments: so the acceptance is what keeps them right."""
    z = draws(20_000)
    for _ in range(3):
        state, _ = _leapfrog(log_density, _differentiate(log_density, z), torch.randn_like(z), torch.tensor(1.3), 3)
        z = state.z
    with pytest.raises(AssertionError):
        check_moments(z)


def test_the_integrator_is_reversible(generator):
    z, p = draws(50), torch.randn(50, 2, dtype=torch.float64)
    start = _differentiate(log_density, z)
    end, momentum = _leapfrog(log_density, start, p, torch.tensor(0.4), 7)
    back, returned = _leapfrog(log_density, end, -momentum, torch.tensor(0.4), 7)
    torch.testing.assert_close(back.z, z, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(returned, -p, rtol=1e-11, atol=1e-11)


def test_energy_errors_shrink_with_the_square_of_the_step(generator):
    start, p = _differentiate(log_density, draws(200)), torch.randn(200, 2, dtype=torch.float64)

    def error(steps):
        end, momentum = _leapfrog(log_density, start, p, torch.tensor(1.0 / steps, dtype=torch.float64), steps)
        return (_energy(end, momentum) - _energy(start, p)).abs().mean().item()

    assert error(40) / error(80) == pytest.approx(4, rel=0.02)


def test_one_leapfrog_step_by_hand():
    """On log p = -z²/2: p = 0.5 - 0.1 · 1, z = 1 + 0.2 p, p = p - 0.1 z."""
    z = torch.ones(1, 1, dtype=torch.float64)
    start = _differentiate(lambda z: -z.square().sum(1) / 2, z)
    end, p = _leapfrog(lambda z: -z.square().sum(1) / 2, start, 0.5 * z, torch.tensor(0.2, dtype=torch.float64), 1)
    assert end.z.item() == pytest.approx(1 + 0.2 * 0.4)
    assert p.item() == pytest.approx(0.4 - 0.1 * 1.08)


def test_the_step_size_goes_to_the_asked_acceptance(generator):
    options = {"samples": 40, "burn_in": 400, "adaption_rate": 0.05, "leapfrog_steps": 3}
    for start in (0.05, 2.5):
        chain = hamiltonian_monte_carlo(log_density, draws(500), start, target_acceptance=0.8, **options)
        after = hamiltonian_monte_carlo(log_density, draws(500), chain.step_size, **{**options, "burn_in": 0})
        assert after.acceptance.mean().item() == pytest.approx(0.8, abs=0.03)


def test_the_step_size_after_one_proposal(generator):
    """All proposals of a tiny step are accepted, all of a huge one are not."""
    options = {"samples": 1, "burn_in": 1, "adaption_rate": 0.1, "target_acceptance": 0.75}
    small = hamiltonian_monte_carlo(log_density, draws(50), 1e-6, **options)
    assert (small.acceptance == 1).all()
    assert small.step_size.item() == pytest.approx(1e-6 * (1 + 0.1 * 0.25))
    huge = hamiltonian_monte_carlo(log_density, draws(50), 1e3, **options)
    assert huge.step_size.item() == pytest.approx(1e3 * (1 - 0.1 * 0.75))
    assert (huge.acceptance == 0).all()


def test_proposals_without_a_density_are_refused(generator):
    """log z is NaN below 0."""
    z = torch.rand(500, 1, dtype=torch.float64) + 0.1
    chain = hamiltonian_monte_carlo(lambda z: z.log().sum(1) - z.sum(1), z, 0.8, samples=20)
    assert (chain.samples > 0).all()
    assert 0 < chain.acceptance.mean() < 1


def test_chains_are_repeatable_and_apart(generator):
    z = draws(6)
    chain, again = (
        hamiltonian_monte_carlo(log_density, z, 0.5, generator=torch.Generator().manual_seed(3)) for _ in range(2)
    )
    assert torch.equal(chain.samples, again.samples)
    assert chain.samples.shape == (2, 6, 2)
    assert chain.acceptance.shape == (6,)
    assert not chain.samples.requires_grad
    assert hamiltonian_monte_carlo(log_density, z[:0], 0.5).samples.shape == (2, 0, 2)


def test_samples_of_any_shape_and_dtype(generator):
    z = torch.randn(4, 2, 3, 1)
    with torch.no_grad():
        chain = hamiltonian_monte_carlo(lambda z: -z.square().flatten(1).sum(1) / 2, z, torch.tensor(0.1), samples=5)
    assert chain.samples.shape == (5, 4, 2, 3, 1)
    assert chain.samples.dtype == torch.float32


def test_bad_arguments():
    z = torch.zeros(3, 2, dtype=torch.float64)
    for change, message in (
        ({"samples": 0}, "samples is 0, expected an integer of at least 1"),
        ({"burn_in": -1}, "burn_in is -1, expected an integer of at least 0"),
        ({"burn_in": 1.0}, "burn_in is 1.0, expected an integer of at least 0"),
        ({"leapfrog_steps": 0}, "leapfrog_steps is 0, expected an integer of at least 1"),
        ({"step_size": 0.0}, "step_size is 0.0, expected a finite number > 0"),
        ({"adaption_rate": -1}, "adaption_rate is -1, expected a finite number >= 0"),
        ({"target_acceptance": -1}, "target_acceptance is -1, expected a finite number >= 0"),
        ({"z": z[0]}, "z has shape [2], expected [batch, ...]"),
        (
            {"log_density": lambda z: -z.square()},
            "log_density has shape [3, 2], expected [3], one number for each sample",
        ),
    ):
        with pytest.raises(ValueError, match=re.escape(f"hamiltonian_monte_carlo: {message}")):
            hamiltonian_monte_carlo(**{"log_density": log_density, "z": z, "step_size": 0.1, **change})
    with pytest.raises(TypeError, match=re.escape("z is torch.int64, expected a floating-point tensor")):
        hamiltonian_monte_carlo(log_density, z.long(), 0.1)
