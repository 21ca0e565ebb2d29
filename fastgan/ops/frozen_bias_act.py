"""frozen_bias_act: bias and activation with the activation's mask frozen at another input; and the masks themselves.

A network of linear layers and of relu or lrelu is affine near a point x. The same network with its masks frozen at x
is that affine map, and may be applied to another input u. With every bias scaled by a number s_i per sample it is what
the exact gradient of a loss with a gradient penalty needs. One bit per element is kept of x (activation_mask.py).
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastgan import backends
from fastgan.ops import frozen_bias_act_backends as kernels
from fastgan.ops._common.layout import by_sample, memory_order
from fastgan.ops.activation_mask import ActivationMask
from fastgan.ops.frozen_bias_act_checks import check, check_frozen, refuse_autograd
from fastgan.ops.frozen_bias_act_reference import (
    bias_act_with_mask_reference,
    frozen_bias_act_grad_reference,
    frozen_bias_act_reference,
    slope_and_gain,
)
from fastgan.registry import FLOATING, HALF, BenchShape, OpSpec, Sample, register


class Config(NamedTuple):
    """The arguments that are not tensors, with every default resolved; `slope` is that of the negative side."""

    order: tuple[int, ...]
    dim: int
    slope: float
    gain: float
    clamp: float | None
    constant: bool
    """Whether clamped elements have their constant, or are 0 as in a derivative."""
    backend: str


def bias_act_with_mask(
    x: Tensor,  # [..., channels, ...]
    b: Tensor | None = None,  # [channels]
    dim: int = 1,
    act: str = "lrelu",
    alpha: float | None = None,
    gain: float | None = None,
    clamp: float | None = None,
) -> tuple[Tensor, ActivationMask]:  # like x, and its mask
    """`bias_act` and the mask of its activation, without derivatives.

        y = clamp(gain * act(x + b), -clamp, clamp), bits (x + b > 0) and, with a clamp, not (|y| >= clamp)

    y is that of `bias_act` bit for bit. Nothing is differentiable: call it under `torch.no_grad()` where x or b
    requires a gradient. Zero and NaN are not positive, as in PyTorch's own leaky_relu; NaN is not clamped.

    Args:
        x: float32, float64, float16 or bfloat16, of any shape; without a copy if its elements fill their memory
            and dimension 0, the samples, is outermost there.
        b: one value for each index of dimension `dim` of x, in any floating dtype; None adds nothing.
        dim: the dimension of x that b runs along.
        act: linear, relu or lrelu.
        alpha, gain, clamp: as for `bias_act`.

    Returns:
        y of the shape and dtype of x, and the mask in y's memory order.

    Raises:
        TypeError: an argument is not a floating tensor.
        ValueError: an argument has a wrong shape, name or range.
        RuntimeError: x or b requires a gradient and grad mode is on.
        fastgan.BackendError: a backend was forced that cannot take these arguments.
    """
    name = "bias_act_with_mask"
    arguments = _check_forward(name, x, b, dim, act, alpha, gain, clamp)
    backend = backends.select("frozen_bias_act", x)
    if backend == "reference":
        return bias_act_with_mask_reference(x, b, dim, act, alpha, gain, clamp)
    y, bits = kernels.bias_act_with_mask(x, b, *arguments, backend)
    return y, ActivationMask(bits, memory_order(y), clamp is not None)


def bias_act_with_mask_(
    x: Tensor,  # [..., channels, ...]
    b: Tensor | None = None,  # [channels]
    dim: int = 1,
    act: str = "lrelu",
    alpha: float | None = None,
    gain: float | None = None,
    clamp: float | None = None,
) -> ActivationMask:
    """`bias_act_with_mask` that overwrites x with y, for layers like `nn.LeakyReLU(inplace=True)`.

    Arguments and errors are those of `bias_act_with_mask`. Where that copies x, x is overwritten through the
    copy, whose memory order is the mask's.
    """
    arguments = _check_forward("bias_act_with_mask_", x, b, dim, act, alpha, gain, clamp)
    backend = backends.select("frozen_bias_act", x)
    if backend == "reference":
        y, mask = bias_act_with_mask_reference(x, b, dim, act, alpha, gain, clamp)
        x.copy_(y)
        return mask
    order = memory_order(by_sample(x))
    bits = kernels.bias_act_with_mask_(x, b, *arguments, backend)
    return ActivationMask(bits, order, clamp is not None)


def _check_forward(
    name: str, x: Any, b: Any, dim: int, act: str, alpha: float | None, gain: float | None, clamp: float | None
) -> tuple[int, str, float, float, float | None]:
    """Checks the arguments of bias_act_with_mask and resolves those that are not tensors."""
    check(name, "x", x, b, dim, act, alpha, clamp)
    refuse_autograd(name, x=x, b=b)
    slope, gain = slope_and_gain(act, alpha, gain)
    return dim % x.ndim, act, slope, gain, None if clamp is None else float(clamp)


def frozen_bias_act(
    u: Tensor,  # [..., channels, ...]
    b: Tensor | None,  # [channels]
    s: Tensor | None,  # [samples]
    mask: ActivationMask,
    dim: int = 1,
    act: str = "lrelu",
    alpha: float | None = None,
    gain: float | None = None,
    clamp: float | None = None,
) -> Tensor:  # like u
    """Bias and activation with the activation frozen at the input whose mask is given: linear in (u, b).

        y = p (u + s b) with p = gain * (1 if positive else alpha); where clamped, y = s * clamp with the sign of the
        clamped output

    With u = x and s = None this is `bias_act(x, b)`, and so are its derivatives. Differentiable to any order with
    respect to u and b, by compiled kernels: du = p dy (0 where clamped), and db, the sum over each channel of s du, in
    the same pass. Nothing flows to s and to the mask.

    Args:
        u: float32, float64, float16 or bfloat16, of the shape of the x of the mask; copied to the mask's memory order
            if it has another.
        b: one value for each index of dimension `dim` of u, in any floating dtype; None adds nothing.
        s: what each sample's bias and clamp are multiplied by; None stands for ones. Sample i is the i-th of s.numel()
            equal parts of dimension 0, whose size s.numel() divides: channels may be folded into the batch.
        mask: from `bias_act_with_mask`, with the same dim, act, alpha, gain and clamp.
        dim, act, alpha, gain, clamp: as for `bias_act_with_mask`.

    Returns:
        A tensor of the shape and dtype of u in the mask's memory order; the arithmetic is float32 (float64 for
        float64).

    Raises:
        TypeError: an argument is not a floating tensor, or the mask is no ActivationMask.
        ValueError: an argument has a wrong shape, name or range, the mask does not belong to u, or s requires a
            gradient.
        fastgan.BackendError: a backend was forced that cannot take these arguments.
    """
    name = "frozen_bias_act"
    check(name, "u", u, b, dim, act, alpha, clamp)
    check_frozen(name, "u", u, s, mask)
    if mask.clamped != (clamp is not None):
        raise ValueError(f"{name}: clamp is {clamp}, but the mask was made {'with' if mask.clamped else 'without'} one")
    backend = backends.select("frozen_bias_act", u)
    if backend == "reference":
        return frozen_bias_act_reference(u, b, s, mask, dim, act, alpha, gain, clamp)
    bound = None if clamp is None else float(clamp)
    config = Config(mask.order, dim % u.ndim, *slope_and_gain(act, alpha, gain), bound, True, backend)
    return _Frozen.apply(u, b, s, mask.bits, config)


def frozen_bias_act_(
    u: Tensor,  # [..., channels, ...]
    b: Tensor | None,  # [channels]
    s: Tensor | None,  # [samples]
    mask: ActivationMask,
    dim: int = 1,
    act: str = "lrelu",
    alpha: float | None = None,
    gain: float | None = None,
    clamp: float | None = None,
) -> Tensor:  # like u
    """`frozen_bias_act` without derivatives, in the memory of u where that has the mask's order.

    Arguments and errors are those of `frozen_bias_act`. The result is u itself, or a new tensor.

    Raises:
        RuntimeError: u or b requires a gradient and grad mode is on.
    """
    name = "frozen_bias_act_"
    check(name, "u", u, b, dim, act, alpha, clamp)
    check_frozen(name, "u", u, s, mask)
    refuse_autograd(name, u=u, b=b)
    backend = backends.select("frozen_bias_act", u)
    if backend == "reference" or not u.permute(mask.order).is_contiguous():
        with torch.no_grad():
            return frozen_bias_act(u, b, s, mask, dim, act, alpha, gain, clamp)
    bound = None if clamp is None else float(clamp)
    constants = (*slope_and_gain(act, alpha, gain), bound, True, backend)
    kernels.frozen_bias_act_(u, b, s, mask.bits, mask.order, dim % u.ndim, *constants)
    return u


def frozen_bias_act_grad(
    dy: Tensor,  # [..., channels, ...]
    mask: ActivationMask,
    s: Tensor | None = None,  # [samples]
    dim: int = 1,
    act: str = "lrelu",
    alpha: float | None = None,
    gain: float | None = None,
    bias_grad: bool = True,
    overwrite: bool = False,
) -> tuple[Tensor, Tensor | None]:  # like dy, [channels]
    """The derivatives of `frozen_bias_act` for a cotangent dy, as a function that is not itself differentiable.

        du = p dy, 0 where clamped;  db = the sum over each channel of s du

    For those who write a backward pass by hand. Arguments and errors are those of `frozen_bias_act`; the clamp is in
    the mask. With `overwrite` du may take the memory of dy, which the caller needs no more.

    Returns:
        du, of the shape and dtype of dy in the mask's memory order, and db in float32 (float64 for float64), or None
        without `bias_grad`.

    Raises:
        RuntimeError: dy requires a gradient and grad mode is on.
    """
    name = "frozen_bias_act_grad"
    check(name, "dy", dy, None, dim, act, alpha, None)
    check_frozen(name, "dy", dy, s, mask)
    refuse_autograd(name, dy=dy)
    backend, dim = backends.select("frozen_bias_act", dy), dim % dy.ndim
    slope, gain = slope_and_gain(act, alpha, gain)
    if backend == "reference":
        return frozen_bias_act_grad_reference(dy, mask, s, dim, slope, gain, bias_grad)
    constants = (mask.order, dim, slope, gain, mask.clamped, backend)
    if overwrite and dy.permute(mask.order).is_contiguous():
        db = kernels.frozen_bias_act_grad_(dy, s, mask.bits, *constants, bias_grad)
        return dy, db if bias_grad else None
    du, db = kernels.frozen_bias_act_grad(dy, s, mask.bits, *constants, bias_grad)
    return du, db if bias_grad else None


# --- differentiable functions -------------------------------------------------------------------------------------


class _Frozen(torch.autograd.Function):
    """y = p (u + s b), plus the constant of what is clamped; saves the mask and s."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, b: Tensor | None, s: Tensor | None, bits: Tensor, config: Config) -> Tensor:
        ctx.save_for_backward(s, bits)
        ctx.config = config
        ctx.bias_dtype = None if b is None else b.dtype
        ctx.set_materialize_grads(False)
        return kernels.frozen_bias_act(u, b, s, bits, *config)

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None) -> tuple[Tensor | None, ...]:
        if dy is None:
            return (None,) * 5
        s, bits = ctx.saved_tensors
        # Grad mode is on in a backward pass only with create_graph=True; otherwise nobody will differentiate du.
        gradient = _FrozenGrad.apply if torch.is_grad_enabled() else _gradient
        du, db = gradient(dy, s, bits, ctx.config, ctx.needs_input_grad[1])
        if db is not None:
            db = db.to(ctx.bias_dtype)
        return du if ctx.needs_input_grad[0] else None, db, None, None, None


def _gradient(
    dy: Tensor, s: Tensor | None, bits: Tensor, config: Config, bias_grad: bool
) -> tuple[Tensor, Tensor | None]:
    order, dim, slope, gain, clamp, _, backend = config
    constants = (order, dim, slope, gain, clamp is not None, backend)
    du, db = kernels.frozen_bias_act_grad(dy, s, bits, *constants, bias_grad)
    return du, db if bias_grad else None


class _FrozenGrad(torch.autograd.Function):
    """du = p dy and db = the sums of s du over each channel, as a function of dy."""

    @staticmethod
    def forward(
        ctx: Any, dy: Tensor, s: Tensor | None, bits: Tensor, config: Config, bias_grad: bool
    ) -> tuple[Tensor, Tensor | None]:
        ctx.save_for_backward(s, bits)
        ctx.config = config
        ctx.like = (dy.shape, dy.dtype)
        ctx.set_materialize_grads(False)
        return _gradient(dy, s, bits, config, bias_grad)

    @staticmethod
    def backward(ctx: Any, ddu: Tensor | None, ddb: Tensor | None) -> tuple[Tensor | None, ...]:
        if ddu is None and ddb is None:
            return (None,) * 5
        s, bits = ctx.saved_tensors
        if ddu is None:
            assert ddb is not None
            shape, dtype = ctx.like
            ddu = ddb.new_zeros(shape, dtype=dtype)
        # The transpose of a linear map's transpose is the map itself, without the constant of what is clamped.
        return _Frozen.apply(ddu, ddb, s, bits, ctx.config._replace(constant=False)), None, None, None, None


# --- what the tests and the benchmarks call it with ------------------------------------------------------------------


def _samples(device: torch.device, dtype: torch.dtype, generator: torch.Generator) -> Iterator[Sample]:
    def sample(
        shape: tuple[int, ...], label: str, with_bias: bool = True, samples: int | None = None, dim: int = 1,
        arrange: Callable[[Tensor], Tensor] = lambda x: x, **kwargs: Any,
    ) -> Sample:  # fmt: skip
        """`arrange` changes the memory order of the x that the mask is made from."""
        x = arrange(torch.randn(shape, generator=generator).to(device, dtype))
        b = torch.linspace(-0.4, 0.4, shape[dim], dtype=torch.float64).to(device, dtype) if with_bias else None
        s = None if samples is None else torch.linspace(-1, 1.5, samples, dtype=torch.float32, device=device)
        mask = bias_act_with_mask(x, b, dim, **kwargs)[1]
        u = torch.randn(shape, generator=generator, dtype=torch.float64)
        # Away from what s b may cancel, so that a small difference of large numbers is no sample's result.
        u = u + torch.sign(u)
        return Sample((u.to(device, dtype), b), {"s": s, "mask": mask, "dim": dim, **kwargs}, label)

    def channels_last(x: Tensor) -> Tensor:
        return x.to(memory_format=torch.channels_last) if x.ndim == 4 else x

    yield sample((2, 6, 3, 3), "lrelu", samples=2, act="lrelu")
    yield sample((4, 6, 5), "relu-folded", samples=2, act="relu")
    yield sample((2, 6, 4), "linear-ones", act="linear", gain=0.7)
    yield sample((3, 6, 5), "lrelu-clamp", samples=3, act="lrelu", alpha=0.1, gain=0.9, clamp=0.65)
    yield sample((2, 6, 4, 3), "channels-last", samples=2, arrange=channels_last, act="lrelu", clamp=1.0)
    yield sample((3, 2, 6), "last-dim", samples=3, dim=-1, act="relu")
    yield sample((3, 6, 5), "linear-clamp", samples=3, act="linear", gain=-1.5, clamp=0.8)
    yield sample((3, 6), "no-bias", with_bias=False, samples=3, act="relu", gain=1.0)
    yield sample((3, 6, 7), "no-bias-clamp", with_bias=False, samples=1, act="lrelu", alpha=0.0, clamp=0.5)
    yield sample((6, 3), "first-dim", samples=3, dim=0, act="lrelu")
    yield sample((6,), "one-dim", samples=3, dim=0, act="lrelu", clamp=0.6)
    yield sample((4, 6, 29, 37), "several-blocks", samples=4, act="lrelu")
    yield sample((3, 12, 7, 7), "images-7x7", samples=3, arrange=channels_last, act="relu")
    yield sample((40, 3, 7, 7), "short-rows", samples=20, act="lrelu", clamp=0.7)
    yield sample((700, 13), "features", samples=700, act="lrelu")
    yield sample((0, 6, 4), "empty-batch", samples=0, act="lrelu", clamp=1.0)
    yield sample((2, 6, 4, 3), "strided-u", samples=2, arrange=channels_last, act="lrelu").map(
        lambda u: u.transpose(0, 3).contiguous().transpose(0, 3) if u.ndim == 4 else u
    )
    yield sample((2, 6, 4, 3), "contiguous-mask", samples=1, act="relu", clamp=1.5).map(channels_last)


def _kinks(device: torch.device, dtype: torch.dtype) -> Iterator[Sample]:
    """The mask is made exactly on the kinks."""
    x = torch.tensor([[-math.inf, -2, -1, -0.5, -0.0, 0.0, 0.5, 1, 2, math.inf]], dtype=dtype, device=device)
    u = torch.linspace(-1.25, 1, x.numel(), dtype=torch.float64, device=device).to(dtype).view_as(x)
    for act in ("linear", "relu", "lrelu"):
        for gain, clamp in ((1.0, None), (-2.0, None), (2.0, 1.0), (1.0, 1.0), (1.0, 0.0), (0.5, math.inf)):
            alpha = 0.5 if act == "lrelu" else None
            kwargs: dict[str, Any] = {"act": act, "alpha": alpha, "gain": gain, "clamp": clamp}
            mask = bias_act_with_mask(x, None, **kwargs)[1]
            yield Sample((u, None), {"s": None, "mask": mask, **kwargs}, f"{kwargs}", smooth=False)


def bench_shape(label: str, shape: tuple[int, ...]) -> BenchShape:
    def make(device: torch.device, dtype: torch.dtype) -> Sample:
        x, u = (torch.randn(shape, device=device, dtype=dtype) for _ in range(2))
        b = torch.randn(shape[1], device=device, dtype=dtype)
        s = torch.rand(shape[0], dtype=torch.float32, device=device)
        mask = bias_act_with_mask(x, b)[1]
        return Sample((u, b), {"s": s, "mask": mask, "act": "lrelu"}, label=label)

    elements = math.prod(shape)
    return BenchShape(label, make, lambda size: 2 * size * elements + elements // 8, 4 * elements)


SPEC = register(
    OpSpec(
        name="frozen_bias_act",
        function=frozen_bias_act,
        reference=frozen_bias_act_reference,
        backends={"cpu": FLOATING, "triton": (torch.float32, *HALF)},
        order=None,
        samples=_samples,
        kinks=_kinks,
        bench=(
            bench_shape("lrelu 32x64x32x32", (32, 64, 32, 32)),
            bench_shape("lrelu 64x128x8x8", (64, 128, 8, 8)),
        ),
        paper="Gulrajani et al. 2017, Improved Training of Wasserstein GANs: the penalty that it serves",
    )
)
