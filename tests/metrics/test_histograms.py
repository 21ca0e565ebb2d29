"""Histogram divergences: counted by numpy, and, of many points, those of Gaussians in closed form or by quadrature."""

import math

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch

from fastgan.data.mixtures import grid, ring
from fastgan.metrics import divergences, histogram_divergences

LOG_2 = math.log(2)


def test_by_hand():
    found = divergences(torch.tensor([1.0, 1, 0]), torch.tensor([0.0, 3, 3]))
    assert found.jensen_shannon == pytest.approx(LOG_2 / 2, rel=1e-12)
    assert found.real_fake == found.fake_real == math.inf
    some = divergences(torch.tensor([1.0, 3]), torch.tensor([6.0, 6]))
    assert some.real_fake == pytest.approx(0.25 * math.log(0.5) + 0.75 * math.log(1.5), rel=1e-12)
    assert some.fake_real == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3), rel=1e-12)


def test_jensen_shannon_is_half_the_kl_to_the_middle_and_symmetric(seed):
    p, q = np.random.default_rng(seed).random((2, 30)) ** 4
    p[:10] = 0
    p, q = p / p.sum(), q / q.sum()
    found, turned = (divergences(*map(torch.from_numpy, pair)) for pair in ((p, q), (q, p)))
    middle = (p + q) / 2
    expected = (scipy.stats.entropy(p, middle) + scipy.stats.entropy(q, middle)) / 2
    assert found.jensen_shannon == pytest.approx(expected, rel=1e-10)
    assert found.real_fake == pytest.approx(scipy.stats.entropy(p, q), rel=1e-10) == turned.fake_real
    assert found.fake_real == math.inf


@pytest.mark.parametrize("pseudo_count", [0, 0.5])
def test_counts_in_the_plane_are_numpys(seed, pseudo_count):
    random = np.random.default_rng(seed)
    real, fake = random.normal(size=(2, 400, 2)) * [1, 0.5]
    limits = ((-1.5, 2.0), (-0.5, 0.75))
    counts = []
    for points in (real, fake):
        inside = np.histogram2d(*points.T, bins=6, range=limits)[0]
        counts.append(np.append(inside, 400 - inside.sum()) + pseudo_count)
    assert counts[0][-1] > 20  # outside
    found = histogram_divergences(torch.from_numpy(real), torch.from_numpy(fake), 6, limits, pseudo_count)
    p, q = (each / each.sum() for each in counts)
    assert found.real_fake == pytest.approx(scipy.stats.entropy(p, q), rel=1e-10)
    assert found.fake_real == pytest.approx(scipy.stats.entropy(q, p), rel=1e-10)


def test_points_outside_count():
    real, fake = torch.tensor([[0.5], [0.5]]), torch.tensor([[0.5], [7.0]])
    found = histogram_divergences(real, fake, 1, [(0, 1)])
    assert found.real_fake == pytest.approx(LOG_2)
    for outside in (-3.0, 1e9):
        assert histogram_divergences(real, torch.tensor([[0.5], [outside]]), 1, [(0, 1)]) == found


def test_empty_bins_and_pseudo_counts():
    """KL is infinite on the side whose points are missed; with half a point everywhere it is finite."""
    real, fake = torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0], [0.0]])
    found = histogram_divergences(real, fake, 2, [(-0.5, 1.5)])
    assert (found.real_fake, found.fake_real) == (math.inf, pytest.approx(LOG_2))
    smooth = histogram_divergences(real, fake, 2, [(-0.5, 1.5)], pseudo_count=0.5)
    p, q = np.array([1.5, 1.5, 0.5]) / 3.5, np.array([2.5, 0.5, 0.5]) / 3.5
    assert smooth.real_fake == pytest.approx(scipy.stats.entropy(p, q), rel=1e-12)


def test_disjoint_is_log_2_and_equal_is_0(generator):
    points = torch.randn(500, 2, generator=generator)
    assert histogram_divergences(points, points + 100, 50, [(-10, 110)] * 2).jensen_shannon == pytest.approx(LOG_2)
    same = histogram_divergences(points, points.flip(0), 50, [(-4, 4)] * 2)
    assert (same.jensen_shannon, same.real_fake, same.fake_real) == (0, 0, 0)


def test_gaussians_on_the_line(generator):
    """KL in closed form, Jensen-Shannon by quadrature: a million points in 100 bins."""
    shift, scale = 0.7, 1.3
    real = torch.randn(1_000_000, 1, generator=generator)
    fake = torch.randn(1_000_000, 1, generator=generator) * scale + shift
    found = histogram_divergences(real, fake, 100, [(-4, 4)])
    p, q = scipy.stats.norm(), scipy.stats.norm(shift, scale)

    def integrand(x):
        middle = (p.pdf(x) + q.pdf(x)) / 2
        return sum(of.pdf(x) * math.log(of.pdf(x) / middle) for of in (p, q)) / 2

    js, _ = scipy.integrate.quad(integrand, -12, 12)
    assert found.jensen_shannon == pytest.approx(js, abs=0.002)
    assert found.real_fake == pytest.approx(math.log(scale) + (1 + shift**2) / (2 * scale**2) - 0.5, abs=0.005)
    assert found.fake_real == pytest.approx(-math.log(scale) + (scale**2 + shift**2) / 2 - 0.5, abs=0.012)


def test_gaussians_in_the_plane(generator):
    """KL of a shift is half its square: |(0.6, -0.4)|² / 2."""
    real = torch.randn(1_000_000, 2, generator=generator)
    fake = torch.randn(1_000_000, 2, generator=generator) + torch.tensor([0.6, -0.4])
    found = histogram_divergences(real, fake, 40, [(-4, 4)] * 2)
    for kl in (found.real_fake, found.fake_real):
        assert kl in (math.inf, pytest.approx(0.26, abs=0.01))
    smooth = histogram_divergences(real, fake, 40, [(-4, 4)] * 2, pseudo_count=0.1)
    assert smooth.real_fake == pytest.approx(0.26, abs=0.01)


def test_mixtures_with_dropped_modes(generator):
    """Half of the modes missed: Jensen-Shannon is 3/4 log 4/3 and KL(fake || real) log 2, at bins that hold a mode."""
    for mixture, kept, bins, reach in ((ring(), 4, 9, 1.5), (grid(), 13, 5, 5.0)):
        real = mixture.sample(40_000, generator)
        chosen = torch.randint(kept, (40_000,), generator=generator)
        fake = mixture.means[chosen] + mixture.std * torch.randn(40_000, 2, generator=generator)
        share = kept / len(mixture.means)
        p = np.full(len(mixture.means), 1 / len(mixture.means))
        q = np.where(np.arange(len(p)) < kept, 1 / kept, 0)
        js = (scipy.stats.entropy(p, (p + q) / 2) + scipy.stats.entropy(q, (p + q) / 2)) / 2
        found = histogram_divergences(real, fake, bins, [(-reach, reach)] * 2)
        assert found.jensen_shannon == pytest.approx(js, abs=0.01)
        assert found.fake_real == pytest.approx(-math.log(share), abs=0.02)
        assert found.real_fake == math.inf


@pytest.mark.parametrize(
    ("real", "fake", "keywords", "message"),
    [
        ((5,), (5, 1), {}, r"real has shape \[5\], expected \[at least 1, 1\]"),
        ((5, 1), (5, 2), {}, r"fake has shape \[5, 2\], expected \[at least 1, 1\]"),
        ((0, 1), (5, 1), {}, r"real has shape \[0, 1\], expected \[at least 1, 1\]"),
        ((5, 1), (5, 1), {"bins": 2.5}, "bins is 2.5, expected an integer of at least 1"),
        ((5, 1), (5, 1), {"range": [(1, 0)]}, r"range is \[\(1, 0\)\], expected one or two pairs"),
        ((5, 1), (5, 1), {"range": [(0, math.nan)]}, r"range is .*, expected one or two pairs"),
        ((5, 3), (5, 3), {"range": [(0, 1)] * 3}, r"range is .*, expected one or two pairs"),
        ((5, 1), (5, 1), {"pseudo_count": -1}, "pseudo_count is -1, expected a finite number >= 0"),
    ],
)
def test_what_it_refuses(real, fake, keywords, message):
    with pytest.raises(ValueError, match=f"histogram_divergences: {message}"):
        histogram_divergences(torch.zeros(real), torch.zeros(fake), **{"bins": 3, "range": [(0, 1)], **keywords})


@pytest.mark.parametrize("weights", [[0.0, 0.0], [1.0, -0.1], [1.0, math.nan], [math.inf, 1.0]])
def test_what_are_no_weights(weights):
    with pytest.raises(ValueError, match=r"divergences: fake (has negative entries or only zeros|holds (nan|inf) at)"):
        divergences(torch.ones(2), torch.tensor(weights))
