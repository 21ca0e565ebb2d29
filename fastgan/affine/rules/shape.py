"""Rules for operations that move elements and compute nothing: views, slices, concatenations, copies, casts."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fastgan.affine.batch import BatchDim, broadcast, reshaped, untouched
from fastgan.affine.errors import NotAffineError
from fastgan.affine.linear import linear
from fastgan.affine.rule import Rule, RuleRecorder
from fastgan.affine.tape import Node, Scales, Value

aten = torch.ops.aten


class Moved(Node):
    """y = move(x), with the gradient moved back."""

    def __init__(self, x: Value, move: Callable[[Tensor], Tensor], back: Callable[[Tensor], Tensor]) -> None:
        super().__init__([x])
        self.move = move
        self.back = back

    def pull(self, delta: Tensor, scales: Scales) -> Sequence[Tensor]:
        return (self.back(delta),)

    def push(self, us: Sequence[Tensor], scales: Scales) -> Tensor:
        return self.move(us[0])


def reshape(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict) -> Tensor:
    value = recorder.value(args[0])
    result = func(*args, **kwargs)
    shape, before = tuple(result.shape), value.shape
    batch = reshaped(before, value.batch, shape, recorder.samples)
    # u and the gradients may have another memory order than x, which a view would not accept.
    node = Moved(value, lambda u: u.reshape(shape), lambda d: d.reshape(before))
    return recorder.add(node, result, batch)


def permute(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict) -> Tensor:
    value = recorder.value(args[0])
    ndim = len(value.shape)
    dims = [d % ndim for d in args[1]]
    back = [dims.index(d) for d in range(ndim)]
    node = Moved(value, lambda u: u.permute(dims), lambda d: d.permute(back))
    return recorder.add(node, func(*args, **kwargs), BatchDim(back[value.batch.dim], value.batch.folded))


def transpose(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict) -> Tensor:
    value = recorder.value(args[0])
    ndim = len(value.shape)
    a, b = (args[1] % ndim, args[2] % ndim) if len(args) > 1 else (0, ndim - 1)
    dim = {a: b, b: a}.get(value.batch.dim, value.batch.dim)
    node = Moved(value, lambda u: u.transpose(a, b), lambda d: d.transpose(a, b))
    return recorder.add(node, func(*args, **kwargs), BatchDim(dim, value.batch.folded))


def same_place(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict) -> Tensor:
    """Rule of clone, contiguous and casts: the elements stay where they are."""
    value = recorder.value(args[0])
    result = func(*args, **kwargs)
    dtype, before = result.dtype, value.dtype
    if not (dtype.is_floating_point or dtype.is_complex):
        return result
    node = Moved(value, lambda u: u.to(dtype), lambda d: d.to(before))
    return recorder.add(node, result, value.batch)


def expand(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict) -> Tensor:
    value = recorder.value(args[0])
    result = func(*args, **kwargs)
    shape = tuple(result.shape)
    batch = broadcast([value.shape], [value.batch], result.ndim)
    if shape[batch.dim] != value.shape[value.batch.dim]:
        raise NotAffineError("expand repeats the samples")
    node = Moved(value, lambda u: u.expand(shape), lambda d: d.sum_to_size(value.shape))
    return recorder.add(node, result, batch)


def along_a_dim(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict) -> Tensor:
    """Rule of slice, index_select, flip, roll and cumsum, along any dimension but the batch."""
    value = recorder.value(args[0])
    names = [a.name for a in func._schema.arguments]
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    dims = given.get("dims", given.get("dim", 0))
    dims = [dims] if isinstance(dims, int) else list(dims)
    if not dims:
        raise NotAffineError(f"{func} works along all dimensions, the samples among them")
    result_batch = untouched(len(value.shape), value.batch, dims, str(func))
    if func in _DROPS_A_DIM:
        result_batch = BatchDim(value.batch.dim - (dims[0] % len(value.shape) < value.batch.dim), value.batch.folded)
    return linear(recorder, func, args, kwargs, result_batch)


def whole_slice(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict) -> Tensor:
    """x[:] along the samples keeps them all and is common in x[:, 0]-like indexing; anything less drops some."""
    value = recorder.value(args[0])
    result = func(*args, **kwargs)
    if tuple(result.shape) == value.shape and (len(args) < 5 or args[4] == 1):
        return recorder.add(Moved(value, lambda u: u, lambda d: d), result, value.batch)
    return along_a_dim(recorder, func, args, kwargs)


def squeeze(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict) -> Tensor:
    return reshape(recorder, func, args, kwargs)


def split(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict) -> list[Tensor]:
    """Rule of split and the like: each part is a node of its own."""
    value = recorder.value(args[0])
    dim = (args[2] if len(args) > 2 else kwargs.get("dim", 0)) % len(value.shape)
    untouched(len(value.shape), value.batch, [dim], str(func))
    start, parts = 0, list(func(*args, **kwargs))
    for part in parts:
        node = _part(value, dim, start, part.shape[dim], keepdim=True)
        recorder.add(node, part, value.batch)
        start += part.shape[dim]
    return parts


def unbind(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict) -> list[Tensor]:
    value = recorder.value(args[0])
    dim = (args[1] if len(args) > 1 else kwargs.get("dim", 0)) % len(value.shape)
    untouched(len(value.shape), value.batch, [dim], str(func))
    batch = BatchDim(value.batch.dim - (dim < value.batch.dim), value.batch.folded)
    parts = list(func(*args, **kwargs))
    for i, part in enumerate(parts):
        recorder.add(_part(value, dim, i, 1, keepdim=False), part, batch)
    return parts


def _part(value: Value, dim: int, start: int, size: int, keepdim: bool) -> Moved:
    def move(u: Tensor) -> Tensor:
        return u.narrow(dim, start, size) if keepdim else u.select(dim, start)

    def back(delta: Tensor) -> Tensor:
        gradient = delta.new_zeros(value.shape)
        (gradient.narrow(dim, start, size) if keepdim else gradient.select(dim, start)).copy_(delta)
        return gradient

    return Moved(value, move, back)


class Concatenation(Node):
    """cat or stack of tensors, some of which may be constants (a map of labels, of coordinates)."""

    def __init__(
        self, join: Callable[..., Tensor], dim: int, parts: Sequence[Value | Tensor], slots: Sequence[Any], sizes: list
    ) -> None:
        super().__init__([p for p in parts if isinstance(p, Value)], (), slots)
        self.join, self.dim, self.sizes = join, dim, sizes
        self.parts = [p.detach() if isinstance(p, Tensor) else None for p in parts]

    def _pieces(self, delta: Tensor) -> list[Tensor]:
        if self.join is torch.stack:
            return list(delta.unbind(self.dim))
        return list(delta.split(self.sizes, self.dim))

    def pull(self, delta: Tensor, scales: Scales) -> Sequence[Tensor]:
        pieces = [piece for piece, part in zip(self._pieces(delta), self.parts, strict=True) if part is None]
        return [piece.to(value.dtype) for piece, value in zip(pieces, self.inputs, strict=True)]

    def push(self, us: Sequence[Tensor], scales: Scales) -> Tensor:
        s, remaining = scales.along(self.output), iter(us)
        dtype = self.output.dtype
        return self.join(
            [self._scaled(p, s) if p is not None else next(remaining).to(dtype) for p in self.parts], self.dim
        )

    def _scaled(self, constant: Tensor, s: Tensor | None) -> Tensor:
        constant = constant.to(self.output.dtype)
        if s is None:
            return torch.zeros_like(constant)
        return constant * (s.select(self.dim, 0) if self.join is torch.stack else s)

    def constant_gradients(self, delta: Tensor, scales: Scales) -> Sequence[Tensor | None]:
        s = scales.along(self.output)
        assert s is not None
        return [piece for piece, part in zip(self._pieces(delta * s), self.parts, strict=True) if part is not None]


def concatenation(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict) -> Tensor:
    tensors = list(args[0])
    result = func(*args, **kwargs)
    dim = (args[1] if len(args) > 1 else kwargs.get("dim", 0)) % result.ndim
    stacked = func is aten.stack.default
    values = [recorder.find(t) for t in tensors]
    if any(t.ndim != (result.ndim - stacked) for t in tensors):
        raise NotAffineError("a concatenation with an empty vector")
    known = [v for v in values if v is not None]
    batch = broadcast([v.shape for v in known], [v.batch for v in known], len(known[0].shape))
    if stacked:
        batch = BatchDim(batch.dim + (dim <= batch.dim), batch.folded)
    elif dim == batch.dim:
        raise NotAffineError("the samples are concatenated with others")
    slots = [recorder.slot(t) for t, v in zip(tensors, values, strict=True) if v is None]
    parts = [t if v is None else v for t, v in zip(tensors, values, strict=True)]
    join = torch.stack if stacked else torch.cat
    node = Concatenation(join, dim, parts, slots, [] if stacked else [t.shape[dim] for t in tensors])
    return recorder.add(node, result, batch)


_DROPS_A_DIM = {aten.select.int, aten.select_copy.int}

# What torch.func and torch.export call in place of views: (operation, its rule).
_COPIES = {
    **dict.fromkeys((aten.view_copy.default, aten.unsqueeze_copy.default), reshape),
    **dict.fromkeys((aten.squeeze_copy.default, aten.squeeze_copy.dim, aten.squeeze_copy.dims), squeeze),
    aten.permute_copy.default: permute,
    aten.transpose_copy.int: transpose,
    aten.t_copy.default: transpose,
    aten.alias_copy.default: same_place,
    aten.expand_copy.default: expand,
    aten.slice_copy.Tensor: whole_slice,
    aten.select_copy.int: along_a_dim,
}

RULES: dict[Any, Rule] = {
    **_COPIES,
    **dict.fromkeys(
        (aten.view.default, aten._unsafe_view.default, aten.reshape.default, aten.unsqueeze.default), reshape
    ),
    **dict.fromkeys((aten.squeeze.default, aten.squeeze.dim, aten.squeeze.dims), squeeze),
    aten.permute.default: permute,
    aten.transpose.int: transpose,
    aten.t.default: transpose,
    **dict.fromkeys(
        (aten.clone.default, aten._to_copy.default, aten.alias.default, aten.lift_fresh.default), same_place
    ),
    aten.expand.default: expand,
    aten.slice.Tensor: whole_slice,
    **dict.fromkeys((aten.select.int, aten.index_select.default, aten.flip.default, aten.roll.default), along_a_dim),
    aten.cumsum.default: along_a_dim,
    **dict.fromkeys((aten.split.Tensor, aten.split_with_sizes.default), split),
    aten.unbind.int: unbind,
    **dict.fromkeys((aten.cat.default, aten.stack.default), concatenation),
}
