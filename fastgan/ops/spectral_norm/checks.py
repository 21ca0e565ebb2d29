"""Checks of the arguments of spectral_norm; messages name the function and the argument."""

from collections.abc import Sequence
from typing import Any, NoReturn

from torch import Tensor

from fastgan.ops._common.checks import check_floating
from fastgan.ops.spectral_norm.reference import Settings


def checked_dims(
    name: str, weights: Sequence[Tensor], u: Sequence[Tensor], v: Sequence[Tensor], dims: Sequence[int] | int,
    settings: Settings,
) -> tuple[int, ...]:  # fmt: skip
    """Checks the arguments; returns the rows' dimension of each weight, counted from the front."""
    given = (dims,) * len(weights) if isinstance(dims, int) else tuple(dims)
    for label, values in (("u", u), ("v", v), ("dims", given)):
        if len(values) != len(weights):
            raise ValueError(f"{name}: {label} has {len(values)} entries, expected {len(weights)} like weights")
    iterations, eps, *_ = settings
    if not isinstance(iterations, int) or iterations < 0:
        raise ValueError(f"{name}: n_power_iterations is {iterations!r}, expected an integer >= 0")
    if not eps >= 0:
        raise ValueError(f"{name}: eps is {eps!r}, expected a number >= 0")
    rows = []
    for i, (weight, left, right, dim) in enumerate(zip(weights, u, v, given, strict=True)):
        # One look at each property: this runs once for each layer and forward.
        first = weights[0]
        if not (isinstance(weight, Tensor) and isinstance(left, Tensor) and isinstance(right, Tensor)):
            _complain(name, i, weights, u, v)
        shape, dtype, device = weight.shape, first.dtype, first.device
        ndim = len(shape)
        if not (
            dtype.is_floating_point
            and weight.dtype is left.dtype is right.dtype is dtype
            and weight.device == left.device == right.device == device
            and ndim >= 2
        ):
            _complain(name, i, weights, u, v)
        if not -ndim <= dim < ndim:
            raise ValueError(f"{name}: dims[{i}] is {dim}, expected a dimension of weights[{i}], which has {ndim}")
        dim %= ndim
        height = shape[dim]
        width = weight.numel() // height if height else 0
        if left.shape != (height,) or right.shape != (width,):
            for label, x, size in (("u", left, height), ("v", right, width)):
                if x.shape != (size,):
                    found = f"{label}[{i}] has shape {list(x.shape)}"
                    raise ValueError(f"{name}: {found}, expected [{size}] for weights[{i}] of shape {list(shape)}")
        rows.append(dim)
    return tuple(rows)


def _complain(name: str, i: int, weights: Sequence[Any], u: Sequence[Any], v: Sequence[Any]) -> NoReturn:
    """Raises the error of the i-th entries."""
    first = weights[0]
    for label, x in (("weights", weights[i]), ("u", u[i]), ("v", v[i])):
        check_floating(name, f"{label}[{i}]", x)
        if x.dtype != first.dtype:
            raise TypeError(f"{name}: {label}[{i}] is {x.dtype}, expected {first.dtype} like weights[0]")
        if x.device != first.device:
            raise ValueError(f"{name}: {label}[{i}] is on {x.device}, expected {first.device} like weights[0]")
    shape = list(weights[i].shape)
    raise ValueError(f"{name}: weights[{i}] has shape {shape}, expected two dimensions or more")
