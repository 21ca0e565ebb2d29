"""bias_act: bias, activation, gain and clamp in one pass over memory.

The four steps between two convolutions of a GAN are memory-bound: eager PyTorch reads and writes the tensor once for
each. The derivatives are kernels too, to the second order; the third is composed of torch operations. One tensor of the
size of the activations is saved at most (fastgan/ops/_common/activations.py says which).
"""

import math
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fastgan import backends
from fastgan.ops import bias_act_backends as kernels
from fastgan.ops._common.activations import ACTIVATIONS
from fastgan.ops._common.checks import check_floating
from fastgan.ops._common.layout import along
from fastgan.ops._common.partial_gradients import partial_gradients
from fastgan.registry import FLOATING, HALF, BenchShape, OpSpec, Sample, register


class Config(NamedTuple):
    """The arguments that are not tensors, with every default resolved."""

    dim: int
    act: str
    alpha: float
    gain: float
    clamp: float | None
    backend: str


def bias_act(
    x: Tensor,  # [..., channels, ...]
    b: Tensor | None = None,  # [channels]
    dim: int = 1,
    act: str = "linear",
    alpha: float | None = None,
    gain: float | None = None,
    clamp: float | None = None,
) -> Tensor:  # like x
    """Adds a bias, applies an activation, scales by a gain and clamps, in that order.

        y = clamp(gain * act(x + b), -clamp, clamp)

    The signature and the defaults are those that users of StyleGAN know. Differentiable to any order: the first two by
    compiled kernels, with no gradient at all (None) from the second derivative of linear, relu and lrelu to x, where it
    is zero almost everywhere. Where the clamp is reached (|y| >= clamp) the slope is zero; docs/kinks.md has the rest.

    Args:
        x: float32, float64, float16 or bfloat16, of any shape; in any memory order without a copy.
        b: one value for each index of dimension `dim` of x, in any floating dtype; None adds nothing.
        dim: the dimension of x that b runs along.
        act: linear, relu, lrelu, tanh, sigmoid, elu, selu, softplus or swish.
        alpha: negative slope of lrelu (default 0.2), >= 0; None for every other activation.
        gain: scale after the activation; default sqrt(2) for relu, lrelu and swish, 1 for the others.
        clamp: bound of the absolute value of the result, >= 0; None for no bound.

    Returns:
        A tensor of the shape, dtype and memory order of x; the arithmetic is float32 (float64 for float64).

    Raises:
        TypeError: an argument is not a floating tensor.
        ValueError: an argument has a wrong shape, name or range.
        fastgan.BackendError: a backend was forced that cannot take these arguments.
    """
    _check(x, b, dim, act, alpha, clamp)
    backend = backends.select("bias_act", x)
    if backend == "reference":
        return bias_act_reference(x, b, dim, act, alpha, gain, clamp)
    return bias_act_on(backend, x, b, dim, act, alpha, gain, clamp)


def bias_act_on(
    backend: str, x: Tensor, b: Tensor | None, dim: int, act: str, alpha: float | None, gain: float | None,
    clamp: float | None,
) -> Tensor:  # fmt: skip
    """`bias_act` of arguments that were checked, on a compiled backend that was chosen."""
    bound = None if clamp is None else float(clamp)
    return _BiasAct.apply(x, b, Config(dim % x.ndim, act, *_defaults(act, alpha, gain), bound, backend))


def _defaults(act: str, alpha: float | None, gain: float | None) -> tuple[float, float]:
    row = ACTIVATIONS[act]
    alpha = row.default_alpha or 0.0 if alpha is None else float(alpha)
    return alpha, row.default_gain if gain is None else float(gain)


def resolved(op: str, act: str, alpha: float | None, gain: float | None, clamp: float | None) -> tuple[float, float]:
    """An activation's alpha and gain, with the defaults filled in.

    Raises:
        ValueError: act is not in the table, or one of the others is out of range; the message starts with `op`.
    """
    if act not in ACTIVATIONS:
        raise ValueError(f"{op}: act is {act!r}, expected one of {', '.join(ACTIVATIONS)}")
    if alpha is not None and ACTIVATIONS[act].default_alpha is None:
        raise ValueError(f"{op}: alpha is {alpha}, but {act} has no parameter: expected None")
    if alpha is not None and not alpha >= 0:
        raise ValueError(f"{op}: alpha is {alpha}, expected a slope >= 0")
    if clamp is not None and not clamp >= 0:
        raise ValueError(f"{op}: clamp is {clamp}, expected a bound >= 0 or None")
    return _defaults(act, alpha, gain)


def _check(x: Any, b: Any, dim: int, act: str, alpha: float | None, clamp: float | None) -> None:
    for name, tensor in (("x", x), ("b", b)):
        if tensor is None and name == "b":
            continue
        check_floating("bias_act", name, tensor)
    if x.ndim == 0:
        raise ValueError("bias_act: x has no dimensions, expected at least one")
    if not -x.ndim <= dim < x.ndim:
        raise ValueError(f"bias_act: dim is {dim}, expected a dimension of x, which has {x.ndim}")
    if b is not None and (b.ndim != 1 or b.shape[0] != x.shape[dim]):
        raise ValueError(f"bias_act: b has shape {list(b.shape)}, expected [{x.shape[dim]}] (dimension {dim} of x)")
    if b is not None and b.device != x.device:
        raise ValueError(f"bias_act: b is on {b.device}, expected {x.device} like x")
    resolved("bias_act", act, alpha, None, clamp)


def bias_act_reference(
    x: Tensor,
    b: Tensor | None = None,
    dim: int = 1,
    act: str = "linear",
    alpha: float | None = None,
    gain: float | None = None,
    clamp: float | None = None,
) -> Tensor:
    """`bias_act` in plain PyTorch: the oracle and the fallback."""
    alpha, gain = _defaults(act, alpha, gain)
    if b is not None:
        x = x + along(b.to(x.dtype), dim % x.ndim, x.ndim)
    return _scaled_and_clamped(ACTIVATIONS[act].f(x, alpha), gain, clamp)


def _scaled_and_clamped(y: Tensor, gain: float, clamp: float | None) -> Tensor:
    if gain != 1:
        y = y * gain
    if clamp is not None:
        y = F.hardtanh(y, -clamp, clamp)  # not torch.clamp, whose slope at the bounds is 1
    return y


def bias_act_eager(x: Tensor, b: Tensor, act: str, clamp: float | None) -> Tensor:
    """What the benchmarks call eager: the reference, but swish is F.silu, whatever that is at infinity."""
    if act != "swish":
        return bias_act_reference(x, b, act=act, clamp=clamp)
    return _scaled_and_clamped(F.silu(x + along(b, 1, x.ndim)), _defaults(act, None, None)[1], clamp)


# --- differentiable functions -------------------------------------------------------------------------------------


class _BiasAct(torch.autograd.Function):
    """y = clamp(gain f(x + b)); saves x or y, whichever the slope is written in."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, b: Tensor | None, config: Config) -> Tensor:
        y = kernels.bias_act(x, b, *config)
        saves = ACTIVATIONS[config.act].saves
        if saves == "nothing" and config.clamp is None:
            ctx.save_for_backward(None, None)
        elif saves == "input":
            ctx.save_for_backward(x, b)
        else:
            ctx.save_for_backward(y, None)
        ctx.config = config
        ctx.bias_dtype = None if b is None else b.dtype
        ctx.set_materialize_grads(False)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None) -> tuple[Tensor | None, ...]:
        if dy is None:
            return None, None, None
        saved, b = ctx.saved_tensors
        if saved is not None and ACTIVATIONS[ctx.config.act].curvature is None:
            # Piecewise linear: the slope is locally constant, nothing flows to s. A tensor of zeros (or an undefined
            # gradient, which would be filled with them) would drag a whole backward pass through the network below.
            saved = saved.detach()
        # Grad mode is on in a backward pass only with create_graph=True; otherwise nobody will differentiate dx.
        gradient = _BiasActGrad.apply if torch.is_grad_enabled() else _gradient
        dx, db = gradient(dy, saved, b, ctx.config, ctx.needs_input_grad[1])
        if db is not None:
            db = db.to(ctx.bias_dtype)
        return dx if ctx.needs_input_grad[0] else None, db, None


def _gradient(
    dy: Tensor, saved: Tensor | None, b: Tensor | None, config: Config, bias_grad: bool
) -> tuple[Tensor, Tensor | None]:
    dx, db = kernels.bias_act_grad(dy, saved, b, *config, bias_grad)
    return dx, db if bias_grad else None


class _BiasActGrad(torch.autograd.Function):
    """dx = dy p(s) and db = the sums of dx over each channel, as a function of dy and of the saved tensor s."""

    @staticmethod
    def forward(
        ctx: Any, dy: Tensor, saved: Tensor | None, b: Tensor | None, config: Config, bias_grad: bool
    ) -> tuple[Tensor, Tensor | None]:
        ctx.save_for_backward(dy, saved, b)
        ctx.config = config
        ctx.set_materialize_grads(False)
        return _gradient(dy, saved, b, config, bias_grad)

    @staticmethod
    def backward(ctx: Any, ddx: Tensor | None, ddb: Tensor | None) -> tuple[Tensor | None, ...]:
        dy, saved, b = ctx.saved_tensors
        config: Config = ctx.config
        if ddb is not None:  # db sums dx, so its cotangent spreads over the channel
            spread = along(ddb.to(dy.dtype), config.dim, dy.ndim)
            ddx = spread.expand_as(dy) if ddx is None else ddx + spread
        if ddx is None:
            return None, None, None, None, None
        grad_dy = grad_saved = grad_b = None
        if ctx.needs_input_grad[0]:
            grad_dy, _ = _BiasActGrad.apply(ddx, saved, b, config, False)
        if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
            grad_saved = _BiasActGrad2.apply(ddx, dy, saved, b, config)
            if b is not None and ctx.needs_input_grad[2]:
                others = [i for i in range(dy.ndim) if i != config.dim]
                grad_b = (grad_saved.sum(others) if others else grad_saved).to(b.dtype)
        return grad_dy, grad_saved, grad_b, None, None


class _BiasActGrad2(torch.autograd.Function):
    """t = u dy p'(s), the part of the double backward that flows to the saved tensor s."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, dy: Tensor, saved: Tensor, b: Tensor | None, config: Config) -> Tensor:
        ctx.save_for_backward(u, dy, saved, b)
        ctx.config = config
        return kernels.bias_act_grad2(u, dy, saved, b, *config)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        composed = partial(_grad2_composed, config=ctx.config)
        return *partial_gradients(composed, ctx.saved_tensors, ctx.needs_input_grad, grad), None


def _grad2_composed(u: Tensor, dy: Tensor, saved: Tensor, b: Tensor | None, config: Config) -> Tensor:
    """u dy p'(s) in plain PyTorch, differentiable to any order."""
    row = ACTIVATIONS[config.act]
    assert row.curvature is not None
    s = saved
    if row.saves == "input":
        if b is not None:
            s = s + along(b.to(s.dtype), config.dim, s.ndim)
        y = config.gain * row.f(s, config.alpha)
        t = u * dy * config.gain * row.curvature(s, config.alpha)
    else:
        y = s
        t = u * dy * row.curvature(s / config.gain, config.alpha) if config.gain else u * dy * 0
    return t if config.clamp is None else torch.where(y.abs() >= config.clamp, 0, t)


# --- what the tests and the benchmarks call it with ------------------------------------------------------------------


def _samples(device: torch.device, dtype: torch.dtype, generator: torch.Generator) -> Iterator[Sample]:
    bias = torch.linspace(-0.02, 0.02, 6, dtype=torch.float64)

    def sample(shape: tuple[int, ...], label: str, with_bias: bool = True, dim: int = 1, **kwargs: Any) -> Sample:
        x = torch.randn(shape, generator=generator, dtype=torch.float64)
        b = bias if with_bias else None
        # Away from the kinks, at z = 0 and where the clamp sets in, so that finite differences and rounding to a low
        # precision do not cross them.
        x = x + 0.05 * torch.sign(x)
        clamp = kwargs.get("clamp")
        if clamp is not None:
            y = bias_act_reference(x, b, dim, **{**kwargs, "clamp": None})
            x = torch.where((y.abs() - clamp).abs() < 0.05, 0.3, x)
        return Sample((x.to(device, dtype), None if b is None else b.to(device, dtype)), {"dim": dim, **kwargs}, label)

    # 0.65 rounds down in float16 and bfloat16: a clamped result is below it.
    for act in ACTIVATIONS:
        yield sample((2, 6, 3, 3), act, act=act)
        yield sample((2, 6, 5), f"{act}-clamp", act=act, gain=0.9, clamp=0.65)
    yield sample((3, 6), "no-bias", with_bias=False, act="swish", gain=-1.5)
    yield sample((4, 6), "alpha-0", act="lrelu", alpha=0.0)
    yield sample((4, 6), "gain-0", act="tanh", gain=0.0)
    yield sample((2, 3, 6), "last-dim", dim=-1, act="elu")
    yield sample((6, 2, 3), "first-dim", dim=0, act="tanh", gain=2.0)
    yield sample((6,), "one-dim", dim=0, act="sigmoid")
    yield sample((3, 6, 37, 41), "several-blocks", act="selu")
    yield sample((0, 6, 4), "empty-batch", act="lrelu")
    yield sample((2, 6, 4, 3), "channels-last", act="softplus", clamp=1.0).map(
        lambda x: x.to(memory_format=torch.channels_last) if x.ndim == 4 else x
    )
    yield sample((2, 6, 4, 6), "strided", act="sigmoid").map(lambda x: x[..., ::2] if x.ndim == 4 else x)
    yield sample((2, 6, 3), "transposed", act="lrelu").map(
        lambda x: x.transpose(0, 2).contiguous().transpose(0, 2) if x.ndim == 3 else x
    )


def _kinks(device: torch.device, dtype: torch.dtype) -> Iterator[Sample]:
    """x + b = 0, results at the clamp, and infinity, in numbers that every dtype has."""
    z = [-math.inf, -2, -1, -0.5, -0.0, 0.0, 0.5, 1, 2, math.inf]
    x = torch.tensor(z, dtype=dtype, device=device).view(1, 1, -1)
    half = torch.tensor([0.5], dtype=dtype, device=device)
    for act in ACTIVATIONS:
        # Reached: a clamp of 1 at 0.5 with a gain of 2, at 0 by sigmoid, at -1 by lrelu; with a gain of 1 at infinity
        # by tanh.
        clamped = (2.0, 1.0, None), (1.0, 1.0, half), (1.0, 0.0, None)
        for gain, clamp, b in ((1.0, None, None), (-2.0, None, half), *clamped):
            kwargs = {"act": act, "alpha": 0.5 if act == "lrelu" else None, "gain": gain, "clamp": clamp}
            yield Sample((x if b is None else x - b, b), kwargs, f"{kwargs}, b = {b}", smooth=False)


def bench_shape(label: str, shape: tuple[int, ...], act: str, clamp: float | None = None) -> BenchShape:
    def make(device: torch.device, dtype: torch.dtype) -> Sample:
        x = torch.randn(shape, device=device, dtype=dtype)
        b = torch.randn(shape[1], device=device, dtype=dtype)
        return Sample((x, b), {"act": act, "clamp": clamp}, label=label)

    elements = math.prod(shape)
    return BenchShape(label, make, lambda size: 2 * size * elements, 4 * elements)


SPEC = register(
    OpSpec(
        name="bias_act",
        function=bias_act,
        reference=bias_act_reference,
        backends={"cpu": FLOATING, "triton": (torch.float32, *HALF)},
        order=None,
        samples=_samples,
        kinks=_kinks,
        eager=bias_act_eager,
        bench=(
            bench_shape("lrelu 64x64", (64, 64), "lrelu"),
            bench_shape("lrelu 64x128x8x8", (64, 128, 8, 8), "lrelu"),
            bench_shape("lrelu+clamp 32x64x32x32", (32, 64, 32, 32), "lrelu", 256.0),
            bench_shape("lrelu+clamp 16x128x64x64", (16, 128, 64, 64), "lrelu", 256.0),
            bench_shape("swish 32x64x32x32", (32, 64, 32, 32), "swish"),
        ),
        paper="Karras et al. 2020, Analyzing and Improving the Image Quality of StyleGAN",
    )
)
