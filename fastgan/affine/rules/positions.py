"""Rules for operations that pick or repeat elements of each sample by their positions: indices, windows, diagonals."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fastgan.affine.batch import BatchDim, untouched
from fastgan.affine.errors import NotAffineError
from fastgan.affine.linear import linear
from fastgan.affine.rule import Rule, RuleRecorder
from fastgan.affine.tape import Value

aten = torch.ops.aten


def index(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict) -> Tensor:
    """x[..., i, j, ...] with the indices side by side; along the samples only x[torch.arange(B), j]."""
    value, indices = recorder.value(args[0]), args[1]
    given = [d for d, i in enumerate(indices) if i is not None]
    if given != list(range(given[0], given[-1] + 1)):
        raise NotAffineError("indices with a slice between them move the samples' dimension")
    batch = value.batch if value.batch.dim < given[0] else _picked(value, [indices[d] for d in given], given)
    return linear(recorder, func, args, kwargs, batch)


def _picked(value: Value, tensors: Sequence[Tensor], given: Sequence[int]) -> BatchDim:
    """The samples' dimension in what tensors of indices at the dimensions `given` pick; the first is not after it."""
    if any(i.dtype in (torch.bool, torch.uint8) for i in tensors):
        raise NotAffineError("a mask along the samples, or before them")
    shape = torch.broadcast_shapes(*(i.shape for i in tensors))
    dim, samples = value.batch.dim, value.shape[value.batch.dim]
    if dim > given[-1]:
        return BatchDim(dim + len(shape) - len(given), value.batch.folded)
    own = tensors[dim - given[0]]
    for axis in range(-own.ndim, 0):
        in_order = torch.arange(samples, device=own.device, dtype=own.dtype).view(-1, *[1] * (-axis - 1))
        if own.shape[axis] == shape[axis] == samples and torch.equal(own, in_order.expand_as(own)):
            return BatchDim(given[0] + len(shape) + axis, value.batch.folded)
    raise NotAffineError("indexing along the samples")


def gather(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict) -> Tensor:
    """x.gather(dim, index) and take_along_dim: each sample has indices of its own."""
    (x, dim, chosen), value = args, recorder.find(args[0])
    if value is None:
        raise NotAffineError("an index depends on the input")
    untouched(x.ndim, value.batch, [dim], str(func))
    if chosen.shape[value.batch.dim] != x.shape[value.batch.dim]:
        raise NotAffineError(f"{func} leaves samples out")
    return linear(recorder, func, args, kwargs, value.batch)


def windows(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict) -> Tensor:
    """x.unfold(dim, size, step), whose windows are a last dimension."""
    value = recorder.value(args[0])
    return linear(recorder, func, args, kwargs, untouched(len(value.shape), value.batch, [args[1]], str(func)))


def diagonal(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict) -> Tensor:
    """x.diagonal(offset, dim1, dim2), which is the last dimension instead of the two."""
    value = recorder.value(args[0])
    given = dict(zip(("offset", "dim1", "dim2"), args[1:], strict=False)) | kwargs
    ndim = len(value.shape)
    dims = [given.get("dim1", 0) % ndim, given.get("dim2", 1) % ndim]
    dim, folded = untouched(ndim, value.batch, dims, str(func))
    return linear(recorder, func, args, kwargs, BatchDim(dim - sum(d < dim for d in dims), folded))


def triangle(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict) -> Tensor:
    """tril and triu, of the last two dimensions."""
    value = recorder.value(args[0])
    return linear(recorder, func, args, kwargs, untouched(len(value.shape), value.batch, [-2, -1], str(func)))


def rotation(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict) -> Tensor:
    value = recorder.value(args[0])
    dims = args[2] if len(args) > 2 else kwargs.get("dims", [0, 1])
    return linear(recorder, func, args, kwargs, untouched(len(value.shape), value.batch, dims, str(func)))


def repeat(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict) -> Tensor:
    value, repeats = recorder.value(args[0]), args[1]
    dim = value.batch.dim + len(repeats) - len(value.shape)
    if repeats[dim] != 1:
        raise NotAffineError("the samples are repeated")
    return linear(recorder, func, args, kwargs, BatchDim(dim, value.batch.folded))


RULES: dict[Any, Rule] = {
    aten.index.Tensor: index,
    aten.gather.default: gather,
    aten.unfold.default: windows,
    aten.diagonal.default: diagonal,
    **dict.fromkeys((aten.tril.default, aten.triu.default), triangle),
    aten.rot90.default: rotation,
    aten.repeat.default: repeat,
}
