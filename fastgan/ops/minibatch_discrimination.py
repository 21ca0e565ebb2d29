"""minibatch_discrimination: how close each sample's features are to those of the rest of the batch.

The eager composition materialises B x B x K x C differences and their signs. The kernels keep them in registers, in
forward, backward and double backward, so that the extra memory is O(B K C).
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from fastgan import allocation, backends
from fastgan.library import define
from fastgan.native import CPU, DTYPE_CODES, address, extension
from fastgan.ops._common.checks import check_floating
from fastgan.ops._common.partial_gradients import higher_derivatives
from fastgan.registry import FLOATING, BenchShape, OpSpec, Sample, register


def minibatch_discrimination(m: Tensor) -> Tensor:  # [B, K, C] -> [B, K]
    """Sums, for every sample and kernel, the similarities to the other samples of the batch.

        o_ik = sum over j != i of exp(-||m_ik - m_jk||_1)

    Salimans et al. 2016, Improved Techniques for Training GANs, section 3.2 (there the sum
    includes j = i, the constant 1). Differentiable to any order, twice by kernels. The norm's subgradient at 0
    is 0, as in PyTorch.

    Args:
        m: [B, K, C], the features after the layer's projection: batch, kernels, dimensions of a kernel; float32,
            float64, float16 or bfloat16. Sums are float32 (float64 for float64).

    Returns:
        [B, K] in the dtype of m.

    Raises:
        TypeError: m is not a floating tensor.
        ValueError: m does not have three dimensions.
        fastgan.BackendError: a backend was forced that cannot take m.
    """
    check_floating("minibatch_discrimination", "m", m)
    if m.ndim != 3:
        raise ValueError(f"minibatch_discrimination: m has shape {list(m.shape)}, expected [batch, kernels, dims]")
    backend = backends.select("minibatch_discrimination", m)
    if backend == "reference":
        return minibatch_discrimination_reference(m)
    return _MinibatchDiscrimination.apply(m, backend)


def minibatch_discrimination_reference(m: Tensor) -> Tensor:
    """The same in plain PyTorch, as it is usually written; O(B B K C) memory."""
    distance = (m.unsqueeze(0) - m.unsqueeze(1)).abs().sum(3)  # [B, B, K]
    itself = torch.eye(m.shape[0], dtype=torch.bool, device=m.device).unsqueeze(2)
    return torch.exp(-distance).masked_fill(itself, 0).sum(0)


# --- differentiable functions -------------------------------------------------------------------------------------


class _MinibatchDiscrimination(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, m: Tensor, backend: str) -> Tensor:
        ctx.save_for_backward(m)
        ctx.backend = backend
        return _op(m, backend)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        (m,) = ctx.saved_tensors
        # Grad mode is on in a backward pass only with create_graph=True; otherwise nobody will differentiate dm.
        gradient = _MinibatchDiscriminationGrad.apply if torch.is_grad_enabled() else _op_grad
        return gradient(g, m, ctx.backend), None


class _MinibatchDiscriminationGrad(torch.autograd.Function):
    """dm_ikc = -sum_j (g_ik + g_jk) c_ijk sign(m_ikc - m_jkc), c_ijk the similarity of samples i and j."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, m: Tensor, backend: str) -> Tensor:
        ctx.save_for_backward(g, m)
        ctx.backend = backend
        return _op_grad(g, m, backend)

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        grad_g, grad_m = _MinibatchDiscriminationGrad2.apply(v, *ctx.saved_tensors, ctx.backend)
        return grad_g, grad_m, None


class _MinibatchDiscriminationGrad2(torch.autograd.Function):
    """The cotangents of g and m for a cotangent v of dm (csrc/minibatch_discrimination.h)."""

    @staticmethod
    def forward(ctx: Any, v: Tensor, g: Tensor, m: Tensor, backend: str) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(v, g, m)
        ctx.set_materialize_grads(False)
        return _op_grad2(v, g, m, backend)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        of_g, of_m = cotangents
        return *higher_derivatives(ctx, minibatch_discrimination_reference, (of_g, of_m)), None


# --- private operators, opaque to torch.compile ---------------------------------------------------------------------


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


_op = define(
    "minibatch_discrimination(Tensor m, str backend) -> Tensor",
    _forward,
    lambda m, backend: m.new_empty(m.shape[:2]),
)
_op_grad = define(
    "minibatch_discrimination_grad(Tensor g, Tensor m, str backend) -> Tensor",
    _grad,
    lambda g, m, backend: _contiguous_like(m),
)
_op_grad2 = define(
    "minibatch_discrimination_grad2(Tensor v, Tensor g, Tensor m, str backend) -> (Tensor, Tensor)",
    _grad2,
    lambda v, g, m, backend: (_contiguous_like(g), _contiguous_like(m)),
)


# --- what the tests and the benchmarks call it with ------------------------------------------------------------------


def _samples(device: torch.device, dtype: torch.dtype, generator: torch.Generator) -> Iterator[Sample]:
    def features(B: int, K: int, C: int, spread: float = 0.5) -> Tensor:
        # In every column the samples are a shuffled grid, jittered by a quarter of its spacing: no two come so close
        # that finite differences or rounding would swap them.
        order = torch.rand(B, K, C, generator=generator, dtype=torch.float64).argsort(0)
        jitter = 0.5 * torch.rand(B, K, C, generator=generator, dtype=torch.float64)
        return (spread * ((order + jitter) * 2 / max(B, 1) - 1)).to(device, dtype)

    yield Sample((features(5, 3, 4),), label="small")
    yield Sample((features(67, 2, 3),), label="across-tiles")
    yield Sample((features(9, 1, 17, spread=0.2),), label="many-dims")
    yield Sample((features(131, 8, 2),), label="many-kernels")
    yield Sample((features(4, 3, 5).transpose(0, 1),), label="transposed")
    yield Sample((features(2, 3, 1),), label="one-dim")
    yield Sample((features(1, 3, 4),), label="one-sample")
    yield Sample((features(0, 3, 4),), label="empty-batch")
    repeated = features(3, 2, 4).repeat(2, 1, 1)
    yield Sample((repeated,), label="repeated", smooth=False)


def _kinks(device: torch.device, dtype: torch.dtype) -> Iterator[Sample]:
    """Samples that agree in some features, or in all."""
    m = torch.tensor([[[0, 1], [0.5, 0]], [[-0.0, 1], [1, 0]], [[0, 2], [1, -1]]], dtype=dtype, device=device)
    yield Sample((m,), label="ties", smooth=False)


def bench_shape(B: int, K: int, C: int) -> BenchShape:
    def make(device: torch.device, dtype: torch.dtype) -> Sample:
        return Sample((torch.randn(B, K, C, device=device, dtype=dtype),), label=f"{B}x{K}x{C}")

    # Each of the B (B - 1) / 2 pairs: a difference and an addition per dimension, then exp.
    return BenchShape(f"{B}x{K}x{C}", make, lambda size: size * (B * K * C + B * K), B * (B - 1) // 2 * K * (2 * C + 1))


SPEC = register(
    OpSpec(
        name="minibatch_discrimination",
        function=minibatch_discrimination,
        reference=minibatch_discrimination_reference,
        backends={"cuda": FLOATING, "cpu": FLOATING},
        order=None,
        samples=_samples,
        kinks=_kinks,
        bench=(bench_shape(64, 100, 5), bench_shape(128, 100, 16), bench_shape(256, 64, 16)),
        paper="Salimans et al. 2016, Improved Techniques for Training GANs, section 3.2",
    )
)
