"""The private operators of minibatch_stddev: they allocate the outputs and call a backend's kernels.

They are opaque to torch.compile and know nothing of autograd: autograd.py differentiates them.
"""

import torch
from torch import Tensor

from fastgan import allocation
from fastgan.library import define
from fastgan.native import CPU, DTYPE_CODES, address, extension
from fastgan.ops._common.layout import dense, empty_image
from fastgan.ops.minibatch_stddev.reference import count_groups


def _forward(x: Tensor, group_size: int | None, num_channels: int, backend: str) -> Tensor:
    x = dense(x)
    o = _extended(x, num_channels)
    _call("minibatch_stddev", backend, x, group_size, num_channels, (x, o))
    return o


def _grad(g: Tensor, x: Tensor, group_size: int | None, num_channels: int, backend: str) -> Tensor:
    x = dense(x)
    g, dx = _in_order(g, x), allocation.empty_like(x)
    _call("minibatch_stddev_grad", backend, x, group_size, num_channels, (g, x, dx))
    return dx


def _grad2(
    v: Tensor, g: Tensor, x: Tensor, group_size: int | None, num_channels: int, backend: str
) -> tuple[Tensor, Tensor]:
    x = dense(x)
    v, g = _in_order(v, x), _in_order(g, x)
    grad_g, grad_x = allocation.empty_like(g), allocation.empty_like(x)
    _call("minibatch_stddev_grad2", backend, x, group_size, num_channels, (v, g, x, grad_g, grad_x))
    return grad_g, grad_x


def _extended(x: Tensor, num_channels: int) -> Tensor:
    """Room for x and the channels behind it."""
    return empty_image(x.shape[1] + num_channels, x.shape[2], x.shape[3], order=x)


def _in_order(t: Tensor, x: Tensor) -> Tensor:
    """t, of any number of channels, in the memory order of the dense tensor x."""
    return t.contiguous(memory_format=torch.contiguous_format if x.is_contiguous() else torch.channels_last)


_EXTENDED = {"minibatch_stddev": (1,), "minibatch_stddev_grad": (0,), "minibatch_stddev_grad2": (1, 3)}
"""Which of a function's tensors have the statistics' channels besides those of x."""


def _call(
    name: str, backend: str, x: Tensor, group_size: int | None, num_channels: int, tensors: tuple[Tensor, ...]
) -> None:
    """Calls csrc/minibatch_stddev.cpp or .cu with addresses; the outputs come last in `tensors`."""
    N, C, H, W = x.shape
    segments, pixels = (1, H * W) if x.is_contiguous() else (H * W, 1)
    sizes = N, count_groups(N, group_size), num_channels, segments, C // num_channels * pixels, pixels
    args = extension().MinibatchStddevArgs(*sizes, DTYPE_CODES[x.dtype], torch.get_num_threads())
    device = CPU if backend == "cpu" else x.device
    counts = N * C * H * W, N * (C + num_channels) * H * W
    addresses = [address(t, x.dtype, counts[i in _EXTENDED[name]], device) for i, t in enumerate(tensors)]
    if backend == "cpu":
        getattr(extension(), name)(*addresses, args)
        return
    with torch.cuda.device(x.device):
        if name != "minibatch_stddev_grad":  # whose blocks leave nothing to be added up
            count = extension().minibatch_stddev_parts(args)
            parts = allocation.empty((count,), like=x, dtype=torch.float64)
            addresses.append(address(parts, torch.float64, count, device))
        stream = torch.cuda.current_stream().cuda_stream
        getattr(extension(), f"{name}_cuda")(*addresses, args, stream)


def _fake_like(t: Tensor, x: Tensor) -> Tensor:
    """Uninitialised memory for t, in the memory order that goes with x."""
    return torch.empty_like(_in_order(t, dense(x)))


_CONFIG = "int? group_size, int num_channels, str backend"
minibatch_stddev = define(
    f"minibatch_stddev(Tensor x, {_CONFIG}) -> Tensor",
    _forward,
    lambda x, group_size, num_channels, backend: _extended(dense(x), num_channels),
)
minibatch_stddev_grad = define(
    f"minibatch_stddev_grad(Tensor g, Tensor x, {_CONFIG}) -> Tensor",
    _grad,
    lambda g, x, *config: _fake_like(x, x),
)
minibatch_stddev_grad2 = define(
    f"minibatch_stddev_grad2(Tensor v, Tensor g, Tensor x, {_CONFIG}) -> (Tensor, Tensor)",
    _grad2,
    lambda v, g, x, *config: (_fake_like(g, x), _fake_like(x, x)),
)
