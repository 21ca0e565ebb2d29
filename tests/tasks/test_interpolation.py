"""Ways from one latent to another: their ends, lengths and angles, and the pictures along them."""

import math

import pytest
import torch

from fastgan.errors import UserError
from fastgan.tasks import pictures
from fastgan.tasks.interpolation import slerp
from tests.train.steps import begun, recipe_of

pytestmark = pytest.mark.usefixtures("one_thread")
TIMES = [i / 10 for i in range(11)]


def way(a, b):
    return torch.stack([slerp(a, b, t) for t in TIMES])


def angles(points):
    """Between neighbours, from the sides of a triangle, which is exact for small angles as well."""
    unit = points.double() / points.double().norm(dim=1, keepdim=True)
    return 2 * torch.asin((unit[1:] - unit[:-1]).norm(dim=1) / 2)


def unlike(dim, cosine, generator):
    """A pair of unit vectors at that angle, float64."""
    a, other = torch.randn(2, dim, dtype=torch.float64, generator=generator)
    a = a / a.norm()
    other = other - (other @ a) * a
    return a, cosine * a + math.sqrt(1 - cosine**2) * other / other.norm()


@pytest.mark.parametrize("cosine", [0.999, 0.5, 0.0, -0.89, -0.91, -0.999, -1 + 1e-9])
def test_the_way_between_equal_lengths_keeps_length_and_speed(cosine, generator):
    a, b = (8 * v for v in unlike(64, cosine, generator))
    points = way(a, b)
    torch.testing.assert_close(points.norm(dim=1), torch.full((11,), 8.0, dtype=torch.float64), rtol=1e-9, atol=0)
    expected = torch.full((10,), math.acos(cosine) / 10, dtype=torch.float64)
    torch.testing.assert_close(angles(points), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("cosine", [1.0, 0.3, -0.95, -1.0])
def test_the_ends_are_exactly_the_latents(cosine, dtype, generator):
    for _ in range(20):
        a, b = (v.to(dtype) for v in unlike(64, cosine, generator))
        for zero, one in ((0.0, 1.0), (torch.zeros([], dtype=dtype), torch.ones([], dtype=dtype))):
            assert torch.equal(slerp(a, 7 * b, zero), a)
            assert torch.equal(slerp(a, 7 * b, one), 7 * b)


def test_ordinary_latents_go_by_the_formula(generator):
    a, b = torch.randn(2, 64, dtype=torch.float64, generator=generator)  # of unequal lengths
    angle = math.acos(a @ b / (a.norm() * b.norm()))
    expected = [(math.sin((1 - t) * angle) * a + math.sin(t * angle) * b) / math.sin(angle) for t in TIMES]
    torch.testing.assert_close(way(a, b), torch.stack(expected))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_parallel_and_zero_latents_go_straight(dtype, generator):
    a = torch.randn(64, dtype=dtype, generator=generator)
    times = torch.tensor(TIMES, dtype=dtype)[:, None]
    nearly = a * (1 + 1e-6 * torch.randn(64, dtype=dtype, generator=generator))
    for b in (a.clone(), 2 * a, nearly, torch.zeros_like(a)):
        torch.testing.assert_close(way(a, b), a + times * (b - a), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("dim", [2, 3, 64])
@pytest.mark.parametrize("off", [0.0, 1e-8, 1e-4])
def test_opposite_latents_of_any_length_are_joined_by_a_half_circle(dim, off, dtype, generator):
    a = torch.randn(dim, dtype=dtype, generator=generator)
    b = -1.5 * a + off * torch.randn(dim, dtype=dtype, generator=generator)
    points = way(a, b)
    lengths = a.norm() + torch.tensor(TIMES, dtype=dtype) * (b.norm() - a.norm())
    torch.testing.assert_close(points.norm(dim=1), lengths, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(angles(points), torch.full((10,), math.pi / 10).double(), rtol=0, atol=2e-3)
    assert torch.equal(points, way(a, b))


def test_no_pair_of_vectors():
    for a, b in ((torch.zeros(3), torch.zeros(4)), (torch.zeros(1), torch.ones(1)), (torch.zeros(2, 3),) * 2):
        with pytest.raises(ValueError, match=r"slerp: a and b have shapes .*, expected \[D\], D at least 2"):
            slerp(a, b, 0.5)


# --- pictures -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", ["digits-resnet", "stylegan2-small"])
@pytest.mark.parametrize("kind", ["linear", "spherical"])
def test_a_tour_of_z(recipe, kind):
    styled = recipe == "stylegan2-small"
    run = begun(recipe_of(recipe, **({"image": "digits", "resolution": 8, "channels": 1} if styled else {})))
    next(run)
    task = run.task
    network, psi = task.network, 0.7 if styled else 1.0
    z = torch.randn(3, task.latent_dim, generator=torch.Generator().manual_seed(4))
    tour = pictures.interpolation(task, 3, seed=4, psi=psi, steps=4, way=kind)
    between = torch.lerp if kind == "linear" else slerp
    points = torch.stack([between(z[i], z[(i + 1) % 3], torch.tensor(t / 4)) for i in range(3) for t in range(4)])
    assert torch.equal(points[::4], z)
    with torch.no_grad():
        assert torch.equal(tour, network(points) if psi == 1 else network(points, psi=psi))
    usual = pictures.interpolation(task, 3, seed=4, psi=psi, steps=4)
    assert torch.equal(tour, usual) == (not styled and kind == "spherical")
    with pytest.raises(UserError, match="--interpolation is 'slerp', expected one of linear, spherical"):
        pictures.interpolation(task, 3, seed=4, psi=psi, steps=4, way="slerp")
