"""Replaces layers of other code bases, after a copy has shown that the replacement computes the same.

Their attributes suggest what they compute. That they do is verified on a copy, in float64, before anything is replaced.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from fastgan.acceleration.substitute import replaces

TOLERANCE = 1e-9


def subclass(
    kind: type[nn.Module], mark: str, methods: dict[str, Callable[..., Any]], rebuild: Callable[..., nn.Module],
    arguments: tuple,
) -> type[nn.Module]:  # fmt: skip
    """A subclass of a foreign layer with other methods, which has `mark` as an attribute.

    A class made here has no name by which pickle would find it: `rebuild(*arguments)` makes an empty object of it. A
    layer that pickles itself in a way of its own goes on doing so, as what it was.
    """
    body: dict[str, Any] = {**methods, "__module__": kind.__module__, mark: True}
    if kind.__reduce_ex__ is object.__reduce_ex__ and kind.__reduce__ is object.__reduce__:
        body["__reduce_ex__"] = lambda self, protocol: (rebuild, arguments, _state(self))
    return replaces(kind)(type(kind.__name__, (kind,), body))


def _state(module: nn.Module) -> Any:
    return module.__getstate__() if hasattr(module, "__getstate__") else module.__dict__  # object has it from 3.11 on


@contextmanager
def verifying() -> Iterator[None]:
    """A context that protects the global random state from a layer, and the layer from autocast and no_grad."""
    with torch.random.fork_rng(devices=[]), torch.enable_grad(), torch.autocast("cpu", enabled=False):
        yield


def copy_of(module: nn.Module, training: bool) -> Any:
    return copy.deepcopy(module).to("cpu", torch.float64).train(training)


def largest_difference(theirs: nn.Module, replacement: type[nn.Module], x: Tensor, generator: torch.Generator) -> float:
    """The largest difference of the outputs and of the gradients, to x and the parameters, if a copy is replaced."""
    ours = copy.deepcopy(theirs)
    ours.__class__ = replacement
    results: list[list[Tensor]] = []
    dy: Tensor | None = None
    for module in (theirs, ours):
        point = x.clone().requires_grad_()
        y = module(point)
        if results and y.shape != results[0][0].shape:
            return float("inf")
        if dy is None:
            dy = torch.randn(y.shape, generator=generator, dtype=y.dtype)
        results.append([y.detach(), *torch.autograd.grad(y, [point, *module.parameters()], dy)])
    worst = max(float((a - b).abs().max()) for a, b in zip(*results, strict=True))
    return worst if worst == worst else float("inf")
