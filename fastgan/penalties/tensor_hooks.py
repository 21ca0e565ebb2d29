"""Keeps the hooks of tensors from being called with a part of a gradient."""

import contextlib
from collections.abc import Iterator, Sequence

from torch import Tensor


@contextlib.contextmanager
def without_hooks(tensors: Sequence[Tensor]) -> Iterator[None]:
    """Inside, hooks on these tensors are not called: they are for the whole gradient, in `.backward()`."""
    hooks = [(t._backward_hooks, dict(t._backward_hooks)) for t in tensors if t._backward_hooks]
    for of_tensor, _ in hooks:
        of_tensor.clear()
    try:
        yield
    finally:
        for of_tensor, kept in hooks:
            of_tensor.update(kept)
