"""Divergences between histograms, of points on the line or in the plane."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fastgan.metrics.checks import check_finite, check_set
from fastgan.ops._common.checks import check_count, check_number, check_shape


@dataclass(frozen=True)
class Divergences:
    """Divergences between two distributions over the same bins, in nats.

    Attributes:
        jensen_shannon: from 0 to log 2.
        real_fake: KL(real || fake), infinite if a bin has real probability and no fake one: what is missed shows.
        fake_real: KL(fake || real), infinite if a bin has fake probability and no real one: what is invented shows.
    """

    jensen_shannon: float
    real_fake: float
    fake_real: float


def histogram_divergences(
    real: Tensor, fake: Tensor, bins: int, range: Sequence[tuple[float, float]], pseudo_count: float = 0.0
) -> Divergences:
    """The divergences between two sets of points, counted in equal bins.

    Points outside of the range are counted in one bin more, so none is lost. Wide bins make the divergences too small
    and few points make them too large, KL by about the number of occupied bins over twice that of either set's points.
    Compare only figures of equal bins and equally many points.

    Args:
        real, fake: floating point [N, D] and [M, D], N and M at least 1; D is 1 or 2, as bins^D are counted.
        bins: in each direction.
        range: the least and the largest coordinate in each direction, D pairs.
        pseudo_count: added to every bin, so that KL is finite; 0 leaves it infinite where a bin is empty on one side.

    Raises:
        TypeError, ValueError: the points have another type or shape, are none or not finite, or the bins, range or
            pseudo-count are not what is said above.
    """
    owner = "histogram_divergences"
    check_set(owner, "real", real, (len(range),))
    check_set(owner, "fake", fake, (len(range),))
    check_count(owner, "bins", bins)
    check_number(owner, "pseudo_count", pseudo_count)
    if len(range) not in (1, 2) or not all(np.isfinite(pair).all() and pair[0] < pair[1] for pair in range):
        raise ValueError(f"{owner}: range is {range!r}, expected one or two pairs (least, largest)")
    counted = []
    for points in (real, fake):
        inside, _ = np.histogramdd(points.detach().double().cpu().numpy(), bins, range)
        counts = torch.from_numpy(np.append(inside, len(points) - inside.sum()))
        counted.append(counts + pseudo_count)
    return divergences(*counted)


def divergences(real: Tensor, fake: Tensor) -> Divergences:
    """The divergences between two distributions over the same bins, with 0 log 0 = 0.

    Args:
        real, fake: floating point of one shape: counts or probabilities, at least 0 and not all 0.

    Raises:
        TypeError, ValueError: they have another type, different shapes, or entries that are negative, not finite or
            all 0.

    Lin 1991, Divergence measures based on the Shannon entropy, for Jensen-Shannon.
    """
    check_shape("divergences", "real", real, ["B"] * real.dim())
    check_shape("divergences", "fake", fake, real.shape)
    for name, weights in (("real", real), ("fake", fake)):
        check_finite("divergences", name, weights)
        if not ((weights >= 0).all() and weights.sum() > 0):
            raise ValueError(f"divergences: {name} has negative entries or only zeros, expected weights")
    p, q = (weights.detach().double() / weights.detach().double().sum() for weights in (real, fake))
    middle = (p + q) / 2
    return Divergences((_kl(p, middle) + _kl(q, middle)) / 2, _kl(p, q), _kl(q, p))


def _kl(p: Tensor, q: Tensor) -> float:
    some = p > 0
    return (p[some] * (p[some] / q[some]).log()).sum().item()
