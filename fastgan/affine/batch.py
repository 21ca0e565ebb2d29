"""The batch dimension of a tensor through reshapes, broadcasts and reductions; raises where samples would mix.

Every tensor that depends on the input has one dimension, `batch`, of size samples * folded: index i * folded + j
along it belongs to sample i. (Networks fold channels or positions into the batch to filter or multiply them alike.)
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from fastgan.affine.errors import NotAffineError


class BatchDim(NamedTuple):
    """The dimension `dim` that holds the samples, and the number `folded` of neighbouring indices per sample."""

    dim: int
    folded: int


def reshaped(shape: Sequence[int], batch: BatchDim, new: Sequence[int], samples: int) -> BatchDim:
    """The batch dimension after a row-major reshape from `shape` to `new`.

    The elements of a sample stay together if the dimensions before the batch keep their product and the new batch
    dimension is again a multiple of the samples.
    """
    before = math.prod(shape[: batch.dim])
    for dim, size in enumerate(new):
        if math.prod(new[:dim]) == before and size % samples == 0 and (size > 1 or samples == 1 or size == samples):
            return BatchDim(dim, size // samples)
    if samples == 1 and not new:
        return BatchDim(0, 1)  # the number of the only sample, whose dimension is gone
    raise NotAffineError(f"reshaping {list(shape)} to {list(new)} mixes the samples (dimension {batch.dim})")


def broadcast(shapes: Sequence[Sequence[int]], batches: Sequence[BatchDim], out_ndim: int) -> BatchDim:
    """The batch dimension of an elementwise operation's result; raises if the tensors' batch dimensions differ."""
    places = {(out_ndim - len(shape) + b.dim, b.folded) for shape, b in zip(shapes, batches, strict=True)}
    if len(places) > 1:
        raise NotAffineError("tensors are combined whose samples lie along different dimensions")
    return BatchDim(*places.pop())


def without(ndim: int, batch: BatchDim, dims: Sequence[int] | None, keepdim: bool) -> BatchDim:
    """The batch dimension after a reduction over `dims` (None or empty: all); raises if samples are reduced."""
    reduced = {d % ndim for d in dims} if dims else set(range(ndim))
    if batch.dim in reduced:
        raise NotAffineError(f"the samples (dimension {batch.dim}) are reduced")
    return batch if keepdim else BatchDim(batch.dim - sum(d < batch.dim for d in reduced), batch.folded)


def untouched(ndim: int, batch: BatchDim, dims: Sequence[int], what: str) -> BatchDim:
    """`batch` itself; raises if an operation along `dims` works along the samples. `what` names it in the message."""
    if batch.dim in {d % ndim for d in dims}:
        raise NotAffineError(f"{what} works along the samples (dimension {batch.dim})")
    return batch
