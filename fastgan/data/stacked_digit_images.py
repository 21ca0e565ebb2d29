"""Three of scikit-learn's digits as the channels of one image: a distribution with 1,000 modes of known share."""

from functools import cache

import torch
from torch import Tensor

from fastgan.data.digit_images import SIDE, digit_labels, digits
from fastgan.data.images import Images, Resolution, image_shape
from fastgan.errors import UserError

STACKED_DIGITS = "stacked-digits"
COUNT = 50_000
"""Images: 50 of a mode on average."""


@cache
def _chosen() -> Tensor:
    """The digits that are stacked: indices into `digits()`, int64 [50000, 3], the same in every process."""
    return torch.randint(len(digit_labels()), (COUNT, 3), generator=torch.Generator().manual_seed(0))


def stacked_digits(resolution: Resolution = SIDE, channels: int = 3) -> Images:
    """50,000 stacks of three digits, each drawn by itself: float32 [50000, 3, 8, 8] in [-1, 1], ink positive.

    What a generator covers of their 1,000 modes, a classifier of single digits can count: see
    `fastgan.metrics.evaluate_stacked_digits`. The classes are the modes, `stacked_labels()`.

    Args:
        resolution: 8, or (8, 8).
        channels: 3.

    Raises:
        UserError: the images that are asked for are of another shape.

    Metz et al. 2017, arXiv:1611.02163, section 3.3.1, and Srivastava et al. 2017, arXiv:1705.07761, section 5, stack
    MNIST's digits.
    """
    shape = image_shape(resolution, channels)
    if shape != (3, SIDE, SIDE):
        wanted = "x".join(map(str, shape))
        raise UserError(
            f"--data is {STACKED_DIGITS!r}, images of 3x8x8; the run expects {wanted}: give data.channels=3 and "
            "data.resolution=8"
        )
    names = tuple(f"{mode:03}" for mode in range(1000))
    return Images(STACKED_DIGITS, digits().pixels[_chosen(), 0], stacked_labels(), names)


def stacked_labels() -> Tensor:
    """The mode of each image of `stacked_digits()`, its three digits read as a number: int64 [50000], 0 to 999."""
    return digit_labels()[_chosen()] @ torch.tensor([100, 10, 1])
