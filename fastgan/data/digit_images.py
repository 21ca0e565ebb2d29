"""scikit-learn's handwritten digits: 1,797 real images of 8×8 pixels, which need no download."""

from functools import cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fastgan.data.images import Images, Resolution, image_shape
from fastgan.errors import UserError

SIDE = 8


@cache
def _bunch() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits  # 2 s to import, and only needed here

    bunch = load_digits()
    # The scanner counted the dark pixels of 4×4 blocks: integers from 0 to 16.
    pixels = torch.from_numpy(bunch.images).float()[:, None] / 8 - 1
    return pixels, torch.from_numpy(bunch.target).long()


def digits(resolution: Resolution = SIDE, channels: int = 1) -> Images:
    """The digits as images, ink positive: float32 [1797, channels, 8, 8] in [-1, 1], or enlarged as uint8.

    Enlarging (Lanczos) rounds to 256 levels: it takes a quarter of the memory, and Pillow's integer arithmetic gives
    the same pixels on every machine. The channels of a colour image are one grey channel in memory. The classes are the
    digits, `digit_labels()`.

    Args:
        resolution: height and width, equal and at least 8.
        channels: 1 for grey, 3 for RGB.

    Raises:
        UserError: the resolution is another one.

    Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits, UCI (the test part).
    """
    channels, height, width = image_shape(resolution, channels)
    if not height == width >= SIDE:
        raise UserError(f"--data is 'digits', images of 8x8 or enlarged to a square; the run expects {height}x{width}")
    pixels, labels = _bunch()
    if height > SIDE:
        levels = ((pixels[:, 0] + 1) * 127.5).round().to(torch.uint8).numpy()
        enlarged = [Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS) for image in levels]
        pixels = torch.from_numpy(np.stack([np.asarray(image) for image in enlarged]))[:, None]
    return Images("digits", pixels.expand(-1, channels, -1, -1), labels, tuple("0123456789"))


def digit_labels() -> Tensor:
    """The digit that each image of `digits()` shows: int64 [1797], 0 to 9."""
    return _bunch()[1]
