"""Finds out before a step whether PyTorch can differentiate a critic twice."""

import re
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from fastgan._torch_private import is_fully_sharded
from fastgan.penalties import double_backward
from fastgan.penalties.eligibility import remembered, verdicts_of
from fastgan.penalties.modules import each_module_of
from fastgan.penalties.state import Snapshot, Watch

_DOUBTFUL = re.compile("attention|autograd.Function|autograd function|checkpoint|ompiled")
"""What the reasons against one pass tell of operations that PyTorch may not differentiate twice."""


def why_not_twice(network: Callable[..., Tensor], calls: Sequence[tuple]) -> str | None:
    """Why the gradient of a network at these arguments cannot be differentiated; None if nothing is known against it.

    Where there is a doubt the network runs once, and is left as it was; the finding is remembered.
    """
    if any(is_fully_sharded(module) for module in each_module_of(network)):
        return "fully_shard frees the weights after the first backward pass"
    for call, verdict in zip(calls, verdicts_of(network, calls), strict=True):
        if any(_DOUBTFUL.search(reason) for reason in verdict.reasons):
            found = remembered("twice", network, call, lambda call=call: _try(network, *call))  # type: ignore[misc]
            if found is not None:
                return found
    return None


def _try(network: Callable[..., Tensor], x: Tensor, *rest: Any) -> str | None:
    snapshot = Snapshot(network, x.device)
    try:
        with Watch(snapshot):
            _, g = double_backward.gradient(network, x, rest)
    except RuntimeError as error:  # of the critic itself too: the step then raises it
        return _why(error)
    finally:
        snapshot.put_back()
    return _refusal_in(g)


def _why(error: RuntimeError) -> str | None:
    """What an error says of the operation that has no second derivative; None for one of the critic itself."""
    text = str(error).splitlines()[0]
    if "torch.utils.checkpoint is incompatible with .grad()" in text:
        return "a region is checkpointed with use_reentrant=True, expected use_reentrant=False"
    return text if "double backward" in text or "is not implemented" in text else None


def _what_it_raises(node: Any, g: Tensor) -> str:
    """The message of a node that stands for a derivative which there is not."""
    try:
        node(g)
    except RuntimeError as error:
        return str(error).splitlines()[0]
    return "a derivative is not implemented"


def _refusal_in(g: Tensor) -> str | None:
    """The operation whose derivative has none of its own."""
    seen: set[Any] = set()
    waiting = [g.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node.name() == "torch::autograd::NotImplemented":
            return _what_it_raises(node, g)
        if node.name() == "CompiledFunctionBackwardBackward":
            return "a part of the critic is compiled, which PyTorch does not differentiate twice"
        waiting.extend(below for below, _ in node.next_functions)
    return None
