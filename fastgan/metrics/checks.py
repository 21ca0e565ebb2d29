"""Checks of the metrics' arguments: type, shape, number of points, finite values.

A network that has diverged returns NaN and infinity, which would end in plausible figures: comparisons with NaN are
false, and an argmax finds it. An eigenvalue routine may even end the process.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fastgan.ops._common.checks import check_floating, check_labels

LARGEST = 1e15
"""The largest number accepted: its sums of squares are finite in float32, of fourth powers in float64."""


def check_set(owner: str, name: str, value: Any, one: Sequence[int | str], least: int = 1) -> None:
    """Raises unless the argument is a set of at least `least` finite points.

    Args:
        owner, name: of the metric and the argument, for the message.
        value: floating point, [N, ...].
        one: the shape of one point; a string matches any size of at least 1.

    Raises:
        TypeError: it is no floating-point tensor.
        ValueError: it has another shape, is too few, or holds NaN, infinity or numbers beyond 1e15.
    """
    check_floating(owner, name, value)
    sizes = list(value.shape)
    fits = len(sizes) == 1 + len(one) and sizes[0] >= least
    if not fits or any(size < 1 if isinstance(e, str) else size != e for size, e in zip(sizes[1:], one, strict=True)):
        wanted = ", ".join(map(str, one))
        raise ValueError(f"{owner}: {name} has shape {sizes}, expected [at least {least}, {wanted}]")
    check_finite(owner, name, value)


def check_finite(owner: str, name: str, value: Tensor) -> None:
    """Raises ValueError for a tensor that holds NaN, infinity or numbers beyond 1e15; the message says where first."""
    if not value.numel():
        return
    least, largest = (end.item() for end in value.detach().aminmax())  # both are NaN if one number is
    if least >= -LARGEST and largest <= LARGEST:
        return
    first = (~(value.detach().double().abs() <= LARGEST)).nonzero()[0].tolist()
    raise ValueError(
        f"{owner}: {name} holds {value[tuple(first)].item():g} at {first}, expected finite numbers, of at most "
        f"{LARGEST:g} in size"
    )


def check_class_logits(owner: str, name: str, value: Any) -> None:
    """Raises unless the argument is logits [N, classes], N at least 1: numbers of at most 1e15, or minus infinity.

    Raises:
        TypeError: it is no floating-point tensor.
        ValueError: it has another shape, or a row without any finite number or with other ones.
    """
    check_floating(owner, name, value)
    impossible = value == -torch.inf
    check_set(owner, name, value.masked_fill(impossible, 0), ("classes",))
    if impossible.all(dim=1).any():
        raise ValueError(f"{owner}: {name} has a row of minus infinity only, expected a class that is possible")


def check_classes(owner: str, name: str, labels: Any, size: int, classes: int) -> None:
    """Raises unless the argument names one of `classes` classes for each of `size` samples.

    Raises:
        TypeError: it is no tensor of integers.
        ValueError: its shape is another, or a class is out of range.
    """
    check_labels(owner, name, labels, size)
    wrong = labels[(labels < 0) | (labels >= classes)]
    if len(wrong):
        raise ValueError(f"{owner}: {name} holds {wrong[0]}, expected classes, 0 to {classes - 1}")
