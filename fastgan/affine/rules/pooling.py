"""Rules for maxima (max pooling, max, maximum): the choice of element is locally constant, so it is frozen."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fastgan.affine.batch import broadcast, without
from fastgan.affine.errors import NotAffineError
from fastgan.affine.rule import Rule, RuleRecorder
from fastgan.affine.tape import Node, Scales, Slot, Value

aten = torch.ops.aten


class Gather(Node):
    """y = x at frozen positions: `index` into the flattened dimensions from `start` on, one for each element of y."""

    def __init__(self, x: Value, index: Tensor, start: int) -> None:
        super().__init__([x])
        self.index, self.start = index.flatten(start), start

    def pull(self, delta: Tensor, scales: Scales) -> Sequence[Tensor]:
        (value,) = self.inputs
        flat = delta.new_zeros(value.shape).flatten(self.start)
        return (flat.scatter_add_(self.start, self.index, delta.flatten(self.start)).view(value.shape),)

    def push(self, us: Sequence[Tensor], scales: Scales) -> Tensor:
        return us[0].flatten(self.start).gather(self.start, self.index).view(self.output.shape)


def max_pool(positions: int) -> Any:
    """Rule of max_pool with indices, which count the positions of each feature map."""

    def rule(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict) -> tuple[Tensor, Tensor]:
        value = recorder.value(args[0])
        start = len(value.shape) - positions
        if value.batch.dim >= start:
            raise NotAffineError("a maximum is taken over the samples")
        result, index = func(*args, **kwargs)
        recorder.add(Gather(value, index, start), result, value.batch)
        return result, index

    return rule


class GatherAlong(Node):
    """y = x at frozen positions along one dimension."""

    def __init__(self, x: Value, index: Tensor, dim: int, keepdim: bool) -> None:
        super().__init__([x])
        self.index = index if keepdim else index.unsqueeze(dim)
        self.dim, self.keepdim = dim, keepdim

    def pull(self, delta: Tensor, scales: Scales) -> Sequence[Tensor]:
        delta = delta if self.keepdim else delta.unsqueeze(self.dim)
        return (delta.new_zeros(self.inputs[0].shape).scatter_(self.dim, self.index, delta),)

    def push(self, us: Sequence[Tensor], scales: Scales) -> Tensor:
        y = us[0].gather(self.dim, self.index)
        return y if self.keepdim else y.squeeze(self.dim)


def max_along(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict) -> Any:
    value = recorder.value(args[0])
    dim = args[1] % len(value.shape)
    keepdim = args[2] if len(args) > 2 else kwargs.get("keepdim", False)
    batch = without(len(value.shape), value.batch, [dim], keepdim)
    result = func(*args, **kwargs)
    recorder.add(GatherAlong(value, result[1], dim, keepdim), result[0], batch)
    return result


class Shared(Node):
    """y = the mean over dimensions of the chosen elements: the largest, ties sharing as in amax's derivative."""

    def __init__(self, x: Value, chosen: Tensor, dims: list[int], keepdim: bool) -> None:
        super().__init__([x])
        self.chosen, self.dims, self.keepdim = chosen, dims, keepdim
        self.number = chosen.sum(dims, keepdim=True).to(x.dtype)

    def pull(self, delta: Tensor, scales: Scales) -> Sequence[Tensor]:
        if not self.keepdim:
            for d in self.dims:
                delta = delta.unsqueeze(d)
        return (torch.where(self.chosen, delta / self.number, 0),)

    def push(self, us: Sequence[Tensor], scales: Scales) -> Tensor:
        # Selected, not multiplied by 0 or 1: an element that is not chosen may be infinite.
        return torch.where(self.chosen, us[0] / self.number, 0).sum(self.dims, self.keepdim)


def amax(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict) -> Tensor:
    value = recorder.value(args[0])
    ndim = len(value.shape)
    given = args[1] if len(args) > 1 else kwargs.get("dim", ())
    keepdim = args[2] if len(args) > 2 else kwargs.get("keepdim", False)
    dims = sorted(d % ndim for d in ([given] if isinstance(given, int) else given)) or list(range(ndim))
    batch = without(ndim, value.batch, dims, keepdim)
    result = func(*args, **kwargs)
    extreme = result
    if not keepdim:
        for d in dims:
            extreme = extreme.unsqueeze(d)
    chosen = args[0].detach() == extreme.detach()
    return recorder.add(Shared(value, chosen, dims, keepdim), result, batch)


class Choice(Node):
    """y = a where `first`, (a + b) / 2 where `tied`, else b, elementwise, frozen: where, maximum, minimum."""

    def __init__(
        self,
        first: Tensor,
        operands: Sequence[Value | Tensor],
        slots: Sequence[Slot | None],
        tied: Tensor | None,
    ) -> None:
        super().__init__([o for o in operands if isinstance(o, Value)], (), slots)
        self.first, self.tied = first, tied
        self.constant_operands = [o.detach() if isinstance(o, Tensor) else None for o in operands]

    def _parts(self, delta: Tensor) -> list[Tensor]:
        parts = [torch.where(self.first, delta, 0), torch.where(self.first, 0, delta)]
        return parts if self.tied is None else [torch.where(self.tied, delta * 0.5, part) for part in parts]

    def pull(self, delta: Tensor, scales: Scales) -> Sequence[Tensor]:
        parts = [p for p, c in zip(self._parts(delta), self.constant_operands, strict=True) if c is None]
        return [p.sum_to_size(v.shape).to(v.dtype) for p, v in zip(parts, self.inputs, strict=True)]

    def push(self, us: Sequence[Tensor], scales: Scales) -> Tensor:
        s, remaining = scales.along(self.output), iter(us)
        operands = []
        for constant in self.constant_operands:
            if constant is None:
                operands.append(next(remaining))
            else:
                operands.append(torch.zeros_like(constant) if s is None else s * constant)
        a, b = (o.to(self.output.dtype) for o in operands)
        # Selected, not multiplied by 0 or 1: what is not chosen may be infinite, or so large that b + (a - b) is not a.
        y = torch.where(self.first, a, b)
        if self.tied is not None:
            y = torch.where(self.tied, (a + b) * 0.5, y)
        return y.expand(self.output.shape)

    def constant_gradients(self, delta: Tensor, scales: Scales) -> Sequence[Tensor | None]:
        s = scales.along(self.output)
        assert s is not None
        parts = zip(self._parts(delta * s), self.constant_operands, strict=True)
        return [part.sum_to_size(constant.shape) for part, constant in parts if constant is not None]


def choice(
    recorder: RuleRecorder, first: Tensor, operands: Sequence[Tensor], result: Tensor, tied: Tensor | None = None
) -> Tensor:
    """Records result = operands[0] where `first`, the mean of both where `tied`, else operands[1]."""
    values = [recorder.find(o) for o in operands]
    known = [v for v in values if v is not None]
    slots = [recorder.slot(o) for o, v in zip(operands, values, strict=True) if v is None]
    node = Choice(first, [o if v is None else v for o, v in zip(operands, values, strict=True)], slots, tied)
    return recorder.add(node, result, broadcast([v.shape for v in known], [v.batch for v in known], result.ndim))


def maximum(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict) -> Tensor:
    a, b = (t.detach() for t in args)
    larger = a > b if func is aten.maximum.default else a < b
    # At a tie PyTorch gives half of the gradient to each.
    return choice(recorder, larger, args, func(*args, **kwargs), tied=a == b)


def where(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict) -> Tensor:
    return choice(recorder, args[0], args[1:], func(*args, **kwargs))


def masked_fill(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict) -> Tensor:
    x, mask, fill = args
    if not isinstance(fill, Tensor):
        fill = torch.full((), fill, dtype=x.dtype, device=x.device)
    if recorder.find(x) is None:
        raise NotAffineError(f"{func} fills with a tensor that depends on the input")
    return choice(recorder, mask, (fill, x), func(*args, **kwargs))


RULES: dict[Any, Rule] = {
    aten.max_pool2d_with_indices.default: max_pool(2),
    aten.max_pool3d_with_indices.default: max_pool(3),
    aten.adaptive_max_pool2d.default: max_pool(2),
    aten.adaptive_max_pool3d.default: max_pool(3),
    aten.max.dim: max_along,
    aten.min.dim: max_along,
    aten.amax.default: amax,
    aten.amin.default: amax,
    aten.maximum.default: maximum,
    aten.minimum.default: maximum,
    aten.where.self: where,
    aten.masked_fill.Scalar: masked_fill,
    aten.masked_fill.Tensor: masked_fill,
}
