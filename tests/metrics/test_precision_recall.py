"""Precision, recall, density and coverage against loops over all points, and where the answer is known."""

import numpy as np
import pytest
import torch

from fastgan.metrics import density_coverage, precision_and_recall, precision_recall


def looped(real, fake, k_precision=3, k_density=5):
    """(precision, recall), (density, coverage), distance by distance."""
    real, fake = real.double().numpy(), fake.double().numpy()

    def radius(points, i, k):
        return sorted(np.linalg.norm(points[i] - points[j]) for j in range(len(points)) if j != i)[k - 1]

    def inside(point, centre, reach):
        return np.linalg.norm(point - centre) <= reach

    def within(points, others, k):
        reach = [radius(others, i, k) for i in range(len(others))]
        return np.mean([any(map(inside, [point] * len(others), others, reach)) for point in points])

    reach = [radius(real, i, k_density) for i in range(len(real))]
    balls = np.array([[inside(point, centre, r) for point in fake] for centre, r in zip(real, reach, strict=True)])
    return (
        (within(fake, real, k_precision), within(real, fake, k_precision)),
        (balls.sum() / (k_density * len(fake)), balls.any(1).mean()),
    )


def both(real, fake):
    return precision_recall(real, fake), density_coverage(real, fake)


@pytest.mark.parametrize("chunk", [1, 700, 2**26])
def test_loops(seed, monkeypatch, chunk):
    """In chunks of a row, of a few and of all; overlapping clouds of which neither contains the other."""
    monkeypatch.setattr(precision_and_recall, "CHUNK_BYTES", chunk)
    random = torch.Generator().manual_seed(seed)
    real = torch.randn(40, 3, generator=random, dtype=torch.float64)
    fake = torch.randn(55, 3, generator=random, dtype=torch.float64) * 0.7 + 0.5
    for found, expected in zip(both(real, fake), looped(real, fake), strict=True):
        assert found == pytest.approx(expected, rel=1e-12)


def test_ties_and_copies(seed):
    """Points on a coarse lattice: most distances are attained often, many points are equal, all of it exact."""
    random = torch.Generator().manual_seed(seed)
    real, fake = (torch.randint(4, (50, 2), generator=random).float() * 4 for _ in range(2))
    for found, expected in zip(both(real, fake), looped(real, fake), strict=True):
        assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_set_and_itself(generator, dtype):
    points = torch.randn(300, 5, generator=generator).to(dtype)
    assert precision_recall(points, points) == (1, 1)
    assert density_coverage(points, points)[1] == 1
    assert precision_recall(points, points.flip(0)) == (1, 1)


def test_copies_of_one_point_are_neighbours_at_distance_0(generator):
    real = torch.randn(100, 5, generator=generator)
    copies = real[:1].expand(80, -1)
    precision, recall = precision_recall(real, copies)
    assert (precision, recall) == (1, 0.01)  # their balls are points, and one of the data is in them


def test_far_apart(generator):
    cloud = torch.randn(2, 100, 4, generator=generator)
    assert both(cloud[0], cloud[1] + 100) == ((0, 0), (0, 0))


def test_half_of_the_modes(generator):
    """Far modes, so that every ball stays within its own: nothing is found of the dropped half."""
    modes = 1000 * torch.arange(10)[:, None, None]
    real = (modes + torch.rand(10, 60, 2, generator=generator)).flatten(0, 1)
    dense = torch.cat([real[:300], real[:300] + 1e-3])
    assert precision_recall(real, dense) == (1, 0.5)
    density, coverage = density_coverage(real, dense)
    assert coverage == 0.5
    assert density > 1  # twice as many samples fall into the half that is left


def test_expectations_of_equal_distributions(seed):
    """Density 1 and coverage 1 - (N-1)...(N-k) / ((N+M-1)...(N+M-k)): 40 draws, seven standard errors."""
    random = torch.Generator().manual_seed(seed)
    n, m, k = 60, 90, 5
    found = np.array(
        [
            density_coverage(torch.randn(n, 3, generator=random), torch.randn(m, 3, generator=random), k)
            for _ in range(40)
        ]
    )
    expected = [1, 1 - np.prod([(n - i) / (n + m - i) for i in range(1, k + 1)])]
    error = found.std(0, ddof=1) / np.sqrt(len(found))
    assert (abs(found.mean(0) - expected) < 7 * error).all()
    assert (error < 0.05).all()


def test_far_from_the_origin(generator):
    """Multiples of 1/64 about 1,000: float32 holds their squared differences, but not their products."""
    real, fake = (torch.randn(2, 100, 8, generator=generator) * 64).round() / 64 + 1000
    for found, expected in zip(both(real, fake), looped(real, fake), strict=True):
        assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("real", "fake", "k", "message"),
    [
        ((9,), (9, 2), 3, r"real has shape \[9\], expected \[at least 1, F\]"),
        ((9, 2), (9, 3), 3, r"fake has shape \[9, 3\], expected \[at least 1, 2\]"),
        ((9, 2), (9, 2), 0, "k is 0, expected an integer of at least 1"),
        ((3, 2), (9, 2), 3, "k is 3, expected less than the numbers of points, 3 and 9"),
    ],
)
def test_what_they_refuse(real, fake, k, message):
    for metric in (precision_recall, density_coverage):
        with pytest.raises(ValueError, match=f"{metric.__name__}: {message}"):
            metric(torch.zeros(real), torch.zeros(fake), k)


def test_few_samples_have_density_but_no_recall():
    real, fake = torch.arange(8.0)[:, None], torch.tensor([[2.0]])
    assert density_coverage(real, fake, k=1) == (3, 3 / 8)
    with pytest.raises(ValueError, match="precision_recall: k is 3, expected less than the numbers of points, 8 and 1"):
        precision_recall(real, fake)
    with pytest.raises(ValueError, match=r"density_coverage: fake has shape \[0, 1\], expected \[at least 1, 1\]"):
        density_coverage(real, fake[:0])
    with pytest.raises(TypeError, match=r"precision_recall: real is torch.int64"):
        precision_recall(real.long(), fake)
