"""Finds out before a step whether PyTorch can differentiate a critic twice."""

import contextlib
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fastgan._torch_private import is_compiled_module, is_fully_sharded
from fastgan.penalties import double_backward
from fastgan.penalties.eligibility import Verdict, remembered
from fastgan.penalties.modules import each_module_of
from fastgan.penalties.objective import leaves_of
from fastgan.penalties.outputs import Outputs
from fastgan.penalties.state import Snapshot, Watch

_DOUBTFUL = re.compile("attention|autograd.Function|autograd function|checkpoint")
"""What the reasons against one pass tell of operations that PyTorch may not differentiate twice."""


def why_not_twice(
    network: Callable[..., Any], calls: Sequence[tuple], outputs: Outputs, verdicts: Sequence[Verdict]
) -> str | None:
    """Why the gradient of a network at these arguments cannot be differentiated; None if nothing speaks against it.

    The finding is remembered. `verdicts` are those on one pass.
    """
    pairs = zip(calls, verdicts, strict=True)
    found = (
        remembered("twice", network, outputs, call, partial(try_twice, network, call, outputs, verdict))
        for call, verdict in pairs
    )
    return next((why for why in found if why is not None), None)


def try_twice(network: Callable[..., Any], call: tuple, outputs: Outputs, verdict: Verdict) -> str | None:
    """The same for one call; the network runs only where the verdict raises a doubt, and is left as it was."""
    if any(is_fully_sharded(module) for module in each_module_of(network)):
        return "fully_shard frees the weights after the first backward pass"
    compiled = any(is_compiled_module(module) for module in each_module_of(network))
    if not compiled and not any(_DOUBTFUL.search(reason) for reason in verdict.reasons):
        return None
    x, *rest = call
    snapshot = Snapshot(network, x.device)
    snapshot.add_small_tensors()
    try:
        with contextlib.nullcontext() if compiled else Watch(snapshot):  # under which nothing compiled would run
            g = double_backward.gradient(network, x, rest, outputs).g
    except RuntimeError as error:  # of the critic itself too: the step then raises it
        return refusal_in(error)
    finally:
        snapshot.put_back()
    return _first_without_derivative(g)


def refusal_in(error: RuntimeError) -> str | None:
    """What an error says of the operation that has no second derivative; None for one of the critic itself."""
    text = str(error).splitlines()[0]
    if "torch.utils.checkpoint is incompatible with .grad()" in text:
        return "a region is checkpointed with use_reentrant=True, expected use_reentrant=False"
    return text if "double backward" in text or "is not implemented" in text else None


def _what_it_raises(g: Tensor) -> str:
    """The message of the error with which the derivative of a gradient ends."""
    try:
        torch.autograd.grad(g.sum(), leaves_of(g), allow_unused=True)
    except RuntimeError as error:
        return str(error).splitlines()[0]
    return "a derivative is not implemented"


def _first_without_derivative(g: Tensor) -> str | None:
    """The operation whose derivative has none of its own."""
    seen: set[Any] = set()
    waiting = [g.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node.name() == "torch::autograd::NotImplemented":
            return _what_it_raises(g)
        if node.name() == "CompiledFunctionBackwardBackward":
            return "a part of the critic is compiled, which PyTorch does not differentiate twice"
        waiting.extend(below for below, _ in node.next_functions)
    return None
