"""Labels: one more tensor beside the images of a batch and beside the latents of its samples, or none."""

from typing import NamedTuple

import torch
from torch import Tensor


class Batch(NamedTuple):
    """Data of one update, on the device.

    Attributes:
        images: float32 [B, C, H, W] in [-1, 1].
        labels: their classes, int64 [B]; None in a run without classes.
    """

    images: Tensor
    labels: Tensor | None = None


class Labels(NamedTuple):
    """The classes in one update, int64 [B] on the device.

    Attributes:
        real: of the data; None in a run without classes.
        fake: that the samples are to be of; None where the generator is not told.
    """

    real: Tensor | None = None
    fake: Tensor | None = None


UNLABELLED = Labels()


def given(labels: Tensor | None) -> tuple[Tensor, ...]:
    """The labels as further arguments of a network's call; none where there are none."""
    return () if labels is None else (labels,)


def draw_labels(
    counts: Tensor,  # [n]
    size: int,
    random: torch.Generator,
) -> Tensor:  # [size]
    """Classes as frequent as those of the data: int64, on the CPU.

    Args:
        counts: how many images each class has.
        size: of the batch.
        random: on the CPU, so that they are the same for every device.
    """
    return torch.multinomial(counts.double(), size, replacement=True, generator=random)
