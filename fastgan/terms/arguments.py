"""Checks of the parameters that regularisers are given."""

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn


def tensors(owner: str, name: str, value: Any) -> list[Tensor]:
    """The tensors of an iterable such as `critic.parameters()`, as a list.

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
