"""Precision, recall, density and coverage, by balls that reach to the k-th nearest neighbour.

The ball of a point is closed and reaches to the k-th nearest of the other points of its own set. Distances are sums of
squared differences, not products of matrices: those lose the digits of points that are close to each other and far from
the origin, and give equal points distances other than 0. So equal points have equal distances to any third one, ties
are within, and copies of a point are neighbours at distance 0.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from fastgan.metrics.checks import check_set
from fastgan.ops._common.checks import check_count

CHUNK_BYTES = 2**26
"""Of the distances that are in memory at a time."""


def precision_recall(real: Tensor, fake: Tensor, k: int = 3) -> tuple[float, float]:
    """Improved precision and recall: the shares of samples in a ball of the data, and of data in a ball of samples.

    Both depend on the numbers of points: the balls shrink as they grow. Compare only figures of equal sizes.

    Args:
        real, fake: features, floating point [N, F] and [M, F], on one device.
        k: which neighbour a ball reaches to, less than N and M.

    Returns:
        Precision and recall, each from 0 to 1.

    Raises:
        TypeError, ValueError: the features have another type or shape, are none or not finite, or k is not less than N
            and M.

    Kynkäänniemi et al. 2019, arXiv:1904.06991, equations 1 and 2.
    """
    real, fake = _checked("precision_recall", real, fake, k, both=True)
    real_radii, fake_radii = radii(real, k), radii(fake, k)
    precise = torch.zeros(len(fake), dtype=torch.bool, device=real.device)
    recalled = torch.zeros(len(real), dtype=torch.bool, device=real.device)
    for rows, distances in _distances(real, fake):
        precise |= (distances <= real_radii[rows, None]).any(dim=0)
        recalled[rows] = (distances <= fake_radii).any(dim=1)
    return _share(precise), _share(recalled)


def density_coverage(real: Tensor, fake: Tensor, k: int = 5) -> tuple[float, float]:
    """How many balls of the data a sample lies in, over k, and the share of the balls in which any sample lies.

    For samples of the data's distribution the expectation of the density is 1, and that of the coverage is
    1 - (N-1)...(N-k) / ((N+M-1)...(N+M-k)), about 1 - 2^-k if N = M. The density may be above 1: where samples crowd
    into the data's densest places. Both see the balls of the data alone, so that outliers among the samples do no harm.

    Args:
        real, fake: features, floating point [N, F] and [M, F], M at least 1, on one device.
        k: which neighbour a ball reaches to, less than N.

    Returns:
        Density, at least 0, and coverage, from 0 to 1.

    Raises:
        TypeError, ValueError: the features have another type or shape, are none or not finite, or k is not less than N.

    Naeem et al. 2020, arXiv:2002.09797, equations 4 and 5. Their code leaves out the sphere of a ball, which matters to
    ties only.
    """
    real, fake = _checked("density_coverage", real, fake, k, both=False)
    real_radii = radii(real, k)
    covering = torch.empty(len(real), dtype=torch.int64, device=real.device)
    for rows, distances in _distances(real, fake):
        covering[rows] = (distances <= real_radii[rows, None]).sum(dim=1)
    return covering.sum().item() / (k * len(fake)), _share(covering > 0)


def radii(points: Tensor, k: int) -> Tensor:
    """The distance from each of points [N, F] to the k-th nearest of the others: [N]."""
    # A point's distance to itself is 0 and so among the k + 1 least.
    return torch.cat(
        [distances.topk(k + 1, dim=1, largest=False).values[:, -1] for _, distances in _distances(points, points)]
    )


def _distances(points: Tensor, others: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """The distances of some of the points [N, F] from all others [M, F], and which these are: a few rows at a time."""
    rows = max(1, CHUNK_BYTES // (len(others) * others.element_size()))
    for start in range(0, len(points), rows):
        chunk = slice(start, start + rows)
        yield chunk, torch.cdist(points[chunk], others, compute_mode="donot_use_mm_for_euclid_dist")


def _checked(owner: str, real: Tensor, fake: Tensor, k: int, both: bool) -> tuple[Tensor, Tensor]:
    """The features in float32 or float64, detached."""
    check_set(owner, "real", real, ("F",))
    check_set(owner, "fake", fake, real.shape[1:])
    check_count(owner, "k", k)
    if k >= len(real) or (both and k >= len(fake)):
        raise ValueError(f"{owner}: k is {k}, expected less than the numbers of points, {len(real)} and {len(fake)}")
    dtype = torch.promote_types(torch.promote_types(real.dtype, fake.dtype), torch.float32)
    return real.detach().to(dtype), fake.detach().to(dtype)


def _share(found: Tensor) -> float:
    return found.double().mean().item()
