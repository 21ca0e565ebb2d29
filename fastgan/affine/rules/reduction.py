"""Rules for sums and means over dimensions other than the batch."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fastgan.affine.batch import without
from fastgan.affine.rule import Rule, RuleRecorder
from fastgan.affine.tape import Node, Scales, Value

aten = torch.ops.aten


class Reduction(Node):
    """y = factor * the sum of x over dimensions; a mean has factor 1 / their size."""

    def __init__(self, x: Value, dims: Sequence[int], keepdim: bool, factor: float) -> None:
        super().__init__([x])
        self.dims, self.keepdim, self.factor = tuple(dims), keepdim, factor

    def pull(self, delta: Tensor, scales: Scales) -> Sequence[Tensor]:
        (value,) = self.inputs
        if self.factor != 1:
            delta = delta * self.factor
        if not self.keepdim:
            for d in sorted(self.dims):
                delta = delta.unsqueeze(d)
        return (delta.expand(value.shape).to(value.dtype),)

    def push(self, us: Sequence[Tensor], scales: Scales) -> Tensor:
        dtype = self.output.dtype
        if self.factor == 1:
            return us[0].sum(self.dims, self.keepdim, dtype=dtype)
        return us[0].mean(self.dims, self.keepdim, dtype=dtype)


def reduction(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict) -> Tensor:
    value = recorder.value(args[0])
    dims = args[1] if len(args) > 1 else kwargs.get("dim")
    keepdim = args[2] if len(args) > 2 else kwargs.get("keepdim", False)
    ndim = len(value.shape)
    dims = sorted(d % ndim for d in ([dims] if isinstance(dims, int) else dims)) if dims else list(range(ndim))
    batch = without(ndim, value.batch, dims, keepdim)
    mean = func in (aten.mean.dim, aten.mean.default)
    factor = 1 / max(math.prod(value.shape[d] for d in dims), 1) if mean else 1
    return recorder.add(Reduction(value, dims, keepdim, factor), func(*args, **kwargs), batch)


RULES: dict[Any, Rule] = dict.fromkeys(
    (aten.sum.dim_IntList, aten.sum.default, aten.mean.dim, aten.mean.default), reduction
)
