"""scikit-learn's handwritten digits: 1,797 real images of 8×8 pixels, which need no download."""

from functools import cache

import torch
from torch import Tensor

from fastgan.data.images import Images


@cache
def _bunch() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits  # 2 s to import, and only needed here

    bunch = load_digits()
    # The scanner counted the dark pixels of 4×4 blocks: integers from 0 to 16.
    pixels = torch.from_numpy(bunch.images).float()[:, None] / 8 - 1
    return pixels, torch.from_numpy(bunch.target).long()


def digits() -> Images:
    """The digits as images: float32 [1797, 1, 8, 8] in [-1, 1], ink positive.

    Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits, UCI (the test part).
    """
    return Images("digits", _bunch()[0])


def digit_labels() -> Tensor:
    """Which digit each image of `digits()` shows: int64 [1797], 0 to 9."""
    return _bunch()[1]
