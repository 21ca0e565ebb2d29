"""Conjugate gradients on the normal equations, against numpy's least squares."""

import numpy as np
import pytest
import torch

from fastgan.games.vectors import dot, solve_normal_equations


def as_vector(values):
    values = torch.as_tensor(values)
    return [values[:2].clone(), values[2:].view(1, -1).clone()]


def solve(matrix, b, tolerance=1e-13, max_iterations=100, damping=0.0):
    def by(m):
        return lambda v: as_vector(m @ torch.cat([part.flatten() for part in v]).numpy())

    found = solve_normal_equations(by(matrix), by(matrix.T), as_vector(b), tolerance, max_iterations, damping)
    return found, torch.cat([part.flatten() for part in found.x]).numpy()


@pytest.fixture
def rng(seed):
    return np.random.default_rng(seed)


def well_conditioned(rng, n=6):
    """Neither symmetric nor definite; singular values from 1 to 3."""
    (u, _), (v, _) = (np.linalg.qr(rng.normal(size=(n, n))) for _ in range(2))
    return u @ np.diag(rng.uniform(1, 3, n)) @ v


def test_any_regular_matrix(rng):
    matrix, b = well_conditioned(rng), rng.normal(size=6)
    found, x = solve(matrix, b)
    np.testing.assert_allclose(x, np.linalg.solve(matrix, b), rtol=0, atol=1e-10)
    assert found.iterations <= 8  # 6 but for rounding
    assert found.residual < 1e-12


def test_the_shortest_solution_of_a_singular_system(rng):
    matrix, b = well_conditioned(rng), rng.normal(size=6)
    matrix[3] = matrix[2]
    _, x = solve(matrix, b)
    np.testing.assert_allclose(x, np.linalg.lstsq(matrix, b, rcond=1e-10)[0], rtol=0, atol=1e-8)


def test_damping(rng):
    matrix, b = well_conditioned(rng), rng.normal(size=6)
    _, x = solve(matrix, b, damping=0.7)
    expected = np.linalg.solve(matrix.T @ matrix + 0.7 * np.eye(6), matrix.T @ b)
    np.testing.assert_allclose(x, expected, rtol=0, atol=1e-10)


def test_stops_at_the_tolerance_and_at_the_most_iterations(rng):
    matrix, b = well_conditioned(rng), rng.normal(size=6)
    rough, x = solve(matrix, b, tolerance=0.3)
    gradient = np.linalg.norm(matrix.T @ (b - matrix @ x))
    assert gradient <= 0.3 * np.linalg.norm(matrix.T @ b) * (1 + 1e-9)
    assert rough.iterations < 6
    assert rough.residual == pytest.approx(np.linalg.norm(b - matrix @ x) / np.linalg.norm(b))
    assert solve(matrix, b, max_iterations=2)[0].iterations == 2


def test_nothing_to_solve(rng):
    found, x = solve(well_conditioned(rng), np.zeros(6))
    assert (x == 0).all()
    assert (found.iterations, found.residual) == (0, 0.0)
    found, x = solve(np.zeros((6, 6)), np.ones(6))
    assert (x == 0).all()
    assert found.residual == 1


def test_dot_sums_in_double(rng):
    a = [torch.tensor([1.0, 1e8]), torch.tensor([[1.0]])]
    b = [torch.tensor([1.0, 1.0]), torch.tensor([[-1e8]])]
    assert dot(a, b).item() == 1.0
