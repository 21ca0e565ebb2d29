"""How the kernels see the arguments: one dimension of heads, and a bias that some of them share."""

import math
from typing import NamedTuple

from torch import Tensor


class KernelArgs(NamedTuple):
    """What a kernel is told besides the tensors: AttentionArgs of csrc/attention.h."""

    heads: int
    N: int
    M: int
    d: int
    e: int
    scale: float
    bias_inner: int
    bias_count: int
    by_row: bool
    by_column: bool


class Inputs(NamedTuple):
    """What the kernels read, contiguous; bias and softmax in the dtype of the arithmetic.

    softmax is [heads, N, 2]: each query's highest score, and one over the sum of the exponentials of the others to it.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    bias: Tensor | None
    g: Tensor | None = None
    o: Tensor | None = None
    softmax: Tensor | None = None


class Cotangents(NamedTuple):
    """The cotangents of the gradients; None for zero."""

    q: Tensor | None
    k: Tensor | None
    v: Tensor | None
    bias: Tensor | None


class Gradients(NamedTuple):
    """The outputs of a derivative; None where it is not wanted. g is the second derivative's alone."""

    q: Tensor | None
    k: Tensor | None
    v: Tensor | None
    bias: Tensor | None
    g: Tensor | None = None


def without_repeats(bias: Tensor) -> Tensor:
    """A bias that needs no gradient with size 1 in the dimensions in which it was expanded."""
    if bias.requires_grad:
        return bias
    for dim, (size, stride) in enumerate(zip(bias.shape, bias.stride(), strict=True)):
        if stride == 0 and size > 1:
            bias = bias.narrow(dim, 0, 1)
    return bias


def laid_out(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float) -> tuple[Tensor | None, KernelArgs]:
    """The bias as the kernels index it, and what they are told."""
    *batch, N, d = q.shape
    inner, count = 1, 1
    if bias is not None:
        shared = _shared(tuple(bias.shape[:-2]), tuple(batch))
        if shared is None:
            bias = bias.expand(*batch, *bias.shape[-2:])
            shared = 1, math.prod(batch)
        bias, (inner, count) = bias.contiguous(), shared
    # A bias of one query and all keys is the same for all queries.
    by_row, by_column = (False, False) if bias is None else (bias.shape[-2] > 1, bias.shape[-1] > 1)
    sizes = math.prod(batch), N, k.shape[-2], d, v.shape[-1]
    return bias, KernelArgs(*sizes, scale, inner, count, by_row, by_column)


def _shared(own: tuple[int, ...], batch: tuple[int, ...]) -> tuple[int, int] | None:
    """inner and count such that head b of the batch has bias (b // inner) % count; None if there are none."""
    dims = [i for i, size in enumerate(batch) if size != 1]
    given = [i for i in dims if own[i] != 1]
    if not given:
        return 1, 1
    first, last = given[0], given[-1]
    if any(own[i] == 1 for i in dims if first <= i <= last):
        return None
    return math.prod(batch[last + 1 :]), math.prod(batch[first : last + 1])
