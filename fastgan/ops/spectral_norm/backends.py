"""The private operators of spectral_norm: they allocate the outputs and call the kernels with a table of addresses.

They are opaque to torch.compile and know nothing of autograd: autograd.py differentiates them. All u (and all v) of a
call are one flat tensor after the iterations, in the order of the weights.
"""

import functools
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from fastgan import _torch_private, allocation
from fastgan.library import define
from fastgan.native import CPU, DTYPE_CODES, address, extension
from fastgan.ops._common.precision import compute_dtype
from fastgan.ops.spectral_norm.layout import Layout, filling_memory, in_order_of, layout_of

COLUMNS = 12
"""Of the table: nine addresses and three sizes for each weight (csrc/bindings/spectral_norm.cpp)."""


def _device(backend: str, weight: Tensor) -> torch.device:
    """Where the backend's kernels read."""
    return CPU if backend == "cpu" else weight.device


def _parts(flat: Tensor, sizes: Sequence[int], dtype: torch.dtype, device: torch.device) -> list[int]:
    """Where each of the vectors of these sizes begins in the flat tensor that holds all of them."""
    start, step = address(flat, dtype, sum(sizes), device), flat.element_size()
    return [start + step * offset for offset in accumulate(sizes, initial=0)][:-1]


def _layouts(weights: Sequence[Tensor], dims: Sequence[int]) -> list[Layout]:
    return [layout_of(weight, dim) for weight, dim in zip(weights, dims, strict=True)]


def _forward(
    weights: list[Tensor], u: list[Tensor], v: list[Tensor], dims: Sequence[int], iterations: int, eps: float,
    v_first: bool, scale: bool, backend: str,
) -> tuple[list[Tensor], Tensor, Tensor, Tensor]:  # fmt: skip
    weights = [filling_memory(weight) for weight in weights]
    layouts = _layouts(weights, dims)
    u = [x.contiguous() for x in u]
    inside = [layout.to_memory(x).contiguous() for x, layout in zip(v, layouts, strict=True)]
    first = weights[0]
    normalised = [allocation.empty_like(weight) for weight in weights] if scale else []
    sigmas = allocation.empty((len(weights),), like=first, dtype=compute_dtype(first))
    rows, columns = [layout.h for layout in layouts], [layout.A * layout.B for layout in layouts]
    flat_u, flat_v = allocation.empty((sum(rows),), like=first), allocation.empty((sum(columns),), like=first)
    E, at = first.dtype, _device(backend, first)
    new_u, new_v = _parts(flat_u, rows, E, at), _parts(flat_v, columns, E, at)
    table: list[int] = []
    for i, (weight, layout) in enumerate(zip(weights, layouts, strict=True)):
        h, w = rows[i], columns[i]
        table += (address(weight, E, h * w, at), address(u[i], E, h, at), address(inside[i], E, w, at))
        table += (new_u[i], new_v[i], address(normalised[i], E, h * w, at) if scale else 0, 0, 0, 0)
        table += (layout.A, layout.h, layout.B)
    _call("spectral_norm", backend, first, table, (sigmas,), (iterations, eps, v_first))
    if any(layout.columns is not None for layout in layouts):
        for layout, x in zip(layouts, flat_v.split(columns), strict=True):
            x.copy_(layout.from_memory(x.clone()))
    return normalised, sigmas, flat_u, flat_v


def _grad(
    g: Tensor | None, gs: Tensor | None, weight: Tensor, u: Tensor, v: Tensor, sigma: Tensor, dim: int, backend: str
) -> Tensor:
    weight = filling_memory(weight)
    layout = layout_of(weight, dim)
    g = None if g is None else in_order_of(g, weight)
    gs = None if gs is None else gs.to(sigma.dtype)
    u, v = u.contiguous(), layout.to_memory(v).contiguous()
    found = allocation.empty_like(weight)
    E, at, n = weight.dtype, _device(backend, weight), weight.numel()
    table = [address(weight, E, n, at), address(u, E, layout.h, at), address(v, E, layout.A * layout.B, at), 0, 0]
    table += [address(found, E, n, at), address(g, E, n, at), 0, 0, layout.A, layout.h, layout.B]
    _call("spectral_norm_grad", backend, weight, table, (sigma, gs))
    return found


def _grad2(
    d: Tensor, g: Tensor | None, weight: Tensor, u: Tensor, v: Tensor, sigma: Tensor, dim: int, backend: str
) -> tuple[Tensor, Tensor, Tensor]:
    weight = filling_memory(weight)
    layout = layout_of(weight, dim)
    d, g = in_order_of(d, weight), None if g is None else in_order_of(g, weight)
    u, v = u.contiguous(), layout.to_memory(v).contiguous()
    dg, dw, dgs = allocation.empty_like(weight), allocation.empty_like(weight), allocation.empty((), like=sigma)
    E, at, n = weight.dtype, _device(backend, weight), weight.numel()
    table = [address(weight, E, n, at), address(u, E, layout.h, at), address(v, E, layout.A * layout.B, at), 0, 0]
    table += [address(dw, E, n, at), address(g, E, n, at), address(d, E, n, at), address(dg, E, n, at)]
    _call("spectral_norm_grad2", backend, weight, [*table, layout.A, layout.h, layout.B], (sigma, dgs))
    return dg, dw, dgs


def _call(
    name: str, backend: str, first: Tensor, table: list[int], tensors: tuple[Tensor | None, ...],
    settings: tuple[int, float, bool] = (0, 0.0, False),
) -> None:  # fmt: skip
    """Calls csrc/spectral_norm.cpp or .cu."""
    module, args = extension(), _args(*settings, first.dtype)
    device = _device(backend, first)
    addresses = [address(x, compute_dtype(first), len(table) // COLUMNS, device) for x in tensors]
    if backend == "cpu":
        getattr(module, name)(table, *addresses, args, torch.get_num_threads())
        return
    with torch.cuda.device(first.device):
        size = module.spectral_norm_scratch(table, args)
        scratch = allocation.empty((size,), like=first, dtype=torch.uint8)
        stream = torch.cuda.current_stream().cuda_stream
        room = address(scratch, torch.uint8, size, device)
        getattr(module, f"{name}_cuda")(table, *addresses, args, room, stream)


@functools.lru_cache(256)
def _args(iterations: int, eps: float, v_first: bool, dtype: torch.dtype) -> Any:
    """Made once for each setting: a pybind object takes as long as a small kernel."""
    return extension().SpectralNormArgs(iterations, eps, v_first, DTYPE_CODES[dtype])


def _empty_dense(weights: Sequence[Tensor]) -> list[Tensor]:
    return [torch.empty_like(filling_memory(weight)) for weight in weights]


def _fake_forward(
    weights: list[Tensor], u: list[Tensor], v: list[Tensor], dims: Sequence[int], iterations: int, eps: float,
    v_first: bool, scale: bool, backend: str,
) -> tuple[list[Tensor], Tensor, Tensor, Tensor]:  # fmt: skip
    first = weights[0]
    sigmas = first.new_empty((len(weights),), dtype=compute_dtype(first))
    flat_u, flat_v = (first.new_empty((sum(x.shape[0] for x in vectors),)) for vectors in (u, v))
    return _empty_dense(weights) if scale else [], sigmas, flat_u, flat_v


_forward_op = define(
    "spectral_norm(Tensor[] weights, Tensor[] u, Tensor[] v, int[] dims, int iterations, float eps, bool v_first, "
    "bool scale, str backend) -> (Tensor[], Tensor, Tensor, Tensor)",
    _forward,
    _fake_forward,
)
_grad_op = define(
    "spectral_norm_grad(Tensor? g, Tensor? gs, Tensor weight, Tensor u, Tensor v, Tensor sigma, int dim, str backend) "
    "-> Tensor",
    _grad,
    lambda g, gs, weight, *rest: torch.empty_like(filling_memory(weight)),
)
_grad2_op = define(
    "spectral_norm_grad2(Tensor d, Tensor? g, Tensor weight, Tensor u, Tensor v, Tensor sigma, int dim, str backend) "
    "-> (Tensor, Tensor, Tensor)",
    _grad2,
    lambda d, g, weight, u, v, sigma, *rest: (
        torch.empty_like(filling_memory(weight)), torch.empty_like(filling_memory(weight)), torch.empty_like(sigma),
    ),
)  # fmt: skip


def _directly(weights: Sequence[Tensor]) -> bool:
    """Whether nobody wants to see operators, for whose lists the dispatcher takes as long as a small kernel."""
    if torch.compiler.is_compiling() or _torch_private.dispatch_mode_count():
        return False
    return _PLAIN.issuperset(map(type, weights))


_PLAIN = frozenset({Tensor, torch.nn.Parameter})


def forward(weights: list[Tensor], *rest: Any) -> tuple[list[Tensor], Tensor, Tensor, Tensor]:
    """(weights, u, v, dims, iterations, eps, v_first, scale, backend) -> normalised, sigmas, flat u, flat v."""
    return (_forward if _directly(weights) else _forward_op)(weights, *rest)


def grad(g: Tensor | None, gs: Tensor | None, weight: Tensor, *rest: Any) -> Tensor:
    """(g, gs, weight, u, v, sigma, dim, backend) -> the gradient to the weight."""
    return (_grad if _directly((weight,)) else _grad_op)(g, gs, weight, *rest)


def grad2(d: Tensor, g: Tensor | None, weight: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    """(d, g, weight, u, v, sigma, dim, backend) -> the cotangents of g, weight and gs."""
    return (_grad2 if _directly((weight,)) else _grad2_op)(d, g, weight, *rest)
