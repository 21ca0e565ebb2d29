"""The mixtures and their coverage, against counts by hand."""

import math

import numpy as np
import pytest
import torch

from fastgan.data.mixtures import EPOCH, MIXTURES, MixtureSource, grid, mode_coverage, ring
from fastgan.errors import UserError


def test_definitions():
    assert (len(ring().means), ring().std) == (8, 0.01)
    np.testing.assert_allclose(ring().means.norm(dim=1), 1, rtol=1e-6)
    assert torch.cdist(ring().means, ring().means).fill_diagonal_(9).min().item() == pytest.approx(
        2 * math.sin(math.pi / 8), rel=1e-5
    )
    assert (len(grid().means), grid().std) == (25, 0.05)
    assert sorted({tuple(p) for p in grid().means.tolist()}) == [
        (x, y) for x in range(-4, 5, 2) for y in range(-4, 5, 2)
    ]


@pytest.mark.parametrize("name", MIXTURES)
def test_samples_have_the_mixtures_moments(name, generator):
    mixture = MIXTURES[name]()
    x = mixture.sample(200_000, generator)
    assert x.square().mean().sqrt().item() == pytest.approx(mixture.scale, rel=0.01)
    assert x.mean(dim=0).abs().max() < 5 * mixture.scale / 200_000**0.5
    # Rayleigh: P(distance <= 3 std) = 1 - exp(-9/2) = 98.9 %.
    found = mode_coverage(mixture, x)
    assert found.modes == found.of == len(mixture.means)
    assert found.high_quality == pytest.approx(1 - math.exp(-4.5), abs=0.002)
    assert found.kl < 1e-3


def test_coverage_by_a_double_loop(generator):
    mixture = ring()
    x = mixture.means[torch.randint(5, (60,), generator=generator)] + 0.02 * torch.randn(60, 2, generator=generator)
    counts = [0] * 8
    for px, py in x.double().tolist():
        distances = [math.hypot(px - mx, py - my) for mx, my in mixture.means.double().tolist()]
        nearest = min(range(8), key=distances.__getitem__)
        counts[nearest] += distances[nearest] <= 0.03
    total = sum(counts)
    found = mode_coverage(mixture, x)
    assert found.modes == sum(c > 0 for c in counts)
    assert found.high_quality == pytest.approx(total / 60)
    assert found.kl == pytest.approx(sum(c / total * math.log(8 * c / total) for c in counts if c))


def test_nothing_of_quality():
    found = mode_coverage(grid(), torch.full((10, 2), 100.0))
    assert (found.modes, found.high_quality, found.kl) == (0, 0.0, math.inf)


def test_a_source_draws_points_by_the_seed_alone():
    source = MixtureSource("grid")
    one, same, other = (source.read(torch.arange(5) + first, seed)["image"] for first, seed in ((0, 1), (7, 1), (0, 2)))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert (len(source), source.classes, source.summary()) == (
        EPOCH,
        (),
        "grid: a mixture of 25 Gaussians in the plane",
    )
    many = source.read(torch.arange(50_000), 3)["image"]
    assert many.square().mean().item() == pytest.approx(1, rel=0.02)  # at unit scale
    with pytest.raises(UserError, match="the data are 'circle', expected one of ring, grid"):
        MixtureSource("circle")
