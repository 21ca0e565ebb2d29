"""gradient_norm_penalty: what R1, R2 and WGAN-GP add to a loss, per sample, and its product with the gradient.

Norm, penalty and derivative are one pass over the gradient each; eager PyTorch makes one per operation. Penalties are
float32 for half-precision gradients, whose squares would overflow float16.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastgan import backends
from fastgan.ops import gradient_norm_penalty_backends as kernels
from fastgan.ops._common.checks import check_floating
from fastgan.ops._common.precision import compute_dtype
from fastgan.registry import FLOATING, HALF, BenchShape, OpSpec, Sample, register


class Penalty(NamedTuple):
    """Which function of the norm; weight and target are not tensors."""

    weight: float
    target: float | None
    one_sided: bool


def gradient_norm_penalty(
    g: Tensor,  # [B, ...]
    weight: float,
    target: float | None = None,
    one_sided: bool = False,
) -> Tensor:  # [B]
    """Penalises the norm of each sample's gradient.

        target None     r_i = weight/2 * ||g_i||^2
        target t        r_i = weight * (||g_i|| - t)^2
        one-sided       r_i = weight * max(0, ||g_i|| - t)^2

    In this order: Mescheder et al. 2018, Which Training Methods for GANs do actually Converge?, arXiv:1801.04406 (R1
    and R2; weight is their gamma). Gulrajani et al. 2017, Improved Training of Wasserstein GANs, arXiv:1704.00028
    (weight is lambda, t = 1). Petzka et al. 2018, On the regularization of Wasserstein GANs, arXiv:1709.08894. The
    derivative at ||g_i|| = 0 is 0, PyTorch's subgradient of the norm. Differentiable to any order: the first derivative
    is a kernel, the others are composed of torch operations.

    Args:
        g: the gradient of a critic's outputs with respect to its inputs: float32, float64, float16 or bfloat16,
            contiguous or channels_last without a copy.
        weight: any number.
        target: the norm that costs nothing, >= 0; None for the zero-centred penalty.
        one_sided: whether norms below the target cost nothing; needs a target.

    Returns:
        [B] in float32 (float64 for float64), for half-precision g too.

    Raises:
        TypeError: g is not a floating tensor.
        ValueError: g has no dimensions, target is negative, or one_sided comes without a target.
        fastgan.BackendError: a backend was forced that cannot take g.
    """
    penalty = _check("gradient_norm_penalty", g, weight, target, one_sided)
    backend = backends.select("gradient_norm_penalty", g)
    if backend == "reference":
        return gradient_norm_penalty_reference(g, *penalty)
    return _GradientNormPenalty.apply(g, penalty, backend)


@torch.no_grad()
def penalised_input(
    g: Tensor,  # [B, ...]
    x: Tensor,  # like g
    s: Tensor | None,  # [B]
    weight: float,
    target: float | None = None,
    one_sided: bool = False,
    scale: float = 1.0,
    grad_scale: float = 1.0,
) -> tuple[Tensor, Tensor, Tensor]:  # like x, [B], [B]
    """The penalty r of `gradient_norm_penalty`, and s x plus its derivative, in one pass; itself not differentiable.

        u_i = s_i x_i + scale * dr/dg'_i,    g'_i = grad_scale * g_i

    A tangent u of this form takes the gradient of a loss and of a penalty through a network at once. g is read a second
    time from the cache, and nothing of its size is written but u.

    Args:
        g: the gradient divided by grad_scale: float32, float64, float16 or bfloat16.
        x: of the shape, dtype and device of g; its memory order is that of the result.
        s: one factor for each sample, in any floating dtype; None for 0, and then x is not read.
        weight, target, one_sided: as for `gradient_norm_penalty`.
        scale: of the penalty's derivative, 1/B for a mean over the batch.
        grad_scale: what g must be multiplied by to be the gradient, where a loss was scaled to keep float16 gradients
            in range. Norm, penalty and derivative are those of the product.

    Returns:
        u in the dtype and memory order of x; the penalties r and the norms ||g'_i||, [B] in float32 (float64 for
        float64).

    Raises:
        TypeError: g, x or s is not a floating tensor, or the dtypes of g and x differ.
        ValueError: shapes or devices differ, or as for `gradient_norm_penalty`.
        fastgan.BackendError: a backend was forced that cannot take these arguments.
    """
    penalty = _check("penalised_input", g, weight, target, one_sided)
    _check_input(g, x, s)
    backend = backends.select("gradient_norm_penalty", g)
    if backend == "reference":
        return penalised_input_reference(g, x, s, *penalty, scale, grad_scale)
    return kernels.penalised_input(g, x, s, *penalty, float(scale), float(grad_scale), backend)


def _check(op: str, g: Any, weight: float, target: float | None, one_sided: bool) -> Penalty:
    check_floating(op, "g", g)
    if g.ndim == 0:
        raise ValueError(f"{op}: g has no dimensions, expected at least one")
    if target is not None and not target >= 0:
        raise ValueError(f"{op}: target is {target}, expected a norm >= 0 or None")
    if one_sided and target is None:
        raise ValueError(f"{op}: one_sided is True but target is None, expected a target")
    return Penalty(float(weight), None if target is None else float(target), bool(one_sided))


def _check_input(g: Tensor, x: Any, s: Any) -> None:
    for name, tensor in (("x", x), ("s", s)):
        if tensor is None and name == "s":
            continue
        check_floating("penalised_input", name, tensor)
        if tensor.device != g.device:
            raise ValueError(f"penalised_input: {name} is on {tensor.device}, expected {g.device} like g")
    if x.dtype != g.dtype:
        raise TypeError(f"penalised_input: x is {x.dtype}, expected {g.dtype} like g")
    if x.shape != g.shape:
        raise ValueError(f"penalised_input: x has shape {list(x.shape)}, expected {list(g.shape)} like g")
    if s is not None and (s.ndim != 1 or s.shape[0] != g.shape[0]):
        raise ValueError(f"penalised_input: s has shape {list(s.shape)}, expected [{g.shape[0]}]")


# --- plain PyTorch ------------------------------------------------------------------------------------------------


def gradient_norm_penalty_reference(
    g: Tensor, weight: float, target: float | None = None, one_sided: bool = False
) -> Tensor:
    """`gradient_norm_penalty` in plain PyTorch."""
    squares = _rows(g).square().sum(1)
    if target is None:
        return weight / 2 * squares
    excess = _norm(squares) - target
    return weight * (excess.relu() if one_sided else excess).square()


def penalised_input_reference(
    g: Tensor,
    x: Tensor,
    s: Tensor | None,
    weight: float,
    target: float | None = None,
    one_sided: bool = False,
    scale: float = 1.0,
    grad_scale: float = 1.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """`penalised_input` in plain PyTorch."""
    gradient = _rows(g) * grad_scale
    norm = _norm(gradient.square().sum(1))
    slope, _ = _slope_and_curvature(norm, Penalty(weight, target, one_sided))
    u = (scale * slope).unsqueeze(1) * gradient
    if s is not None:
        u = s.to(u.dtype).unsqueeze(1) * _rows(x) + u
    penalty = gradient_norm_penalty_reference(gradient, weight, target, one_sided)
    return torch.empty_like(x).copy_(u.view(x.shape)), penalty, norm


def _rows(g: Tensor) -> Tensor:
    """g as [B, elements of a sample], in the dtype of the arithmetic."""
    return g.to(compute_dtype(g)).reshape(g.shape[0], math.prod(g.shape[1:]))


def _norm(squares: Tensor) -> Tensor:
    """sqrt(squares) with derivative 0 at 0, also where it is differentiated again."""
    positive = squares != 0  # NaN stays NaN
    return torch.where(positive, torch.where(positive, squares, 1).sqrt(), 0)


def _slope_and_curvature(norm: Tensor, penalty: Penalty) -> tuple[Tensor, Tensor]:
    """c(n) = r'(n)/n and c'(n)/n; 0 where n = 0 and where a one-sided penalty is inactive."""
    weight, target, one_sided = penalty
    if target is None:
        return torch.full_like(norm, weight), torch.zeros_like(norm)
    active = norm != 0
    if one_sided:
        active = active & ~(norm <= target)
    divisor = torch.where(active, norm, 1)
    slope = torch.where(active, 2 * weight * (1 - target / divisor), 0)
    return slope, torch.where(active, 2 * weight * target / divisor**3, 0)


# --- differentiable functions -------------------------------------------------------------------------------------


class _GradientNormPenalty(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, g: Tensor, penalty: Penalty, backend: str) -> Tensor:
        r, norm = kernels.gradient_norm_penalty(g, *penalty, backend)
        ctx.save_for_backward(g, norm)
        ctx.penalty, ctx.backend = penalty, backend
        return r

    @staticmethod
    def backward(ctx: Any, p: Tensor) -> tuple[Tensor, None, None]:
        g, norm = ctx.saved_tensors
        if not torch.is_grad_enabled():  # without create_graph nobody will differentiate dg
            return kernels.gradient_norm_penalty_grad(p, g, norm, *ctx.penalty, ctx.backend), None, None
        return _GradientNormPenaltyGrad.apply(p, g, norm, ctx.penalty, ctx.backend), None, None


class _GradientNormPenaltyGrad(torch.autograd.Function):
    """dg_i = p_i c(n_i) g_i, as a function of p and of g."""

    @staticmethod
    def forward(ctx: Any, p: Tensor, g: Tensor, norm: Tensor, penalty: Penalty, backend: str) -> Tensor:
        ctx.save_for_backward(p, g)
        ctx.penalty = penalty
        return kernels.gradient_norm_penalty_grad(p, g, norm, *penalty, backend)

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        """Composed: p_i gets c <v_i, g_i>, and g_i gets p_i (c v_i + c'/n <v_i, g_i> g_i)."""
        p, g = ctx.saved_tensors
        rows, cotangents = _rows(g), _rows(v)
        norm = _norm(rows.square().sum(1))  # again, because the saved one is no function of g to autograd
        slope, curvature = _slope_and_curvature(norm, ctx.penalty)
        product = (cotangents * rows).sum(1)
        grad_g = (p * slope).unsqueeze(1) * cotangents + (p * curvature * product).unsqueeze(1) * rows
        return slope * product, grad_g.view(g.shape).to(g.dtype), None, None, None


# --- what the tests and the benchmarks call it with ------------------------------------------------------------------


def _samples(device: torch.device, dtype: torch.dtype, generator: torch.Generator) -> Iterator[Sample]:
    def sample(shape: tuple[int, ...], label: str, norms: tuple[float, ...] = (), **kwargs: Any) -> Sample:
        g = torch.randn(shape, generator=generator, dtype=torch.float64)
        if norms:  # of the samples, in turn
            wanted = torch.tensor([norms[i % len(norms)] for i in range(shape[0])], dtype=torch.float64)
            rows = g.flatten(1)
            g = (rows * (wanted / rows.norm(dim=1)).unsqueeze(1)).view(shape)
        return Sample((g.to(device, dtype),), {"weight": 10.0, **kwargs}, label, smooth=0 not in norms)

    # 1.0 itself is the kink of a one-sided penalty with target 1: norms keep away from it.
    yield sample((4, 3, 4, 4), "images")
    yield sample((4, 3, 4, 4), "images-target", norms=(0.5, 2.0), target=1.0)
    yield sample((4, 3, 4, 4), "images-one-sided", norms=(0.5, 2.0), target=1.0, one_sided=True)
    yield sample((5, 37), "odd", target=0.75)
    yield sample((3, 4, 5, 3), "channels-last", weight=0.3, target=1.5).map(
        lambda g: g.to(memory_format=torch.channels_last)
    )
    yield sample((7,), "one-dim", target=0.0, weight=-1.0)
    yield sample((3, 2, 2051), "several-blocks", norms=(0.5, 1.5, 3.0), target=1.0)
    yield sample((16, 2, 600), "many-samples")
    yield sample((4, 3, 8), "strided", target=1.0).map(lambda g: g[..., ::2])
    yield sample((6, 3, 4), "transposed", target=1.0).map(lambda g: g.transpose(0, 2))
    yield sample((0, 3, 4), "empty-batch", target=1.0)
    yield sample((3, 0), "empty-samples")
    yield sample((4, 6), "zero-gradient", norms=(0.0, 2.0), target=1.0)
    yield sample((3, 5), "target-zero-at-zero", norms=(0.0, 2.0), target=0.0, one_sided=True)


def _kinks(device: torch.device, dtype: torch.dtype) -> Iterator[Sample]:
    """Norms of 0 and of the target."""
    g = torch.tensor([[3, 4], [0, 0], [6, 8], [-0.0, 0]], dtype=dtype, device=device)
    for target, one_sided in ((None, False), (5.0, False), (5.0, True), (0.0, False), (0.0, True)):
        kwargs = {"weight": 3.0, "target": target, "one_sided": one_sided}
        yield Sample((g,), kwargs, f"{kwargs}", smooth=False)


def bench_shape(shape: tuple[int, ...], label: str, target: float | None) -> BenchShape:
    def make(device: torch.device, dtype: torch.dtype) -> Sample:
        return Sample(
            (torch.randn(shape, device=device, dtype=dtype),), {"weight": 10.0, "target": target}, label=label
        )

    elements = math.prod(shape)
    return BenchShape(label, make, lambda size: size * elements, 2 * elements)


SPEC = register(
    OpSpec(
        name="gradient_norm_penalty",
        function=gradient_norm_penalty,
        reference=gradient_norm_penalty_reference,
        backends={"cpu": FLOATING, "triton": (torch.float32, *HALF)},
        order=None,
        samples=_samples,
        kinks=_kinks,
        bench=(
            bench_shape((64, 3, 64, 64), "R1 64x3x64x64", None),
            bench_shape((256, 3, 32, 32), "WGAN-GP 256x3x32x32", 1.0),
        ),
        paper="Mescheder et al. 2018, Which Training Methods for GANs do actually Converge?, arXiv:1801.04406",
    )
)
