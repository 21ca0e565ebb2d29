"""Scale per sample and channel, noise, bias, activation, gain and clamp in one pass, and the gradient, for the GPU.

Memory-bound: forward reads and writes a tensor once, the gradient reads two and writes one (csrc/scaled_bias_act.h has
the formulas). A program works on tiles of channels and pixels of one sample, whose scales and biases it loads once. The
three sums over the pixels are added up in the program's registers; what is left, three values for each program and
channel, is at most a thirtieth of the traffic and is summed afterwards, in one order. Arithmetic is float32.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastgan import allocation

from .bias_act import CODES, RELU, activate, slope
from .launch import launch

FIRST_FROM_INPUT = tl.constexpr(CODES["elu"])  # from this code on, slopes are written in the pre-activation
TILE = 1024
MAX_CHANNELS_LAST = 64  # channels of a tile when they are neighbours in memory: 128 bytes of 16-bit elements
MAX_STEPS = 4


@triton.jit
def clamped(y, clamp, HAS_CLAMP: tl.constexpr):
    if HAS_CLAMP:
        y = tl.where(y > clamp, clamp, tl.where(y < -clamp, -clamp, y))  # keeps NaN
    return y


@triton.jit
def weight_of(v, alpha, gain, clamp, ACT: tl.constexpr, HAS_CLAMP: tl.constexpr):
    """gain f'(v), zero where the clamp is active."""
    a = activate(v, alpha, ACT)
    if ACT < FIRST_FROM_INPUT:
        h = gain * slope(a, alpha, ACT)
    else:
        h = gain * slope(v, alpha, ACT)
    if HAS_CLAMP:
        h = tl.where(tl.abs(gain * a) >= clamp, 0.0, h)
    return h


@triton.jit
def tile_of(C, N, CHUNKS: tl.constexpr, STEPS: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_N: tl.constexpr):
    """This program's sample, its channels [BLOCK_C, 1], its chunk of the pixels and the first ones of it [1, BLOCK_N].

    A sample is cut into CHUNKS chunks of STEPS * BLOCK_N pixels, each into blocks of channels.
    """
    blocks = tl.cdiv(C, BLOCK_C)
    sample = (tl.program_id(0) // (blocks * CHUNKS)).to(tl.int64)
    chunk = (tl.program_id(0) // blocks) % CHUNKS
    o_c = (tl.program_id(0) % blocks) * BLOCK_C + tl.arange(0, BLOCK_C)[:, None]
    o_n = chunk * (STEPS * BLOCK_N) + tl.arange(0, BLOCK_N)[None, :]
    return sample, o_c, chunk, o_n


@triton.jit
def offsets(o_c, o_n, C, N, CHANNELS_LAST: tl.constexpr, OFFSET: tl.constexpr):
    """Where the elements of a tile lie in their sample, [N, C] or [C, N] in memory order, and which there are."""
    if CHANNELS_LAST:
        o = o_n.to(OFFSET) * C + o_c
    else:
        o = o_c.to(OFFSET) * N + o_n
    return o, (o_c < C) & (o_n < N)


@triton.jit
def load_channels(p_s, p_b, sample, o_c, C, HAS_BIAS: tl.constexpr):
    """Scales and biases of a tile's channels."""
    b_s = tl.load(p_s + sample * C + o_c, mask=o_c < C, other=0.0).to(tl.float32)
    b_b = tl.full(b_s.shape, 0.0, tl.float32)
    if HAS_BIAS:
        b_b = tl.load(p_b + o_c, mask=o_c < C, other=0.0).to(tl.float32)
    return b_s, b_b


@triton.jit
def load_noise(p_n, sample, o_n, N, HAS_NOISE: tl.constexpr, PER_SAMPLE: tl.constexpr):
    """The noise of a tile's pixels; 0 where there is none."""
    b_n = tl.full(o_n.shape, 0.0, tl.float32)
    if HAS_NOISE:
        if PER_SAMPLE:
            p_n += sample * N
        b_n = tl.load(p_n + o_n, mask=o_n < N, other=0.0).to(tl.float32)
    return b_n


@triton.jit
def load_strength(p_sigma, HAS_STRENGTH: tl.constexpr):
    sigma = 1.0
    if HAS_STRENGTH:
        sigma = tl.load(p_sigma).to(tl.float32)
    return sigma


@triton.jit
def forward_kernel(
    p_x, p_s, p_n, p_sigma, p_b, p_y, C, N, alpha, gain, clamp,
    ACT: tl.constexpr, HAS_CLAMP: tl.constexpr, HAS_NOISE: tl.constexpr, HAS_STRENGTH: tl.constexpr,
    PER_SAMPLE: tl.constexpr, HAS_BIAS: tl.constexpr, CHANNELS_LAST: tl.constexpr, OFFSET: tl.constexpr,
    CHUNKS: tl.constexpr, STEPS: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    sample, o_c, _, o_n = tile_of(C, N, CHUNKS, STEPS, BLOCK_C, BLOCK_N)
    b_s, b_b = load_channels(p_s, p_b, sample, o_c, C, HAS_BIAS)
    sigma = load_strength(p_sigma, HAS_STRENGTH)
    p_x += sample * C * N
    p_y += sample * C * N
    for _ in tl.range(STEPS, num_stages=1):
        o, m = offsets(o_c, o_n, C, N, CHANNELS_LAST, OFFSET)
        b_n = load_noise(p_n, sample, o_n, N, HAS_NOISE, PER_SAMPLE)
        b_v = tl.load(p_x + o, mask=m, other=0.0).to(tl.float32) * b_s + (sigma * b_n + b_b)
        b_y = clamped(gain * activate(b_v, alpha, ACT), clamp, HAS_CLAMP)
        tl.store(p_y + o, b_y.to(p_y.dtype.element_ty), mask=m)
        o_n += BLOCK_N


@triton.jit
def grad_kernel(
    p_dy, p_x, p_s, p_n, p_sigma, p_b, p_dx, p_sums, unscaled, C, N, alpha, gain, clamp,
    ACT: tl.constexpr, HAS_CLAMP: tl.constexpr, HAS_NOISE: tl.constexpr, HAS_STRENGTH: tl.constexpr,
    PER_SAMPLE: tl.constexpr, HAS_BIAS: tl.constexpr, CHANNELS_LAST: tl.constexpr, OFFSET: tl.constexpr,
    CHUNKS: tl.constexpr, STEPS: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    sample, o_c, chunk, o_n = tile_of(C, N, CHUNKS, STEPS, BLOCK_C, BLOCK_N)
    b_s, b_b = load_channels(p_s, p_b, sample, o_c, C, HAS_BIAS)
    sigma = load_strength(p_sigma, HAS_STRENGTH)
    p_dy += sample * C * N
    p_x += sample * C * N
    p_dx += sample * C * N
    b_factor = tl.where(unscaled != 0, 1.0, b_s)
    b_tx = tl.zeros((BLOCK_C, BLOCK_N), tl.float32)
    b_tn = tl.zeros((BLOCK_C, BLOCK_N), tl.float32)
    b_sum = tl.zeros((BLOCK_C, BLOCK_N), tl.float32)
    for _ in tl.range(STEPS, num_stages=1):
        o, m = offsets(o_c, o_n, C, N, CHANNELS_LAST, OFFSET)
        b_n = load_noise(p_n, sample, o_n, N, HAS_NOISE, PER_SAMPLE)
        b_x = tl.load(p_x + o, mask=m, other=0.0).to(tl.float32)
        # Outside the image dy is 0, and with it t: masked elements add nothing to the sums.
        b_t = tl.load(p_dy + o, mask=m, other=0.0).to(tl.float32)
        b_h = weight_of(b_x * b_s + (sigma * b_n + b_b), alpha, gain, clamp, ACT, HAS_CLAMP)
        if HAS_CLAMP or ACT == RELU:
            b_t = tl.where(b_h == 0, 0.0, b_t * b_h)  # of infinity and NaN too, as in PyTorch
        else:
            b_t *= b_h
        tl.store(p_dx + o, (b_t * b_factor).to(p_dx.dtype.element_ty), mask=m)
        b_tx += b_t * b_x
        if HAS_NOISE:
            b_tn += b_t * b_n
        b_sum += b_t
        o_n += BLOCK_N
    p_sums += ((sample * CHUNKS + chunk) * C + o_c) * 3
    tl.store(p_sums, tl.sum(b_tx, 1)[:, None], mask=o_c < C)
    tl.store(p_sums + 1, tl.sum(b_tn, 1)[:, None], mask=o_c < C)
    tl.store(p_sums + 2, tl.sum(b_sum, 1)[:, None], mask=o_c < C)


# --- launchers ----------------------------------------------------------------------------------------------------
#
# x, dy, y, dx are dense with the same strides, contiguous or channels_last; noise is [1 or B, 1, *image], contiguous.
# coefficients = (scale, noise, strength, b), of which all but the first may be None; activation = (act, alpha, gain,
# clamp), clamp None for no bound.


def _cut(x: Tensor) -> tuple[int, int, dict]:
    """Channels, pixels, and the constants that cut a sample into tiles; by shape alone, so that sums never differ."""
    C, N = x.shape[1], math.prod(x.shape[2:])
    channels_last = not x.is_contiguous()
    if channels_last:
        block_c = min(triton.next_power_of_2(C), MAX_CHANNELS_LAST)
        block_n = min(triton.next_power_of_2(N), TILE // block_c)
    else:
        block_n = min(triton.next_power_of_2(N), TILE)
        block_c = min(triton.next_power_of_2(C), TILE // block_n)
    steps = min(triton.cdiv(N, block_n), MAX_STEPS)
    cut = {"CHUNKS": triton.cdiv(N, steps * block_n), "STEPS": steps, "BLOCK_C": block_c, "BLOCK_N": block_n}
    # A sample of 2^31 elements needs offsets twice as wide, which cost registers.
    offset = tl.int64 if C * N + TILE * MAX_STEPS * max(C, N) >= 2**31 else tl.int32
    return C, N, cut | {"CHANNELS_LAST": channels_last, "OFFSET": offset}


def _run(kernel, x: Tensor, tensors: tuple, coefficients: tuple, activation, cut: tuple) -> None:
    """`tensors` are the kernel's arguments, from the first to the last tensor; cut is that of `_cut`."""
    _, noise, strength, b = coefficients
    act, alpha, gain, clamp = activation
    C, N, constants = cut
    flags = {
        "ACT": CODES[act], "HAS_CLAMP": clamp is not None, "HAS_BIAS": b is not None, "HAS_NOISE": noise is not None,
        "HAS_STRENGTH": strength is not None, "PER_SAMPLE": noise is not None and noise.shape[0] != 1,
    }  # fmt: skip
    # A thread moves 16 bytes of each tensor, the widest access: 4 elements of float32, 8 of float16; in the gradient
    # 4 of either, since it holds three sums for each.
    per_thread = 4 if kernel is grad_kernel else 16 // x.element_size()
    warps = max(1, constants["BLOCK_C"] * constants["BLOCK_N"] // (per_thread * 32))
    programs = x.shape[0] * triton.cdiv(C, constants["BLOCK_C"]) * constants["CHUNKS"]
    launch(kernel, programs, warps, x, (*tensors, C, N, alpha, gain, clamp or 0.0), flags | constants)


def forward(x: Tensor, coefficients: tuple, y: Tensor, activation) -> None:
    """y = clamp(gain f(x scale + strength noise + b))."""
    if x.numel() == 0:
        return
    _run(forward_kernel, x, (x, *coefficients, y), coefficients, activation, _cut(x))


def grad(
    dy: Tensor, x: Tensor, coefficients: tuple, outputs: tuple[Tensor, Tensor], activation, unscaled: bool
) -> None:
    """Fills dx = t scale (t itself where `unscaled`), and the sums [B, C, 3] of t x, t noise and t over the pixels."""
    dx, sums = outputs
    if x.numel() == 0:
        sums.zero_()
        return
    C, _, constants = cut = _cut(x)
    partial = allocation.empty((x.shape[0], constants["CHUNKS"], C, 3), like=x, dtype=torch.float32)
    tensors = (dy, x, *coefficients, dx, partial, int(unscaled))
    _run(grad_kernel, x, tensors, coefficients, activation, cut)
    torch.sum(partial, 1, dtype=sums.dtype, out=sums)
