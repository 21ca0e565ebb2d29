"""Bias, activation, gain and clamp in one pass, and the first two derivatives, for the GPU.

Memory-bound: a tensor is read once and written once. `inner` and `channels` are compile-time constants, so that finding
an element's channel costs a multiplication instead of two divisions; one variant is compiled per layer shape.
Arithmetic is float32.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from .launch import launch

LINEAR, RELU, LRELU, TANH, SIGMOID, ELU, SELU, SOFTPLUS, SWISH = (tl.constexpr(code) for code in range(9))
CODES = {
    name: code
    for code, name in enumerate(("linear", "relu", "lrelu", "tanh", "sigmoid", "elu", "selu", "softplus", "swish"))
}
SELU_SCALE = tl.constexpr(1.0507009873554804934193349852946)
SELU_ALPHA = tl.constexpr(1.6732632423543772848170429916717)
BLOCK = 1024


@triton.jit
def expm1_nonpositive(x):
    """expm1(x) for x <= 0: Taylor's series near 0, where exp(x) - 1 would cancel."""
    near = tl.maximum(x, -0.35)
    series = near * 0.0 + 1.0
    for i in tl.static_range(13):
        series = 1.0 + near * series * (1.0 / (14 - i))
    return tl.where(x > -0.35, near * series, tl.exp(x) - 1.0)


@triton.jit
def sigmoids(x):
    """sigmoid(x) and sigmoid(-x), each accurate where it is tiny."""
    e = tl.exp(-tl.abs(x))
    larger = 1.0 / (1.0 + e)
    smaller = e * larger
    return tl.where(x < 0, smaller, larger), tl.where(x < 0, larger, smaller)


@triton.jit
def sigmoid(x):
    p, _ = sigmoids(x)
    return p


@triton.jit
def tanh(x):
    z = -2.0 * tl.abs(x)
    near = expm1_nonpositive(z)
    far = tl.exp(z)
    # Near 1 what is subtracted is small, and its error smaller still: the slope 1 - tanh^2 is made of it.
    magnitude = tl.where(z < -1.0, 1.0 - 2.0 * far / (1.0 + far), -near / (2.0 + near))
    return tl.where(x < 0, -magnitude, magnitude)


@triton.jit
def softplus(x):
    u = tl.exp(-tl.abs(x))
    w = 1.0 + u
    log1p = tl.log(w) - ((w - 1.0) - u) / w  # the second term is what rounding 1 + u lost
    return tl.where(x < 0, log1p, x + log1p)


@triton.jit
def swish_range(z):
    """z where swish is neither 0 nor z itself, else a bound: at infinity its formulas are 0 times infinity."""
    return tl.where(z < -800.0, -800.0, tl.where(z > 800.0, 800.0, z))  # keeps NaN


@triton.jit
def activate(z, alpha, ACT: tl.constexpr):
    """f(z)."""
    y = z
    if ACT == RELU:
        y = tl.where(z < 0, 0.0, z)
    elif ACT == LRELU:
        y = tl.where(z > 0, z, z * alpha)
    elif ACT == TANH:
        y = tanh(z)
    elif ACT == SIGMOID:
        y = sigmoid(z)
    elif ACT == ELU:
        y = tl.where(z > 0, z, expm1_nonpositive(tl.where(z > 0, 0.0, z)))
    elif ACT == SELU:
        y = SELU_SCALE * tl.where(z > 0, z, SELU_ALPHA * expm1_nonpositive(tl.where(z > 0, 0.0, z)))
    elif ACT == SOFTPLUS:
        y = softplus(z)
    elif ACT == SWISH:
        y = tl.where(z < 0, swish_range(z), z) * sigmoid(z)
    return y


@triton.jit
def slope(s, alpha, ACT: tl.constexpr):
    """f'(z), written in s: z itself, or a = f(z) for relu, lrelu, tanh and sigmoid."""
    h = tl.full(s.shape, 1.0, s.dtype)
    if ACT == RELU:
        h = tl.where(s > 0, 1.0, 0.0)
    elif ACT == LRELU:
        h = tl.where(s > 0, 1.0, alpha)
    elif ACT == TANH:
        h = 1.0 - s * s
    elif ACT == SIGMOID:
        h = s * (1.0 - s)
    elif ACT == ELU:
        h = tl.exp(tl.where(s > 0, 0.0, s))
    elif ACT == SELU:
        h = SELU_SCALE * tl.where(s > 0, 1.0, SELU_ALPHA * tl.exp(tl.where(s > 0, 0.0, s)))
    elif ACT == SOFTPLUS:
        h = sigmoid(s)
    elif ACT == SWISH:
        z = swish_range(s)
        p, q = sigmoids(z)
        h = p * (1.0 + z * q)
    return h


@triton.jit
def curvature(s, ACT: tl.constexpr):
    """d slope / ds; the piecewise linear activations never get here. At kinks: docs/kinks.md."""
    h = tl.full(s.shape, 0.0, s.dtype)
    if ACT == TANH:
        h = -2.0 * s
    elif ACT == SIGMOID:
        h = 1.0 - 2.0 * s
    elif ACT == ELU:
        h = tl.where(s < 0, tl.exp(tl.where(s > 0, 0.0, s)), 0.0)
    elif ACT == SELU:
        h = SELU_SCALE * SELU_ALPHA * tl.where(s < 0, tl.exp(tl.where(s > 0, 0.0, s)), 0.0)
    elif ACT == SOFTPLUS:
        p, q = sigmoids(s)
        h = p * q
    elif ACT == SWISH:
        z = swish_range(s)
        p, q = sigmoids(z)
        h = p * q * (2.0 + z * (q - p))
    return h


@triton.jit
def offsets(n, BLOCK: tl.constexpr):
    o = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    return o, o < n


@triton.jit
def load_with_bias(
    p_x, p_b, o, m, HAS_BIAS: tl.constexpr, CHANNELS: tl.constexpr, INNER: tl.constexpr, COMPUTE: tl.constexpr
):
    b_x = tl.load(p_x + o, mask=m, other=0.0).to(COMPUTE)
    if HAS_BIAS:
        b_x += tl.load(p_b + (o // INNER) % CHANNELS, mask=m, other=0.0).to(COMPUTE)
    return b_x


@triton.jit
def load_saved(
    p_s, p_b, o, m, alpha, gain, clamp,
    ACT: tl.constexpr, FROM_INPUT: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_CLAMP: tl.constexpr,
    CHANNELS: tl.constexpr, INNER: tl.constexpr, COMPUTE: tl.constexpr,
):  # fmt: skip
    """s as `slope` wants it, and 1 where the clamp is inactive, 0 where it is not."""
    b_s = load_with_bias(p_s, p_b, o, m, HAS_BIAS, CHANNELS, INNER, COMPUTE)
    b_open = tl.full(b_s.shape, 1.0, COMPUTE)
    if FROM_INPUT:
        if HAS_CLAMP:
            b_open = tl.where(tl.abs(gain * activate(b_s, alpha, ACT)) >= clamp, 0.0, 1.0)
    else:
        if HAS_CLAMP:
            # The result was saved in the tensor's type, where a clamp such as 0.65 may have been rounded down.
            saved_clamp = (tl.full(b_s.shape, 0.0, COMPUTE) + clamp).to(p_s.dtype.element_ty).to(COMPUTE)
            b_open = tl.where(tl.abs(b_s) >= saved_clamp, 0.0, 1.0)
        b_s = b_s * tl.where(gain == 0, 0.0, 1.0 / tl.where(gain == 0, 1.0, gain))
    return b_s, b_open


@triton.jit
def forward_kernel(
    p_x, p_b, p_y, n, alpha, gain, clamp,
    ACT: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_CLAMP: tl.constexpr,
    CHANNELS: tl.constexpr, INNER: tl.constexpr, COMPUTE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    o, m = offsets(n, BLOCK)
    b_z = load_with_bias(p_x, p_b, o, m, HAS_BIAS, CHANNELS, INNER, COMPUTE)
    b_y = gain * activate(b_z, alpha, ACT)
    if HAS_CLAMP:
        b_y = tl.where(b_y > clamp, clamp, tl.where(b_y < -clamp, -clamp, b_y))
    tl.store(p_y + o, b_y.to(p_y.dtype.element_ty), mask=m)


@triton.jit
def grad_kernel(
    p_dy, p_s, p_b, p_dx, n, alpha, gain, clamp,
    ACT: tl.constexpr, FROM_INPUT: tl.constexpr, HAS_SAVED: tl.constexpr, HAS_BIAS: tl.constexpr,
    HAS_CLAMP: tl.constexpr, CHANNELS: tl.constexpr, INNER: tl.constexpr, COMPUTE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    o, m = offsets(n, BLOCK)
    b_dx = gain * tl.load(p_dy + o, mask=m, other=0.0).to(COMPUTE)
    if HAS_SAVED:
        b_s, b_open = load_saved(
            p_s, p_b, o, m, alpha, gain, clamp, ACT, FROM_INPUT, HAS_BIAS, HAS_CLAMP, CHANNELS, INNER, COMPUTE
        )
        b_dx = tl.where(b_open > 0, b_dx * slope(b_s, alpha, ACT), 0.0)
        if ACT == RELU:
            b_dx = tl.where(b_s <= 0, 0.0, b_dx)  # of infinity and NaN too, as in PyTorch
    tl.store(p_dx + o, b_dx.to(p_dx.dtype.element_ty), mask=m)


@triton.jit
def grad2_kernel(
    p_u, p_dy, p_s, p_b, p_t, n, alpha, gain, clamp,
    ACT: tl.constexpr, FROM_INPUT: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_CLAMP: tl.constexpr,
    CHANNELS: tl.constexpr, INNER: tl.constexpr, COMPUTE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    o, m = offsets(n, BLOCK)
    b_u = tl.load(p_u + o, mask=m, other=0.0).to(COMPUTE)
    b_dy = tl.load(p_dy + o, mask=m, other=0.0).to(COMPUTE)
    b_s, b_open = load_saved(
        p_s, p_b, o, m, alpha, gain, clamp, ACT, FROM_INPUT, HAS_BIAS, HAS_CLAMP, CHANNELS, INNER, COMPUTE
    )
    # ds/d(saved) is 1 for the input and 1 / gain for the result, which cancels the slope's gain.
    factor = gain if FROM_INPUT else tl.where(gain == 0, 0.0, 1.0)
    b_t = tl.where(b_open > 0, b_u * b_dy * (factor * curvature(b_s, ACT)), 0.0)
    tl.store(p_t + o, b_t.to(p_t.dtype.element_ty), mask=m)


# --- launchers ----------------------------------------------------------------------------------------------------
#
# Tensors are dense with the same strides. args: layout = (outer, channels, inner), their sizes in memory order; act,
# alpha, gain and clamp (None for no clamp).


def _constants(b: Tensor | None, args) -> dict:
    _, channels, inner = args.layout
    sizes = {"CHANNELS": channels, "INNER": inner, "BLOCK": BLOCK, "COMPUTE": tl.float32}
    return {"ACT": CODES[args.act], "HAS_BIAS": b is not None, "HAS_CLAMP": args.clamp is not None, **sizes}


def _from_input(act: str) -> bool:
    return CODES[act] >= CODES["elu"]


def _run(kernel, x: Tensor, arguments: tuple, constants: dict) -> None:
    # A thread moves 16 bytes of each tensor, the widest access: 4 elements of float32, 8 of float16.
    warps = BLOCK * x.element_size() // (16 * 32)
    launch(kernel, triton.cdiv(x.numel(), BLOCK), warps, x, arguments, constants)


def forward(x: Tensor, b: Tensor | None, y: Tensor, args) -> None:
    """y = clamp(gain f(x + b))."""
    arguments = (x, b, y, x.numel(), args.alpha, args.gain, args.clamp or 0.0)
    _run(forward_kernel, x, arguments, _constants(b, args))


def grad(dy: Tensor, s: Tensor | None, b: Tensor | None, dx: Tensor, db: Tensor | None, args) -> None:
    """dx = dy p(s); db, if given, is filled with the sums of dx over each channel."""
    arguments = (dy, s, b, dx, dy.numel(), args.alpha, args.gain, args.clamp or 0.0)
    constants = _constants(b, args) | {"HAS_SAVED": s is not None, "FROM_INPUT": _from_input(args.act)}
    _run(grad_kernel, dy, arguments, constants)
    if db is not None:
        # In memory order dx is [outer, channels, inner], whatever its strides say.
        in_memory_order = dx.as_strided((dx.numel(),), (1,)).view(args.layout)
        torch.sum(in_memory_order, dim=(0, 2), dtype=db.dtype, out=db)


def grad2(u: Tensor, dy: Tensor, s: Tensor, b: Tensor | None, t: Tensor, args) -> None:
    """t = u dy p'(s)."""
    arguments = (u, dy, s, b, t, dy.numel(), args.alpha, args.gain, args.clamp or 0.0)
    constants = _constants(b, args) | {"FROM_INPUT": _from_input(args.act)}
    _run(grad2_kernel, dy, arguments, constants)
