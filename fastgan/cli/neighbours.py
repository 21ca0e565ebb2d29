"""The picture of `fastgan sample --neighbours`: samples beside the training images nearest to them."""

from typing import Any

import torch
from torch import Tensor

from fastgan.errors import UserError
from fastgan.metrics import Memorisation, memorisation, nearest_neighbours
from fastgan.recipes import Trained
from fastgan.tasks.grid import image_grid

SAMPLES = 256
"""The least number of samples whose distances to the training data are compared."""


def neighbours_grid(
    trained: Trained, rows: int, k: int, seed: int, psi: float = 1.0, label: int | None = None
) -> tuple[Tensor, Memorisation]:
    """A picture of samples, each beside its k nearest training images, and distances of samples to the data.

    By the Euclidean distance of pixels. All training images are compared, of whatever data: built-in sets and folders
    are finite.

    Args:
        trained: a GAN of images, whose data can be read again.
        rows: samples in the picture, at least 1.
        k: training images beside each, at least 1.
        seed, psi, label: as for `GAN.sample`.

    Returns:
        uint8 [C, height, width], and the distances of `rows` samples, or of 256 if those are fewer.

    Raises:
        UserError: the data cannot be read again or are too few, or the generator has no styles and psi is not 1.
    """
    images: Any = trained.sources()["image"]
    least = max(2, k)
    if len(images) < least:
        raise UserError(
            f"CHECKPOINT was trained on {len(images)} images, expected at least {least} for --neighbours {k}"
        )
    samples = trained.task.sample(max(rows, SAMPLES), seed, psi=psi, labels=label)
    shown = samples[:rows]
    _, indices = nearest_neighbours(shown, images, k)
    nearest = images.batch(indices.flatten()).unflatten(0, indices.shape)
    lines = torch.cat([shown[:, None], nearest], dim=1)
    return image_grid(lines.flatten(0, 1), columns=1 + k), memorisation(samples, images)
