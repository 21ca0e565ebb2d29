"""Checks of arguments that ops, layers and losses share; messages name the owner and the argument."""

import math
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import torch
from torch import Tensor


def check_floating(op: str, name: str, value: Any, expected: str = "a floating-point tensor") -> None:
    """Raises unless `value` is a floating-point tensor.

    Raises:
        TypeError: it is none; the message names the op, the argument and what came.
    """
    if not isinstance(value, Tensor) or not value.is_floating_point():
        what = str(value.dtype) if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(f"{op}: {name} is {what}, expected {expected}")


def check_count(owner: str, name: str, value: Any) -> None:
    """Raises ValueError unless `value` is an integer of at least 1."""
    if not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{owner}: {name} is {value!r}, expected an integer of at least 1")


def check_labels(owner: str, name: str, value: Any, size: int) -> None:
    """Raises unless `value` is a tensor of integer class labels, [size].

    Raises:
        TypeError: it is no tensor of int32 or int64.
        ValueError: it has another shape.
    """
    if not isinstance(value, Tensor) or value.dtype not in (torch.int64, torch.int32):
        what = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(f"{owner}: {name} is {what}, expected labels, torch.int64 or torch.int32")
    if value.shape != (size,):
        raise ValueError(f"{owner}: {name} has shape {list(value.shape)}, expected [{size}]")


def check_number(owner: str, name: str, value: Any, least: float = 0.0, above: bool = False) -> None:
    """Raises ValueError unless `value` is a finite number >= `least`, or > `least` if `above`."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < least or (above and value == least):
        raise ValueError(f"{owner}: {name} is {value!r}, expected a finite number {'>' if above else '>='} {least:g}")


def check_shape(owner: str, name: str, value: Any, expected: Sequence[int | str]) -> None:
    """Raises unless `value` is floating point with this shape; a string matches any size.

    Raises:
        TypeError: it is no floating-point tensor.
        ValueError: it has another shape.
    """
    check_floating(owner, name, value)
    sizes = value.shape
    if len(sizes) != len(expected) or any(isinstance(e, int) and e != s for e, s in zip(expected, sizes, strict=True)):
        wanted = ", ".join(map(str, expected))
        raise ValueError(f"{owner}: {name} has shape {list(sizes)}, expected [{wanted}]")
