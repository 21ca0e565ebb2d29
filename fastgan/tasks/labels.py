"""Labels: one more tensor beside the data of a batch and beside the latents of its samples, or none."""

from typing import NamedTuple

import torch
from torch import Tensor

from fastgan.ops._common.checks import check_labels


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


def asked_for(labels: Tensor | int, n: int, num_classes: int) -> Tensor:
    """The classes that n samples are to be of, int64 [n]; of one number as many.

    Raises:
        TypeError, ValueError: they are not n classes of so many.
    """
    if isinstance(labels, int):
        labels = torch.full((n,), labels)
    check_labels("sample", "labels", labels, n)
    wrong = labels[(labels < 0) | (labels >= num_classes)]
    if len(wrong) or not num_classes:
        expected = f"0 to {num_classes - 1}" if num_classes else "None: the generator is unconditional"
        raise ValueError(f"sample: labels hold {labels.unique().tolist()}, expected {expected}")
    return labels
