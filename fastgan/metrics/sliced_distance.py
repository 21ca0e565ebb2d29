"""The sliced Wasserstein distance: the mean of one-dimensional distances along random directions."""

import math

import torch
from torch import Tensor

from fastgan.metrics.checks import check_set
from fastgan.ops._common.checks import check_count


def sliced_wasserstein(real: Tensor, fake: Tensor, projections: int = 512, seed: int = 0) -> tuple[float, float]:
    """The mean of the 1-Wasserstein distances between two sets of points, projected onto random lines.

    It is biased upwards, the more so the fewer points there are: compare only figures of equal sizes.

    Args:
        real, fake: floating point [N, D], equally many.
        projections: how many random lines, at least 2.
        seed: of the lines.

    Returns:
        The mean over the lines, and its standard error for the choice of the lines.

    Raises:
        TypeError, ValueError: the points have another type, other shapes than the same [N, D] or are not finite, or
            there are fewer than two projections.

    Rabin et al. 2011, Wasserstein barycenter and its application to texture mixing; with the first power of the
    distance as in Karras et al. 2018, arXiv:1710.10196.
    """
    owner = "sliced_wasserstein"
    check_set(owner, "real", real, ("D",))
    check_set(owner, "fake", fake, real.shape[1:], len(real))
    if len(real) != len(fake):
        raise ValueError(f"{owner}: fake has shape {list(fake.shape)}, expected {list(real.shape)}, as real has")
    check_count(owner, "projections", projections)
    if projections < 2:
        raise ValueError(f"{owner}: projections is {projections}, expected at least 2")
    directions = seeded_directions(real.shape[1], projections, torch.Generator().manual_seed(seed))
    distances = wasserstein(*(sorted_projections(points, directions) for points in (real, fake)))
    return distances.mean().item(), distances.std().item() / math.sqrt(projections)


def seeded_directions(dimension: int, count: int, random: torch.Generator) -> Tensor:
    """Unit vectors, uniform on the sphere: float32 [dimension, count]."""
    directions = torch.randn(dimension, count, generator=random, dtype=torch.float32)
    return directions / directions.norm(dim=0)


def sorted_projections(points: Tensor, directions: Tensor) -> Tensor:
    """The coordinates of points [N, D] along each of the directions [D, P], in ascending order: [P, N]."""
    projected = directions.to(points.dtype).mT @ points.detach().cpu().mT
    projected.numpy().sort(axis=1)  # vectorised, and so several times faster than torch's
    return projected


def wasserstein(first: Tensor, second: Tensor) -> Tensor:
    """The 1-Wasserstein distances between the sorted rows of [P, N] and of [P, N]: float64 [P]."""
    return (first - second).abs().mean(dim=1, dtype=torch.float64)
