"""What the regularisers ask of their arguments."""

import math
from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn


def check_number(owner: str, name: str, value: Any, least: float = 0.0, above: bool = False) -> None:
    """Raises ValueError for what is no finite number >= `least`, or > `least` if `above`."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < least or (above and value == least):
        raise ValueError(f"{owner}: {name} is {value!r}, expected a finite number {'>' if above else '>='} {least:g}")


def tensors(owner: str, name: str, value: Any) -> list[Tensor]:
    """The tensors of an iterable such as `critic.parameters()`, which can be read once only.

    Raises:
        TypeError: it is a single tensor, whose rows would be taken, a module, or holds something else.
        ValueError: it is empty.
    """
    if isinstance(value, (Tensor, nn.Module)) or not isinstance(value, Iterable):
        raise TypeError(
            f"{owner}: {name} is {type(value).__name__}, expected several tensors, as in critic.parameters()"
        )
    found = list(value)
    for item in found:
        if not isinstance(item, Tensor):
            raise TypeError(f"{owner}: {name} holds a {type(item).__name__}, expected tensors")
    if not found:
        raise ValueError(f"{owner}: {name} is empty, expected at least one tensor (parameters() can be read only once)")
    return found
