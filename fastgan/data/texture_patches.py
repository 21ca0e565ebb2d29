"""Patches of scikit-learn's two photographs, a Chinese pagoda and a dahlia, which need no download."""

import numpy as np
import torch
from PIL import Image

from fastgan.data.images import Images, Resolution, image_shape
from fastgan.errors import UserError

VIEW = 128
"""Pixels of the photograph along the longer side of a small patch: roof tiles, petals and foliage are told apart, and
few patches are nothing but sky. Larger patches show as many as they have."""


def textures(resolution: Resolution, channels: int) -> Images:
    """Every patch of both photographs and of their mirror images: 155,228 of 64×64 pixels.

    The photographs have 427×640 pixels and are first reduced by a whole factor if the patches are smaller than 128
    pixels. Only they are kept, at most 3.3 MB: the patches are views, cut when they are read.

    Args:
        resolution: height and width of the patches.
        channels: 1 for grey, 3 for RGB.

    Returns:
        Images with uint8 pixels [2 photographs, 2 mirrored, tops, lefts, channels, height, width].

    Raises:
        UserError: the photographs are smaller than that.
    """
    return _patches("textures", _photographs(), resolution, channels)


def pagoda(resolution: Resolution, channels: int) -> Images:
    """The patches of the first photograph alone, as `textures`: pixels [1, 2, tops, lefts, channels, height, width]."""
    return _patches("pagoda", _photographs()[:1], resolution, channels)


def dahlia(resolution: Resolution, channels: int) -> Images:
    """The patches of the second photograph alone, as `pagoda`."""
    return _patches("dahlia", _photographs()[1:], resolution, channels)


def _photographs() -> list[np.ndarray]:
    from sklearn.datasets import load_sample_images  # 2 s to import, and only needed here

    return load_sample_images().images


def _patches(name: str, images: list[np.ndarray], resolution: Resolution, channels: int) -> Images:
    channels, height, width = image_shape(resolution, channels)
    photographs = [Image.fromarray(photograph) for photograph in images]
    across, down = photographs[0].size
    if height > down or width > across:
        raise UserError(f"--data is {name!r}, patches of {down}x{across} photographs; the run expects {height}x{width}")
    factor = max(1, VIEW // max(height, width))
    reduced = [photograph.convert("L" if channels == 1 else "RGB").reduce(factor) for photograph in photographs]
    pixels = torch.from_numpy(np.stack([np.atleast_3d(np.asarray(picture)) for picture in reduced]))
    # Channel by channel, so that a batch of patches is contiguous.
    pixels = pixels.permute(0, 3, 1, 2).contiguous()
    mirrored = torch.stack([pixels, pixels.flip(3)], dim=1)  # [photographs, mirrored, channels, down, across]
    patches = mirrored.unfold(3, height, 1).unfold(4, width, 1).movedim(2, 4)
    return Images(name, patches)
