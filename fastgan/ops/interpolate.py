"""interpolate: a random point on the line between each sample of one batch and its partner of another.

The points at which WGAN-GP penalises the critic's gradient. Eager PyTorch draws the weights and makes three more passes
over memory; here they are drawn inside the one pass, from a counter-based generator, and drawn again in the derivatives
instead of being saved.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from fastgan import allocation, backends
from fastgan.library import define
from fastgan.native import DTYPE_CODES, address, extension
from fastgan.ops._common import philox
from fastgan.ops._common.checks import check_floating
from fastgan.ops._common.layout import dense, like
from fastgan.ops._common.precision import compute_dtype
from fastgan.registry import FLOATING, HALF, BenchShape, OpSpec, Sample, register


def interpolate(
    x: Tensor,  # [B, ...]
    y: Tensor,  # [B, ...]
    seed: int | Tensor,
) -> Tensor:  # like x
    """Mixes two batches with one random weight for each sample.

        o_i = e_i x_i + (1 - e_i) y_i,    e_i ~ U[0, 1)

    Gulrajani et al. 2017, Improved Training of Wasserstein GANs, arXiv:1704.00028. The weight is per sample, as in the
    paper's algorithm 1: one weight for the whole batch, or one for each pixel, is a frequent mistake. `e_i` depends on
    the seed and on i alone, not on backend, dtype or shape: `interpolation_weights` returns it. Differentiable to any
    order, with respect to x and y.

    Args:
        x: float32, float64, float16 or bfloat16, contiguous or channels_last without a copy.
        y: of the shape, dtype and device of x.
        seed: 64 bits; the same seed draws the same weights. Or an int64 tensor of one element on the device of x, which
            is read by the kernel without a synchronisation: a CUDA graph draws new weights once it has changed. It must
            not change between forward and backward.

    Returns:
        A tensor of the shape and dtype of x; the arithmetic is float32 (float64 for float64).

    Raises:
        TypeError: x or y is not a floating tensor, their dtypes differ, or seed is no integer.
        ValueError: shapes or devices differ, or seed has a wrong size or range.
        fastgan.BackendError: a backend was forced that cannot take these arguments.
    """
    _check(x, y)
    word = _seed_tensor("interpolate", seed, x.device)
    backend = backends.select("interpolate", x)
    if backend == "reference":
        return interpolate_reference(x, y, word)
    return _Interpolate.apply(x, y, word, backend)


def interpolation_weights(seed: int | Tensor, samples: int, device: torch.device | str | None = None) -> Tensor:
    """The weights e_i that `interpolate` draws for a seed.

    Philox4x32-10 with the seed as key and i as counter: `tl.rand(seed, i)` of Triton, bit for bit.

    Args:
        seed: as for `interpolate`.
        samples: how many.
        device: where; default the device of a seed tensor, otherwise the CPU.

    Returns:
        [samples] in float32.

    Raises:
        TypeError, ValueError: as `interpolate`.
    """
    if device is None:
        device = seed.device if isinstance(seed, Tensor) else "cpu"
    return philox.uniform(_seed_tensor("interpolation_weights", seed, torch.device(device)), samples)


def interpolate_reference(x: Tensor, y: Tensor, seed: int | Tensor) -> Tensor:
    """`interpolate` in plain PyTorch."""
    e = interpolation_weights(seed, x.shape[0], x.device).to(compute_dtype(x))
    e = e.view(-1, *[1] * (x.ndim - 1))
    return (e * x + (1 - e) * y).to(x.dtype)


def _seed_tensor(op: str, seed: Any, device: torch.device) -> Tensor:
    """The seed as an int64 tensor of one element on the device."""
    if isinstance(seed, Tensor):
        if seed.dtype != torch.int64:
            raise TypeError(f"{op}: seed is {seed.dtype}, expected an int or an int64 tensor")
        if seed.numel() != 1:
            raise ValueError(f"{op}: seed has shape {list(seed.shape)}, expected one element")
        if seed.device.type != device.type or device.index not in (None, seed.device.index):
            raise ValueError(f"{op}: seed is on {seed.device}, expected {device}")
        return seed
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise TypeError(f"{op}: seed is {type(seed).__name__}, expected an int or an int64 tensor")
    if not -(2**63) <= seed < 2**63:
        raise ValueError(f"{op}: seed is {seed}, expected -2**63 <= seed < 2**63")
    return torch.full((1,), seed, dtype=torch.int64, device=device)  # a kernel, not a copy that would synchronise


def _check(x: Any, y: Any) -> None:
    for name, tensor in (("x", x), ("y", y)):
        check_floating("interpolate", name, tensor)
    if y.dtype != x.dtype:
        raise TypeError(f"interpolate: y is {y.dtype}, expected {x.dtype} like x")
    if x.ndim == 0:
        raise ValueError("interpolate: x has no dimensions, expected at least one")
    if y.shape != x.shape:
        raise ValueError(f"interpolate: y has shape {list(y.shape)}, expected {list(x.shape)} like x")
    if y.device != x.device:
        raise ValueError(f"interpolate: y is on {y.device}, expected {x.device} like x")


# --- differentiable functions -------------------------------------------------------------------------------------


class _Interpolate(torch.autograd.Function):
    """o = e x + (1 - e) y; saves the seed, not the weights."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, seed: Tensor, backend: str) -> Tensor:
        ctx.save_for_backward(seed)
        ctx.backend = backend
        return _op(x, y, seed, backend)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        (seed,) = ctx.saved_tensors
        # Grad mode is on in a backward pass only with create_graph=True; otherwise nobody will differentiate dx.
        gradient = _InterpolateGrad.apply if torch.is_grad_enabled() else _op_grad
        dx, dy = gradient(g, seed, ctx.backend)
        return dx if ctx.needs_input_grad[0] else None, dy if ctx.needs_input_grad[1] else None, None, None


class _InterpolateGrad(torch.autograd.Function):
    """dx = e g and dy = (1 - e) g. Linear: its derivative is `interpolate` again, with the same seed."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, seed: Tensor, backend: str) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(seed)
        ctx.backend = backend
        return _op_grad(g, seed, backend)

    @staticmethod
    def backward(ctx: Any, ddx: Tensor, ddy: Tensor) -> tuple[Tensor, None, None]:
        return _Interpolate.apply(ddx, ddy, *ctx.saved_tensors, ctx.backend), None, None


# --- private operators, opaque to torch.compile ---------------------------------------------------------------------


def _forward(x: Tensor, y: Tensor, seed: Tensor, backend: str) -> Tensor:
    x = dense(x)  # whichever dense order that is, the samples are outermost
    y = like(y, x)
    o = allocation.empty_like(x)
    if backend == "cpu":
        E, n, of_seed = x.dtype, x.numel(), address(seed, torch.int64, 1)
        _cpu("interpolate", x, address(x, E, n), address(y, E, n), of_seed, address(o, E, n))
    else:
        _triton().forward(x, y, seed, o)
    return o


def _grad(g: Tensor, seed: Tensor, backend: str) -> tuple[Tensor, Tensor]:
    g = dense(g)
    dx, dy = allocation.empty_like(g), allocation.empty_like(g)
    if backend == "cpu":
        E, n, of_seed = g.dtype, g.numel(), address(seed, torch.int64, 1)
        _cpu("interpolate_grad", g, address(g, E, n), of_seed, address(dx, E, n), address(dy, E, n))
    else:
        _triton().grad(g, seed, dx, dy)
    return dx, dy


def _cpu(name: str, x: Tensor, *addresses: int) -> None:
    """Calls csrc/interpolate.cpp."""
    sizes = x.shape[0], math.prod(x.shape[1:])
    getattr(extension(), name)(*addresses, *sizes, DTYPE_CODES[x.dtype], torch.get_num_threads())


def _triton() -> Any:
    from fastgan.kernels import interpolate as triton_kernels  # imports triton: only when it is used

    return triton_kernels


_op = define(
    "interpolate(Tensor x, Tensor y, Tensor seed, str backend) -> Tensor",
    _forward,
    lambda x, y, seed, backend: torch.empty_like(dense(x)),
)
_op_grad = define(
    "interpolate_grad(Tensor g, Tensor seed, str backend) -> (Tensor, Tensor)",
    _grad,
    lambda g, seed, backend: (torch.empty_like(dense(g)), torch.empty_like(dense(g))),
)


# --- what the tests and the benchmarks call it with ------------------------------------------------------------------


def _samples(device: torch.device, dtype: torch.dtype, generator: torch.Generator) -> Iterator[Sample]:
    def sample(shape: tuple[int, ...], label: str, seed: int | Tensor = 0) -> Sample:
        x, y = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
        y = torch.copysign(y, x)  # otherwise the two terms may cancel, and no relative error can be asked for
        return Sample((x.to(device, dtype), y.to(device, dtype)), {"seed": seed}, label=label)

    yield sample((3, 5, 7), "odd", 0xFEDCBA987654321)  # a seed of more than 32 bits
    yield sample((4, 3, 2, 2), "image", -1)
    yield sample((5, 3), "seed-tensor", torch.tensor(2**40 + 7, device=device))
    yield sample((3, 4, 5, 3), "channels-last").map(lambda t: t.to(memory_format=torch.channels_last))
    yield sample((17,), "one-dim", torch.tensor([3], device=device))
    yield sample((3, 4099), "several-blocks")
    yield sample((2, 3, 1000), "large-samples")
    yield sample((4, 6, 8), "strided").map(lambda t: t[..., ::2])
    yield sample((6, 3, 4), "transposed").map(lambda t: t.transpose(0, 2))
    yield sample((0, 3, 4), "empty-batch")
    yield sample((3, 0), "empty-samples")


def bench_shape(shape: tuple[int, ...]) -> BenchShape:
    def make(device: torch.device, dtype: torch.dtype) -> Sample:
        x, y = (torch.randn(shape, device=device, dtype=dtype) for _ in range(2))
        return Sample((x, y), {"seed": 1}, label="x".join(map(str, shape)))

    elements = math.prod(shape)
    return BenchShape("x".join(map(str, shape)), make, lambda size: 3 * size * elements, 3 * elements)


SPEC = register(
    OpSpec(
        name="interpolate",
        function=interpolate,
        reference=interpolate_reference,
        backends={"cpu": FLOATING, "triton": (torch.float32, *HALF)},
        order=None,
        samples=_samples,
        bench=(bench_shape((64, 3, 64, 64)), bench_shape((256, 3, 32, 32))),
        paper="Gulrajani et al. 2017, Improved Training of Wasserstein GANs, arXiv:1704.00028",
    )
)
