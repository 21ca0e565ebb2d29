"""Many small images as one that a person can look at."""

import io
import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fastgan.files import atomic_file

SHORT_SIDE = 64
"""Images smaller than this are enlarged, in whole steps, to at least this many pixels."""


def image_grid(images: Tensor, columns: int | None = None, gap: int | None = None) -> Tensor:
    """Images side by side, nearly square, enlarged smoothly if they are small, a dark line between them.

    Args:
        images: floating point [N, 1 or 3, H, W] in [-1, 1], N at least 1; values outside are clamped.
        columns: images in a row; by default so many that the grid is nearly square.
        gap: pixels of the line between them; by default half of the enlargement.

    Returns:
        uint8 [1 or 3, height, width] on the CPU.
    """
    count, channels, height, width = images.shape
    scale = max(1, -(-SHORT_SIDE // min(height, width)))
    images = torch.nn.functional.interpolate(images.float().cpu(), scale_factor=scale, mode="bicubic")
    pixels = ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    columns = columns or math.ceil(math.sqrt(count))
    rows = -(-count // columns)
    gap = max(1, scale // 2) if gap is None else gap
    down, across = height * scale + gap, width * scale + gap
    grid = torch.full((channels, rows * down + gap, columns * across + gap), 40, dtype=torch.uint8)
    for index, image in enumerate(pixels):
        top, left = index // columns * down + gap, index % columns * across + gap
        grid[:, top : top + height * scale, left : left + width * scale] = image
    return grid


def write_png(grid: Tensor, path: Path) -> None:
    """Writes uint8 [1 or 3, height, width] as a PNG, whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    array = grid.permute(1, 2, 0).numpy()
    picture = Image.fromarray(np.ascontiguousarray(array[..., 0] if array.shape[2] == 1 else array))
    encoded = io.BytesIO()
    picture.save(encoded, format="PNG")
    with atomic_file(path) as file:
        file.write(encoded.getvalue())
