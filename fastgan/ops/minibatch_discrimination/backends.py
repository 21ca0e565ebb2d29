"""The private operators of minibatch_discrimination: they allocate the outputs and call a backend's kernels.

They are opaque to torch.compile and know nothing of autograd: autograd.py differentiates them.
"""

import math

import torch
from torch import Tensor

from fastgan import allocation
from fastgan.library import define
from fastgan.native import CPU, DTYPE_CODES, address, extension


def _forward(m: Tensor, backend: str) -> Tensor:
    m = m.contiguous()
    o = allocation.empty(m.shape[:2], like=m)
    _call("minibatch_discrimination", backend, m, (m, o))
    return o


def _grad(g: Tensor, m: Tensor, backend: str) -> Tensor:
    m = m.contiguous()
    dm = allocation.empty_like(m)
    _call("minibatch_discrimination_grad", backend, m, (g.contiguous(), m, dm))
    return dm


def _grad2(v: Tensor, g: Tensor, m: Tensor, backend: str) -> tuple[Tensor, Tensor]:
    m, g = m.contiguous(), g.contiguous()
    grad_g, grad_m = allocation.empty_like(g), allocation.empty_like(m)
    _call("minibatch_discrimination_grad2", backend, m, (v.contiguous(), g, m, grad_g, grad_m))
    return grad_g, grad_m


def _call(name: str, backend: str, m: Tensor, tensors: tuple[Tensor, ...]) -> None:
    """Calls csrc/minibatch_discrimination.cpp or .cu with addresses; the outputs come last in `tensors`."""
    device = CPU if backend == "cpu" else m.device
    # Each is [B, K], like the result, or [B, K, C], like m.
    addresses = [address(t, m.dtype, math.prod(m.shape[: t.ndim]), device) for t in tensors]
    if backend == "cpu":
        getattr(extension(), name)(*addresses, *m.shape, DTYPE_CODES[m.dtype], torch.get_num_threads())
        return
    with torch.cuda.device(m.device):
        stream = torch.cuda.current_stream().cuda_stream
        getattr(extension(), f"{name}_cuda")(*addresses, *m.shape, DTYPE_CODES[m.dtype], stream)


def _contiguous_like(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


minibatch_discrimination = define(
    "minibatch_discrimination(Tensor m, str backend) -> Tensor",
    _forward,
    lambda m, backend: m.new_empty(m.shape[:2]),
)
minibatch_discrimination_grad = define(
    "minibatch_discrimination_grad(Tensor g, Tensor m, str backend) -> Tensor",
    _grad,
    lambda g, m, backend: _contiguous_like(m),
)
minibatch_discrimination_grad2 = define(
    "minibatch_discrimination_grad2(Tensor v, Tensor g, Tensor m, str backend) -> (Tensor, Tensor)",
    _grad2,
    lambda v, g, m, backend: (_contiguous_like(g), _contiguous_like(m)),
)
