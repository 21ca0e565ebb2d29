"""Runs a critic once and finds out whether differences may stand for its second derivatives.

The run is a step's own, not one ahead of it: what it finds is true of this call.
"""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fastgan._torch_private import is_compiled_module, sequence_number
from fastgan.affine import NotAffineError
from fastgan.affine.function_mode import BehindAutograd
from fastgan.losses.structure import tensors_of
from fastgan.penalties.double_backward import leaf
from fastgan.penalties.eligibility import running_module
from fastgan.penalties.graph_nodes import leaf_of, nodes_below
from fastgan.penalties.modules import each_module_of, is_accelerated, is_sharded, modules_of
from fastgan.penalties.outputs import Form, Outputs
from fastgan.penalties.smooth import Smoothness, may_have_any_backward
from fastgan.penalties.state import Snapshot, Watch


@dataclass(frozen=True)
class SmoothRun:
    """A run of a critic.

    Attributes:
        x: the samples, a leaf of autograd.
        parts, form: what it returned.
        reason: why it is not smooth in its samples as far as is known; None if it is.
        random: the operation that drew random numbers; None if none did.
        lowest: the least precise dtype of what was computed from the samples.
        outside: tensors of autograd's graph that were made before, and that it used: weights made elsewhere.
        before: the state that it started from.
        as_written: whether a part of it, compiled or accelerated, ran as it was written.
    """

    x: Tensor
    parts: list[Tensor]
    form: Form
    reason: str | None
    random: str | None
    lowest: torch.dtype
    outside: list[Tensor]
    before: Snapshot
    as_written: bool


def run_smooth(network: Callable[..., Any], outputs: Outputs, x: Tensor, *rest: Any) -> SmoothRun:
    """Calls network(x, *rest) and follows x through it."""
    names = {module: f"{name}: {type(module).__name__}" for module, name in modules_of(network).items()}
    compiled = any(is_compiled_module(module) for module in each_module_of(network))
    before = Snapshot(network, x.device)
    before.add_small_tensors()
    with torch.enable_grad():
        x = leaf(x)
        follow = Smoothness(x, lambda: running_module(names, run_smooth))
        uncompiled = torch.compiler.set_stance("force_eager") if compiled else contextlib.nullcontext()
        with contextlib.ExitStack() as stack:
            stack.enter_context(uncompiled)
            if is_sharded(network):
                # It works by hooks on activations, and the memory of weights that it gathers is not to be put back.
                stack.enter_context(follow)
            else:
                for mode in (Watch(before), follow, _Behind(follow)):
                    stack.enter_context(mode)
            parts, form = outputs.parts(network(x, *rest), len(x))
    judged = tensors_of(form.judged(parts))
    reason = _why_not(network, follow, parts, judged)
    as_written = compiled or any(is_accelerated(module) for module in each_module_of(network))
    return SmoothRun(x, parts, form, reason, follow.random, follow.lowest, follow.outside, before, as_written)


class _Behind(BehindAutograd):
    """`BehindAutograd`, which also sees numbers leave PyTorch without an operation, and hooks on weights."""

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func is Tensor.tolist and self.recorder.marked(args[0]):
            self.recorder.refuse(NotAffineError("tolist makes Python numbers of the samples"))
        if func is Tensor.register_hook:
            self.recorder.refuse(NotAffineError("a hook that the critic registers would see parts of a gradient"))
        return super().__torch_function__(func, types, args, kwargs)


def _why_not(
    network: Callable[..., Any], follow: Smoothness, parts: Sequence[Tensor], judged: Sequence[Tensor]
) -> str | None:
    """Why a part is not smooth in the samples; what the loss alone is given may be no function of them."""
    if not len(follow.x):
        return "the batch has no samples"
    for module in each_module_of(network):
        if module._backward_hooks or module._backward_pre_hooks:
            return f"a backward hook of a {type(module).__name__} may change a gradient"
    for y in judged:
        if len(y) != len(follow.x):
            return f"an output has shape {list(y.shape)}, expected [{len(follow.x)}, ...]"
    whys = (follow.why_not(y) for y in parts if follow.follows(y) or any(y is of for of in judged))
    return next((why for why in whys if why is not None), None) or _hidden_function(parts, follow.x)


def _hidden_function(parts: Sequence[Tensor], x: Tensor) -> str | None:
    """An autograd.Function of unknown backward between x and the parts, whatever it was called with."""
    reaches: dict[Any, bool] = {None: False}
    waiting = [y.grad_fn for y in parts]
    while waiting:
        node = waiting[-1]
        if node in reaches:
            waiting.pop()
            continue
        below = [parent for parent, _ in node.next_functions]  # type: ignore[union-attr]
        unknown = [parent for parent in below if parent not in reaches]
        if unknown:
            waiting += unknown
            continue
        reaches[node] = leaf_of(node) is x or any(reaches[parent] for parent in below)
        waiting.pop()
    for node, found in reaches.items():
        if found and may_have_any_backward(node):
            return f"the autograd.Function {node.name().removesuffix('Backward')} may have any backward"
    return None


_SAME = {"ReshapeAliasBackward0": "ViewBackward0"}
"""reshape makes the one where a dispatch mode is active, as in the run at the samples, and the other elsewhere."""


def path_of(parts: Sequence[Tensor]) -> tuple[str, ...]:
    """The names of the nodes of autograd's graph below some tensors, in an order that only the graph determines."""
    return tuple(_SAME.get(node.name(), node.name()) for node in nodes_below(parts))


def leaves_above(parts: Sequence[Tensor], outside: Sequence[Tensor], since: int) -> tuple[list[Tensor], bool]:
    """The leaves that autograd reaches without passing through the tensors `outside`.

    Returns:
        (the leaves, whether there are other nodes that were made before the one of the sequence number `since`).
    """
    leaves: list[Tensor] = []
    older = False
    for node in nodes_below(parts, beyond=outside):
        leaf = leaf_of(node)
        if leaf is not None:
            leaves.append(leaf)
        else:
            older |= sequence_number(node) < since
    return leaves, older
