"""The report on samples of any images, without a network: distances of their patches at each scale."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fastgan.data import Images
from fastgan.metrics.checks import check_finite, check_set
from fastgan.metrics.pyramid import SMALLEST, laplacian_pyramid
from fastgan.metrics.sliced_distance import seeded_directions, sorted_projections, wasserstein

SIDE = 7
PER_IMAGE = 128
REPEATS = 8
PROJECTIONS = 64
"""Per repeat: 512 in all."""
CHUNK = 128
"""Images whose pyramids are in memory at a time."""


@dataclass(frozen=True)
class PatchDistance:
    """Sliced Wasserstein distances between patches, each the mean over the repeats and their standard deviation.

    Attributes:
        samples, samples_std: real images against samples.
        floor, floor_std: the same real images against as many others: what no generator can be expected to beat.
    """

    samples: float
    samples_std: float
    floor: float
    floor_std: float


@dataclass(frozen=True)
class PatchReport:
    """The report that `fastgan evaluate` prints of images that it has no classifier for.

    Attributes:
        images: how many there are in each of the sets that are compared, on which the distances depend.
        levels: the distance at each level of the pyramid by its size, `64x64`, `32x32`, `16x16`: fine details first.
        mean: the distance averaged over the levels.
    """

    images: int
    levels: dict[str, PatchDistance]
    mean: PatchDistance


def evaluate_patches(samples: Tensor, images: Images) -> PatchReport:
    """Compares the patches of samples with those of real images at each level of their Laplacian pyramids.

    From each image and level 128 patches of 7×7 pixels are cut at random places. The patches of a set and level are
    normalised, each channel to mean 0 and standard deviation 1, so that what is compared is texture; a wrong brightness
    or contrast of the whole set does not show. Sets are compared by the sliced Wasserstein distance.

    All of it is repeated eight times with 64 other projections, other patches and other images: a random half of the
    samples or of the real images, whichever are fewer, and as many of the others. The random choices are always the
    same. The standard error of a figure is about the standard deviation over the repeats, or less: for what the halves
    have in common it is (the delete-half jackknife, Shao and Wu 1989), the rest averages out over the repeats.

    Args:
        samples: float32 [N, C, H, W] in [-1, 1] on the CPU, N at least 2.
        images: real ones of the same shape, at least two.

    Raises:
        TypeError, ValueError: there are too few, they are smaller than 16×16 or not finite, or their shapes differ.

    Karras et al. 2018, arXiv:1710.10196, section 5.
    """
    shape = images.shape
    check_set("evaluate_patches", "samples", samples, shape)
    if min(shape[1:]) < SMALLEST:
        raise ValueError(
            f"evaluate_patches: images have shape {list(shape)}, expected [C, H, W] with sides of at least {SMALLEST}"
        )
    if images.pixels.is_floating_point():
        check_finite("evaluate_patches", "images", images.pixels)
    count = min(len(samples), len(images)) // 2
    if count < 1:
        raise ValueError(
            f"evaluate_patches: there are {len(samples)} samples and {len(images)} images, expected at least 2 of each"
        )
    sampled = Images("samples", samples)
    sizes = [level.shape[2:] for level in laplacian_pyramid(samples[:1])]
    random = torch.Generator().manual_seed(0)
    distances = torch.empty(2, REPEATS, len(sizes), dtype=torch.float64)  # to samples, to other images
    for repeat in range(REPEATS):
        order = torch.randperm(len(images), generator=random)
        drawn = torch.randperm(len(samples), generator=random)[:count]
        directions = [seeded_directions(shape[0] * SIDE**2, PROJECTIONS, random) for _ in sizes]
        real, other, fake = (
            _projections(source, indices, directions, random)
            for source, indices in ((images, order[:count]), (images, order[count : 2 * count]), (sampled, drawn))
        )
        for level, against in enumerate(real):
            for kind, those in enumerate((fake, other)):
                distances[kind, repeat, level] = wasserstein(against, those[level]).mean()
    return PatchReport(
        images=count,
        levels={f"{h}x{w}": _summary(distances[:, :, level]) for level, (h, w) in enumerate(sizes)},
        mean=_summary(distances.mean(dim=2)),
    )


def random_patches(images: Tensor, count: int, random: torch.Generator) -> Tensor:
    """`count` patches of 7×7 from each image at random places: [N, C, H, W] -> [N * count, C, 7, 7]."""
    windows = images.unfold(2, SIDE, 1).unfold(3, SIDE, 1).permute(0, 2, 3, 1, 4, 5)  # [N, tops, lefts, C, 7, 7]
    owners = torch.arange(len(images))[:, None].expand(-1, count)
    tops, lefts = (torch.randint(places, owners.shape, generator=random) for places in windows.shape[1:3])
    return windows[owners, tops, lefts].flatten(0, 1)


def normalise_(patches: Tensor) -> Tensor:
    """Gives each channel of contiguous [N, C, 7, 7] the mean 0 and the standard deviation 1, in place.

    A channel that hardly varies, by about a hundredth of a level of 8 bits, is noise of rounding, and is not amplified.
    """
    pixels = patches.view(*patches.shape[:2], SIDE**2)
    # First each patch, then the patches: millions of float32 are not added up one by one.
    pixels -= pixels.mean(2).mean(0)[:, None]
    deviation = pixels.norm(dim=2).double().norm(dim=0) / math.sqrt(len(pixels) * SIDE**2)
    pixels /= torch.where(deviation > 1e-4, deviation, 1).to(pixels.dtype)[:, None]
    return patches


def _projections(images: Images, indices: Tensor, directions: list[Tensor], random: torch.Generator) -> list[Tensor]:
    """The patches of some of the images, level by level, along random directions: [PROJECTIONS, patches], sorted."""
    parts = [
        [random_patches(level, PER_IMAGE, random) for level in laplacian_pyramid(images.batch(part))]
        for part in indices.split(CHUNK)
    ]
    return [
        sorted_projections(normalise_(torch.cat(level)).flatten(1), along)
        for level, along in zip(zip(*parts, strict=True), directions, strict=True)
    ]


def _summary(distances: Tensor) -> PatchDistance:
    """The summary of distances [2, REPEATS], to samples and to other images."""
    (samples, floor), (samples_std, floor_std) = distances.mean(1).tolist(), distances.std(1).tolist()
    return PatchDistance(samples, samples_std, floor, floor_std)
