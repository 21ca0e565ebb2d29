"""StyleGAN2's layer as one implicit matrix product, for the GPU: a 3x3 or 1x1 convolution of the size of its input.

    y = clamp(gain f(d conv(s x, w) + sigma n + b))

A product of M = pixels of one sample by output channels, over K = taps * input channels. Tensors are channels_last, so
that the channels of a pixel, which K runs over, are neighbours in memory. A program's pixels are of one sample: it
multiplies the activations by that sample's styles as it loads them, and does all that follows the convolution on the
sums in its registers. Activations cross memory once, where the composed form (`scaled_bias_act` around cuDNN's
convolution) writes and reads s x and the convolution's result besides.

s x is rounded to the tensors' dtype before the product, as tensor cores take it and as the composed form stores it.
Sums are float32, and what follows the convolution takes them unrounded. float32 tensors are multiplied in float32,
not tf32.

The data gradient is the same product, of the gradient with the transposed weights. It ends in dx = s u, and in the sums
of u x over a program's pixels, of which the gradient of s is the sum.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastgan import allocation

from .bias_act import CODES, activate
from .launch import launch
from .scaled_bias_act import clamped, load_strength


@triton.jit
def tile_of(H, W, CO, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    """This program's sample, block of pixels, pixels and output channels; neighbouring programs share their pixels."""
    blocks_n = tl.cdiv(CO, BLOCK_N)
    blocks_m = tl.cdiv(H * W, BLOCK_M)
    sample = (tl.program_id(0) // (blocks_n * blocks_m)).to(tl.int64)
    block_m = (tl.program_id(0) // blocks_n) % blocks_m
    o_m = block_m * BLOCK_M + tl.arange(0, BLOCK_M)
    o_n = (tl.program_id(0) % blocks_n) * BLOCK_N + tl.arange(0, BLOCK_N)
    return sample, block_m, o_m, o_n


@triton.jit
def convolved(
    p_x, p_w, p_s, o_m, o_n, H, W, CI, CO, HAS_STYLES: tl.constexpr, TAPS: tl.constexpr, STEPS: tl.constexpr,
    OPERAND: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """conv(s x, w) at pixels o_m and channels o_n: x [H, W, CI] and s [CI] of this sample, w [TAPS, CI, CO]."""
    SIDE: tl.constexpr = 3 if TAPS == 9 else 1
    row = o_m // W
    column = o_m % W
    b_sum = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    # Taps innermost: they read nearly the same pixels, which stay in the L1 cache.
    for k in range(STEPS):
        tap = k % TAPS
        o_k = (k // TAPS) * BLOCK_K + tl.arange(0, BLOCK_K)
        y = row + (tap // SIDE - SIDE // 2)
        x = column + (tap % SIDE - SIDE // 2)
        inside = (row < H) & (y >= 0) & (y < H) & (x >= 0) & (x < W)
        o_x = (y * W + x)[:, None] * CI + o_k[None, :]
        b_x = tl.load(p_x + o_x, mask=inside[:, None] & (o_k < CI)[None, :], other=0.0)
        if HAS_STYLES:
            b_s = tl.load(p_s + o_k, mask=o_k < CI, other=0.0).to(tl.float32)
            b_x = (b_x.to(tl.float32) * b_s[None, :]).to(p_x.dtype.element_ty)
        o_w = (tap * CI + o_k)[:, None] * CO + o_n[None, :]
        b_w = tl.load(p_w + o_w, mask=(o_k < CI)[:, None] & (o_n < CO)[None, :], other=0.0)
        b_sum = tl.dot(b_x.to(OPERAND), b_w.to(OPERAND), b_sum, input_precision="ieee")
    return b_sum


@triton.jit
def forward_kernel(
    p_x, p_w, p_s, p_d, p_n, p_sigma, p_b, p_z, p_y, H, W, CI, CO, alpha, gain, clamp,
    ACT: tl.constexpr, HAS_CLAMP: tl.constexpr, HAS_NOISE: tl.constexpr, HAS_STRENGTH: tl.constexpr,
    PER_SAMPLE: tl.constexpr, HAS_BIAS: tl.constexpr, SAVES: tl.constexpr, TAPS: tl.constexpr, STEPS: tl.constexpr,
    OPERAND: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    sample, _, o_m, o_n = tile_of(H, W, CO, BLOCK_M, BLOCK_N)
    b_z = convolved(
        p_x + sample * H * W * CI, p_w, p_s + sample * CI, o_m, o_n, H, W, CI, CO, True, TAPS, STEPS,
        OPERAND, BLOCK_M, BLOCK_N, BLOCK_K,
    )  # fmt: skip
    m_n = o_n < CO
    m = (o_m < H * W)[:, None] & m_n[None, :]
    o = sample * H * W * CO + o_m[:, None] * CO + o_n[None, :]
    if SAVES:
        tl.store(p_z + o, b_z.to(p_z.dtype.element_ty), mask=m)
    b_v = b_z * tl.load(p_d + sample * CO + o_n, mask=m_n, other=0.0).to(tl.float32)[None, :]
    if HAS_NOISE:
        if PER_SAMPLE:
            p_n += sample * H * W
        b_n = tl.load(p_n + o_m, mask=o_m < H * W, other=0.0).to(tl.float32)
        b_v += (load_strength(p_sigma, HAS_STRENGTH) * b_n)[:, None]
    if HAS_BIAS:
        b_v += tl.load(p_b + o_n, mask=m_n, other=0.0).to(tl.float32)[None, :]
    b_y = clamped(gain * activate(b_v, alpha, ACT), clamp, HAS_CLAMP)
    tl.store(p_y + o, b_y.to(p_y.dtype.element_ty), mask=m)


@triton.jit
def data_grad_kernel(
    p_dz, p_w, p_s, p_x, p_dx, p_sums, H, W, CI, CO, TAPS: tl.constexpr, STEPS: tl.constexpr,
    OPERAND: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """The product sums over dz's channels, here CI, and gives x's, here CO."""
    sample, block_m, o_m, o_n = tile_of(H, W, CO, BLOCK_M, BLOCK_N)
    b_u = convolved(
        p_dz + sample * H * W * CI, p_w, p_s, o_m, o_n, H, W, CI, CO, False, TAPS, STEPS,
        OPERAND, BLOCK_M, BLOCK_N, BLOCK_K,
    )  # fmt: skip
    m_n = o_n < CO
    m = (o_m < H * W)[:, None] & m_n[None, :]
    o = sample * H * W * CO + o_m[:, None] * CO + o_n[None, :]
    b_s = tl.load(p_s + sample * CO + o_n, mask=m_n, other=0.0).to(tl.float32)
    tl.store(p_dx + o, (b_u * b_s[None, :]).to(p_dx.dtype.element_ty), mask=m)
    b_x = tl.load(p_x + o, mask=m, other=0.0).to(tl.float32)
    o_sums = (sample * tl.cdiv(H * W, BLOCK_M) + block_m) * CO + o_n
    tl.store(p_sums + o_sums, tl.sum(b_u * b_x, 0), mask=m_n)


# --- launchers ----------------------------------------------------------------------------------------------------
#
# x, z, y, dz and dx are [B, C, H, W] in memory order [B, H, W, C]; weights are packed, [taps, in, out] in memory order.


INTERPRETED = not isinstance(forward_kernel, triton.JITFunction)


def _constants(x: Tensor, w: Tensor) -> tuple[dict, int, int]:
    """The constants of a product of x by w, its warps and its stages: by shape alone, so that sums never differ."""
    taps, inputs, outputs = w.shape
    half = x.element_size() == 2
    # What follows holds for float32 without tensor cores too, whose products take the registers of both operands.
    largest = (128, 128, 64) if half else (64, 64, 16)
    sizes = (x.shape[2] * x.shape[3], outputs, inputs)
    m, n, k = (min(max(triton.next_power_of_2(size), 16), most) for size, most in zip(sizes, largest, strict=True))
    # A program for each multiprocessor at least: narrower tiles where there are fewer.
    if half and n == 128 and x.shape[0] * triton.cdiv(sizes[0], m) * triton.cdiv(outputs, n) < 128:
        n = 64
    operand = tl.bfloat16 if x.dtype == torch.bfloat16 else tl.float16 if half else tl.float32
    # The interpreter multiplies what bfloat16 is stored in; in float32 the products are exact, as in a tensor core.
    if INTERPRETED and operand == tl.bfloat16:
        operand = tl.float32
    warps = 8 if m * n == 128 * 128 else 4
    constants = {
        "TAPS": taps,
        "STEPS": taps * triton.cdiv(inputs, k),
        "OPERAND": operand,
        "BLOCK_M": m,
        "BLOCK_N": n,
        "BLOCK_K": k,
    }
    return constants, warps, 3 if half else 2


def _run(kernel, x: Tensor, w: Tensor, arguments: tuple, scalars: tuple, flags: dict, cut: tuple) -> None:
    constants, warps, stages = cut
    B, _, H, W = x.shape
    _, inputs, outputs = w.shape
    programs = B * triton.cdiv(H * W, constants["BLOCK_M"]) * triton.cdiv(outputs, constants["BLOCK_N"])
    launch(kernel, programs, warps, x, (*arguments, H, W, inputs, outputs, *scalars), flags | constants, stages)


def packed(weight: Tensor) -> Tensor:
    """[CO, CI, kh, kw] -> [taps, CI, CO], for `forward`."""
    return weight.permute(2, 3, 1, 0).flatten(0, 1).contiguous()


def packed_for_data_grad(weight: Tensor) -> Tensor:
    """[CO, CI, kh, kw] -> [taps, CO, CI]: a convolution's gradient is one with the taps in reverse."""
    return weight.permute(2, 3, 0, 1).flatten(0, 1).flip(0).contiguous()


def forward(
    x: Tensor, weight: Tensor, styles: Tensor, coefficients: tuple, outputs: tuple[Tensor | None, Tensor], activation
) -> None:
    """Fills z = conv(styles x, weight) (if it is given) and y = clamp(gain f(z scale + strength noise + b)).

    coefficients = (scale, noise, strength, b), of which all but the first may be None; activation = (act, alpha, gain,
    clamp), clamp None for no bound.
    """
    (_, noise, strength, b), (z, y), (act, alpha, gain, clamp) = coefficients, outputs, activation
    if y.numel() == 0:
        return
    w = packed(weight)
    flags = {
        "ACT": CODES[act], "HAS_CLAMP": clamp is not None, "HAS_BIAS": b is not None, "HAS_NOISE": noise is not None,
        "HAS_STRENGTH": strength is not None, "PER_SAMPLE": noise is not None and noise.shape[0] != 1,
        "SAVES": z is not None,
    }  # fmt: skip
    arguments = (x, w, styles, *coefficients, z, y)
    cut = _constants(x, w)
    _run(forward_kernel, x, w, arguments, (alpha, gain, clamp or 0.0), flags, cut)


def data_grad(dz: Tensor, weight: Tensor, x: Tensor, styles: Tensor, dx: Tensor, dstyles: Tensor) -> None:
    """dx = styles u, and dstyles [B, CI], the sums over the pixels of u x; u is the gradient to styles x."""
    if dx.numel() == 0 or dz.numel() == 0:
        dx.zero_()
        dstyles.zero_()
        return
    w = packed_for_data_grad(weight)
    cut = _constants(dz, w)
    B, CI, H, W = x.shape
    partial = allocation.empty((B, triton.cdiv(H * W, cut[0]["BLOCK_M"]), CI), like=x, dtype=torch.float32)
    _run(data_grad_kernel, dz, w, (dz, w, styles, x, dx, partial), (), {}, cut)
    torch.sum(partial, 1, dtype=dstyles.dtype, out=dstyles)
