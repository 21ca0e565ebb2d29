"""Laplacian pyramids: an image's details at each scale, and the low-resolution rest."""

from functools import cache

import numpy as np
import torch
from torch import Tensor

from fastgan.metrics.checks import check_set

SMALLEST = 16


def laplacian_pyramid(images: Tensor, smallest: int = SMALLEST) -> list[Tensor]:
    """Splits images into octaves of detail.

    Every level but the last is an image minus what is left of it after halving and doubling; the last is the image
    halved as often as that went: both sides even, and at least `smallest` afterwards. Adding up the levels, each
    doubled to the size of the next, gives back the images.

    Args:
        images: floating point [N, C, H, W] on the CPU.
        smallest: the shorter side of the last level is at least this, unless the images are smaller.

    Returns:
        [N, C, H, W], [N, C, H/2, W/2], ...: at least one level, of the same dtype.

    Raises:
        TypeError, ValueError: the images have another type or shape, are none or not finite.

    Burt and Adelson 1983, with the binomial filter of five taps (their a = 3/8), mirrored at the border.
    """
    check_set("laplacian_pyramid", "images", images, ("C", "H", "W"))
    levels = []
    while all(side % 2 == 0 and side >= 2 * smallest for side in images.shape[-2:]):
        rows, columns = (_halving_and_doubling(side, images.dtype) for side in images.shape[-2:])
        halved = rows[0] @ images @ columns[0].mT
        levels.append(images - rows[1] @ halved @ columns[1].mT)
        images = halved
    return [*levels, images]


@cache
def _halving_and_doubling(side: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The matrices that filter and drop every second pixel, or put zeros between the pixels and filter.

    They are [side/2, side] and [side, side/2]. As products of matrices this takes a sixth of the time of convolutions
    with one channel.
    """
    mirrored = np.pad(np.arange(side), 2, mode="reflect")
    blur = np.zeros((side, side))
    for offset, weight in enumerate((1, 4, 6, 4, 1)):
        blur[np.arange(side), mirrored[offset : offset + side]] += weight / 16
    return torch.from_numpy(blur[::2]).to(dtype), torch.from_numpy(2 * blur[:, ::2]).to(dtype)
