"""The private operators of spectral_norm: allocate the outputs and call the kernels with a table of addresses.

They are opaque to torch.compile and know nothing of autograd; fastgan/ops/spectral_norm.py differentiates them. All u
(and all v) of a call are one flat tensor after the iterations, in the order of the weights.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from fastgan import allocation
from fastgan.library import define
from fastgan.native import CPU, DTYPE_CODES, address, extension
from fastgan.ops.spectral_norm_layout import Layout, dense, layout_of, like

COLUMNS = 12
"""Of the table: nine addresses and three sizes for each weight (csrc/bindings.cpp)."""


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of the arithmetic on weights of `dtype`, and of sigma."""
    return torch.float64 if dtype == torch.float64 else torch.float32


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
    weights = [dense(weight) for weight in weights]
    layouts = _layouts(weights, dims)
    u = [x.contiguous() for x in u]
    inside = [layout.to_memory(x).contiguous() for x, layout in zip(v, layouts, strict=True)]
    first = weights[0]
    normalised = [allocation.empty_like(weight) for weight in weights] if scale else []
    sigmas = allocation.empty((len(weights),), like=first, dtype=compute_dtype(first.dtype))
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
    for layout, x in zip(layouts, flat_v.split(columns), strict=True):
        if layout.columns is not None:
            x.copy_(layout.from_memory(x.clone()))
    return normalised, sigmas, flat_u, flat_v


def _grad(
    g: Sequence[Tensor | None], gs: Tensor | None, weights: Sequence[Tensor], flat_u: Tensor, flat_v: Tensor,
    sigmas: Tensor, dims: Sequence[int], backend: str,
) -> list[Tensor]:  # fmt: skip
    weights = [dense(weight) for weight in weights]
    layouts = _layouts(weights, dims)
    g = _like(g, weights)
    gs = None if gs is None else gs.to(sigmas.dtype).contiguous()
    found = [allocation.empty_like(weight) for weight in weights]
    E, at = weights[0].dtype, _device(backend, weights[0])
    u, v, keep = _sides(flat_u, flat_v, layouts, E, at)
    table: list[int] = []
    for i, (weight, layout) in enumerate(zip(weights, layouts, strict=True)):
        n = layout.A * layout.h * layout.B
        table += (address(weight, E, n, at), u[i], v[i], 0, 0, address(found[i], E, n, at), address(g[i], E, n, at))
        table += (0, 0)
        table += (layout.A, layout.h, layout.B)
    _call("spectral_norm_grad", backend, weights[0], table, (sigmas, gs))
    del keep
    return found


def _grad2(
    d: Sequence[Tensor | None], g: Sequence[Tensor | None], weights: Sequence[Tensor], flat_u: Tensor, flat_v: Tensor,
    sigmas: Tensor, dims: Sequence[int], backend: str,
) -> tuple[list[Tensor], list[Tensor], Tensor]:  # fmt: skip
    weights = [dense(weight) for weight in weights]
    layouts = _layouts(weights, dims)
    d, g = _like(d, weights), _like(g, weights)
    found_g = [allocation.empty_like(weight) for weight in weights]
    found_w = [allocation.empty_like(weight) for weight in weights]
    dgs = allocation.empty((len(weights),), like=sigmas)
    E, at = weights[0].dtype, _device(backend, weights[0])
    u, v, keep = _sides(flat_u, flat_v, layouts, E, at)
    table: list[int] = []
    for i, (weight, layout) in enumerate(zip(weights, layouts, strict=True)):
        n = layout.A * layout.h * layout.B
        table += (address(weight, E, n, at), u[i], v[i], 0, 0, address(found_w[i], E, n, at), address(g[i], E, n, at))
        table += (address(d[i], E, n, at), address(found_g[i], E, n, at), layout.A, layout.h, layout.B)
    _call("spectral_norm_grad2", backend, weights[0], table, (sigmas, dgs))
    del keep
    return found_g, found_w, dgs


def _like(tensors: Sequence[Tensor | None], weights: Sequence[Tensor]) -> list[Tensor | None]:
    return [None if x is None else like(x, weight) for x, weight in zip(tensors, weights, strict=True)]


def _sides(
    flat_u: Tensor, flat_v: Tensor, layouts: list[Layout], dtype: torch.dtype, device: torch.device
) -> tuple[list[int], list[int], Any]:
    """The addresses of each u and v, with v in memory order, and what must stay alive for them."""
    flat_u, flat_v = flat_u.contiguous(), flat_v.contiguous()
    columns = [layout.A * layout.B for layout in layouts]
    if any(layout.columns is not None for layout in layouts):
        parts = [layout.to_memory(x) for x, layout in zip(flat_v.split(columns), layouts, strict=True)]
        flat_v = torch.cat(parts)
    rows = [layout.h for layout in layouts]
    u, v = _parts(flat_u, rows, dtype, device), _parts(flat_v, columns, dtype, device)
    return u, v, (flat_u, flat_v)


def _call(
    name: str, backend: str, first: Tensor, table: list[int], tensors: tuple[Tensor | None, ...],
    settings: tuple[int, float, bool] = (0, 0.0, False),
) -> None:  # fmt: skip
    """Calls csrc/spectral_norm.cpp or .cu."""
    module = extension()
    args = module.SpectralNormArgs(*settings, DTYPE_CODES[first.dtype])
    device = _device(backend, first)
    addresses = [address(x, compute_dtype(first.dtype), len(table) // COLUMNS, device) for x in tensors]
    if backend == "cpu":
        getattr(module, name)(table, *addresses, args, torch.get_num_threads())
        return
    with torch.cuda.device(first.device):
        size = module.spectral_norm_scratch(table, args)
        scratch = allocation.empty((size,), like=first, dtype=torch.uint8)
        stream = torch.cuda.current_stream().cuda_stream
        room = address(scratch, torch.uint8, size, device)
        getattr(module, f"{name}_cuda")(table, *addresses, args, room, stream)


def _empty_dense(weights: Sequence[Tensor]) -> list[Tensor]:
    return [torch.empty_like(dense(weight)) for weight in weights]


def _fake_forward(
    weights: list[Tensor], u: list[Tensor], v: list[Tensor], dims: Sequence[int], iterations: int, eps: float,
    v_first: bool, scale: bool, backend: str,
) -> tuple[list[Tensor], Tensor, Tensor, Tensor]:  # fmt: skip
    first = weights[0]
    sigmas = first.new_empty((len(weights),), dtype=compute_dtype(first.dtype))
    flat_u, flat_v = (first.new_empty((sum(x.shape[0] for x in vectors),)) for vectors in (u, v))
    return _empty_dense(weights) if scale else [], sigmas, flat_u, flat_v


_forward_op = define(
    "spectral_norm(Tensor[] weights, Tensor[] u, Tensor[] v, int[] dims, int iterations, float eps, bool v_first, "
    "bool scale, str backend) -> (Tensor[], Tensor, Tensor, Tensor)",
    _forward,
    _fake_forward,
)
_grad_op = define(
    "spectral_norm_grad(Tensor?[] g, Tensor? gs, Tensor[] weights, Tensor u, Tensor v, Tensor sigmas, int[] dims, "
    "str backend) -> Tensor[]",
    _grad,
    lambda g, gs, weights, *rest: _empty_dense(weights),
)
_grad2_op = define(
    "spectral_norm_grad2(Tensor?[] d, Tensor?[] g, Tensor[] weights, Tensor u, Tensor v, Tensor sigmas, int[] dims, "
    "str backend) -> (Tensor[], Tensor[], Tensor)",
    _grad2,
    lambda d, g, weights, u, v, sigmas, *rest: (
        _empty_dense(weights),
        _empty_dense(weights),
        torch.empty_like(sigmas),
    ),
)


def _directly(weights: Sequence[Tensor]) -> bool:
    """Whether nobody wants to see operators, for whose lists the dispatcher takes as long as a small kernel."""
    return not (
        torch.compiler.is_compiling()
        or torch._C._len_torch_dispatch_stack()
        or any(type(weight) not in (Tensor, torch.nn.Parameter) for weight in weights)
    )


def forward(weights: list[Tensor], *rest: Any) -> tuple[list[Tensor], Tensor, Tensor, Tensor]:
    """(weights, u, v, dims, iterations, eps, v_first, scale, backend) -> normalised, sigmas, flat u, flat v."""
    return (_forward if _directly(weights) else _forward_op)(weights, *rest)


def grad(g: Sequence[Tensor | None], gs: Tensor | None, weights: Sequence[Tensor], *rest: Any) -> list[Tensor]:
    """(g, gs, weights, flat u, flat v, sigmas, dims, backend) -> the gradients to the weights."""
    return (_grad if _directly(weights) else _grad_op)(g, gs, weights, *rest)


def grad2(
    d: Sequence[Tensor | None], g: Sequence[Tensor | None], weights: Sequence[Tensor], *rest: Any
) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """(d, g, weights, flat u, flat v, sigmas, dims, backend) -> the cotangents of g, weights and gs."""
    return (_grad2 if _directly(weights) else _grad2_op)(d, g, weights, *rest)
