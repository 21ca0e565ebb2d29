"""The node of any operation that is linear in the tensors that depend on the input, by autograd of that one operation.

For operations that are rare or cheap; the hot ones have their own nodes in rules/.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fastgan._torch_private import tree_flatten, tree_unflatten
from fastgan.affine.batch import BatchDim
from fastgan.affine.rule import RuleRecorder
from fastgan.affine.tape import Node, Scales, Slot, Value


class Linear(Node):
    """y = f(inputs, weights), linear in the inputs together and differentiable in the weights."""

    def __init__(
        self,
        f: Callable[[Sequence[Tensor], Sequence[Tensor]], Tensor],
        inputs: Sequence[Value],
        weights: Sequence[Tensor] = (),
        slots: Sequence[Slot | None] = (),
    ) -> None:
        super().__init__(inputs, slots)
        self.f = f
        self.weights = [w.detach() for w in weights]

    def pull(self, delta: Tensor, scales: Scales) -> Sequence[Tensor]:
        # The derivative of a linear function is the same everywhere, so it is taken at a tensor without memory.
        with torch.enable_grad():
            xs = [value.placeholder().requires_grad_() for value in self.inputs]
            return torch.autograd.grad(self.f(xs, self.weights), xs, delta)

    def push(self, us: Sequence[Tensor], scales: Scales) -> Tensor:
        return self.f(us, self.weights)

    def weight_gradients(self, us: Sequence[Tensor], delta: Tensor, scales: Scales) -> Sequence[Tensor | None]:
        with torch.enable_grad():
            weights = [
                w if slot is None else w.requires_grad_() for w, slot in zip(self._aliases(), self.slots, strict=True)
            ]
            wanted = [w for w in weights if w.requires_grad]
            found = iter(torch.autograd.grad(self.f(us, weights), wanted, delta))
        return [next(found) if w.requires_grad else None for w in weights]

    def _aliases(self) -> list[Tensor]:
        return [w.detach() for w in self.weights]


def linear(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict, batch: BatchDim) -> Tensor:
    """Runs `func` and records it as linear in those of its arguments that depend on the input.

    `batch` is where the samples are in the output. Tensors that do not depend on the input are its weights.
    """
    flat, rebuild = _flatten(args, kwargs)
    values = [recorder.find(a) for a in flat]
    inputs = [i for i, v in enumerate(values) if v is not None]
    dependent = [v for v in values if v is not None]
    weights = [i for i, v in enumerate(values) if v is None and isinstance(flat[i], Tensor)]
    frozen = [None if isinstance(a, Tensor) else a for a in flat]

    def f(us: Sequence[Tensor], ws: Sequence[Tensor]) -> Tensor:
        filled = list(frozen)
        for i, u in zip(inputs, us, strict=True):
            filled[i] = u
        for i, w in zip(weights, ws, strict=True):
            filled[i] = w
        a, k = rebuild(filled)
        return func(*a, **k)

    tensors = [flat[i] for i in weights]
    node = Linear(f, dependent, tensors, [recorder.slot(t) for t in tensors])
    return recorder.add(node, func(*args, **kwargs), batch)


def _flatten(args: tuple, kwargs: dict) -> tuple[list[Any], Callable[[list[Any]], tuple[Any, dict]]]:
    leaves, spec = tree_flatten((args, kwargs))
    return leaves, lambda filled: tree_unflatten(filled, spec)
