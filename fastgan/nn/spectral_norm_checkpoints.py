"""The singular vectors of a checkpointed layer, for when it is computed again in the backward pass.

An activation checkpoint runs a layer a second time, perhaps after further forward passes have iterated u and v: to
differentiate the function that was computed, the second time must have the vectors of the first. PyTorch tells a layer
nothing of the checkpoints around it, so that they are looked for where they leave traces: in the hooks that see what is
saved for the backward pass (use_reentrant=False), and on the stack, as the context of the autograd Function whose
forward runs the layer without a graph (use_reentrant=True; other packages' checkpoints are such Functions too).
"""

import sys
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from fastgan import _torch_private as private


class _Uses:
    """The vectors of each use of a layer inside a checkpoint, in order."""

    def __init__(self) -> None:
        self.vectors: list[tuple[Tensor, Tensor]] = []
        self.asked: dict[int, int] = {}  # by backward pass: each computes the layers again, from the first


_uses: weakref.WeakKeyDictionary[Any, dict[tuple[int, str], _Uses]] = weakref.WeakKeyDictionary()
"""Stored uses by checkpoint (weakly) and by the layer's id and weight: a layer may hold the graph."""


def computed_again() -> bool:
    """Whether this is a forward pass within a backward pass, as activation checkpointing makes."""
    return private.current_backward_pass() != -1


def remember(layer: nn.Module, name: str, vectors: tuple[Tensor, Tensor]) -> None:
    """Stores u and v of a layer's weight for the checkpoints that are running it; the tensors must not change."""
    for region in _regions():
        _keep(region, (id(layer), name), vectors)


def recall(layer: nn.Module, name: str) -> tuple[Tensor, Tensor] | None:
    """The u and v of the layer's first computation; None if they were not stored."""
    task, regions, key = private.current_backward_pass(), _regions(), (id(layer), name)
    for depth in reversed(range(len(regions))):  # those inside the one that is repeated run for the first time
        uses = _uses.get(regions[depth], {}).get(key)
        i = -1 if uses is None else uses.asked.get(task, 0)
        if uses is None or i >= len(uses.vectors):
            continue
        uses.asked[task] = i + 1
        for inner in regions[:depth]:
            _keep(inner, key, uses.vectors[i])
        return uses.vectors[i]
    return None


def _keep(region: Any, key: tuple[int, str], vectors: tuple[Tensor, Tensor]) -> None:
    _uses.setdefault(region, {}).setdefault(key, _Uses()).vectors.append(vectors)


def _regions() -> list[Any]:
    """The running checkpoints, the innermost first; a checkpoint is the same object when it is repeated."""
    found = []
    if private.top_saved_tensors_hooks(False) is not None:
        found += [frame for pack in _pack_hooks() for frame in [private.checkpoint_behind(pack)] if frame is not None]
    if not torch.is_grad_enabled():
        found += _contexts_on_stack()
    if computed_again():
        node = private.current_backward_node()
        found += [node] if isinstance(node, FunctionCtx) else []
    return found


def _pack_hooks() -> list[Callable[..., Any]]:
    """Those of all torch.autograd.graph.saved_tensors_hooks around us, the innermost first. PyTorch shows one only."""
    hooks = []
    try:
        while (top := private.top_saved_tensors_hooks(False)) is not None:
            hooks.append(top)
            private.pop_saved_tensors_hooks()
    finally:
        for pack, unpack in reversed(hooks):
            private.push_saved_tensors_hooks(pack, unpack)
    return [pack for pack, _ in hooks]


def _contexts_on_stack() -> list[Any]:
    """The contexts of the autograd Functions whose forward is running."""
    found = []
    frame: Any = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if code.co_name == "forward" and code.co_varnames[:1] == ("ctx",):
            context = frame.f_locals["ctx"]
            if isinstance(context, FunctionCtx):
                found.append(context)
        frame = frame.f_back
    return found
