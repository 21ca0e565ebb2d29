"""Nearest training images of samples, and a measure of memorisation."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fastgan.data import Images
from fastgan.metrics.checks import check_finite, check_set
from fastgan.ops._common.checks import check_count, check_floating

CHUNK = 2**23
"""Numbers in memory at a time, in float64: 64 MB."""
REFERENCES = 256
"""Training images whose own nearest neighbours are looked for, which bounds the time."""


@dataclass(frozen=True)
class Memorisation:
    """How near samples are to the training data, beside how near those are to each other.

    Attributes:
        samples: the median distance of a sample to the nearest training image.
        data: the median distance of a training image to the nearest other one.
        ratio: the first over the second: 0 if most samples are copies, about 1 if they are as far from the training
            images as new ones of the same distribution; not a number if most training images are there twice as well.
    """

    samples: float
    data: float
    ratio: float


def nearest_neighbours(samples: Tensor, data: Tensor | Images, k: int = 1) -> tuple[Tensor, Tensor]:
    """The k nearest points of the data to each sample, by Euclidean distance: in pixels, or in any features.

    The data are read in chunks. Products of matrices in float64 find the neighbours; the distances to those are then
    taken from the differences, so that a copy is at exactly 0.

    Args:
        samples: floating point [N, ...] on the CPU, N at least 1.
        data: floating point [M, ...] on the CPU, of the same shape but for the first dimension, or images, which are
            compared as float32 in [-1, 1]; M at least k.
        k: how many, at least 1.

    Returns:
        Distances, float64 [N, k] in ascending order, and the indices of the points, int64 [N, k].

    Raises:
        TypeError: a tensor is not of floating point.
        ValueError: k is no integer of at least 1, there is no sample or are fewer than k points, the shapes do not fit,
            or numbers are not finite.
    """
    _check("nearest_neighbours", samples, data, k)
    points = samples.flatten(1).double()
    size = max(1, CHUNK // max(points.shape))
    squared = torch.empty(len(points), 0, dtype=torch.float64)  # of the k nearest so far
    indices = torch.empty(len(points), 0, dtype=torch.int64)
    for part in torch.arange(len(data)).split(size):
        others = _points(data, part)
        # |a - b|^2 less |a|^2, which does not change which are nearest.
        squared = torch.cat([squared, torch.addmm(others.square().sum(1), points, others.mT, alpha=-2)], dim=1)
        indices = torch.cat([indices, part.expand(len(points), -1)], dim=1)
        squared, nearest = squared.topk(min(k, squared.shape[1]), largest=False)
        indices = indices.gather(1, nearest)
    distances = torch.empty_like(squared)
    for distance, point, found in zip(distances, points, indices, strict=True):
        distance.copy_((_points(data, found) - point).norm(dim=1))
    distances, order = distances.sort(dim=1)
    return distances, indices.gather(1, order)


def memorisation(samples: Tensor, data: Tensor | Images) -> Memorisation:
    """Compares the distances of samples to the training data with those of the training data among themselves.

    Those are of 256 training images, always the same random ones, to the nearest other one (leave-one-out). Distances
    of pixels see copies, not shifted ones or whatever else people would call the same; features may. Where the
    training images overlap, as patches of a photograph do, they are far nearer to each other than new ones would be,
    so the ratio of any samples but copies is large.

    Args:
        samples, data: as in `nearest_neighbours`, M at least 2.

    Raises:
        TypeError, ValueError: as there.

    Meehan et al. 2020, arXiv:2004.05675, compare the distances of samples with those of held-out data, which the runs
    here do not keep.
    """
    _check("memorisation", samples, data, 2)
    chosen = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))[:REFERENCES]
    references = data.batch(chosen) if isinstance(data, Images) else data[chosen]
    distances, _ = nearest_neighbours(torch.cat([samples, references.to(samples.dtype)]), data, 2)
    # The nearest to a training image is itself, at 0.
    medians = distances[: len(samples), 0].median(), distances[len(samples) :, 1].median()
    return Memorisation(medians[0].item(), medians[1].item(), (medians[0] / medians[1]).item())


def _points(data: Tensor | Images, indices: Tensor) -> Tensor:
    """Some of the data as vectors, float64 [B, D]."""
    return (data.batch(indices) if isinstance(data, Images) else data[indices]).flatten(1).double()


def _check(owner: str, samples: Tensor, data: Tensor | Images, k: int) -> None:
    check_count(owner, "k", k)
    if isinstance(data, Images):
        one = data.shape
        if data.pixels.is_floating_point():
            check_finite(owner, "data", data.pixels)
    else:
        check_floating(owner, "data", data)
        check_set(owner, "data", data, ["D"] * max(1, data.ndim - 1))
        one = tuple(data.shape[1:])
    check_set(owner, "samples", samples, one)
    if len(data) < k:
        raise ValueError(f"{owner}: data hold {len(data)} points, expected at least {k}")
