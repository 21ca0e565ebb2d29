"""Calls of csrc/upfirdn2d.cu on the host emulator, compared with the reference in float64."""

import ctypes

import torch

from fastgan.ops.upfirdn2d.reference import upfirdn2d_reference

from .guarded import Guarded

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]  # in the order of csrc/common.h's codes

SOURCE = """
#include "upfirdn2d.cu"
fastgan::Error scratch_of(const fastgan::Upfirdn2dArgs& args, int64_t* elements) {
  *elements = fastgan::cuda::upfirdn2d_scratch(args);
  return nullptr;
}
fastgan::Error pairs_of(const void* x, const void* y, const fastgan::Upfirdn2dArgs& args, int64_t* pairs) {
  const bool narrow = args.dtype == fastgan::DType::float16 || args.dtype == fastgan::DType::bfloat16;
  *pairs = narrow ? fastgan::cuda::in_pairs<__half>(x, y, args) : fastgan::cuda::in_pairs<float>(x, y, args);
  return nullptr;
}
"""


class Args(ctypes.Structure):
    """`fastgan::Upfirdn2dArgs`."""

    SIZES, RATES = ("B", "C", "H", "W", "OH", "OW", "fh", "fw"), ("up_x", "up_y", "down_x", "down_y")
    _fields_ = [
        *((name, ctypes.c_int64) for name in SIZES),
        ("separable", ctypes.c_bool),
        *((name, ctypes.c_int64) for name in (*RATES, "origin_x", "origin_y")),
        ("flip", ctypes.c_bool),
        ("gain", ctypes.c_double),
        ("channels_last", ctypes.c_bool),
        ("dtype", ctypes.c_int),
    ]


def arguments(shape, f, dtype, up=(1, 1), down=(1, 1), padding=(0, 0, 0, 0), flip=False, gain=1.0, channels_last=False):
    """The kernel's arguments for a call of `upfirdn2d`; rates are (x, y)."""
    (_, _, H, W), (x0, x1, y0, y1) = shape, padding
    fh, fw = f.shape[0], f.shape[-1]
    OH, OW = (H * up[1] + y0 + y1 - fh) // down[1] + 1, (W * up[0] + x0 + x1 - fw) // down[0] + 1
    code = DTYPES.index(dtype)
    return Args(*shape, OH, OW, fh, fw, f.ndim == 1, *up, *down, x0, y0, flip, gain, channels_last, code)


def run(kernels, x, f, **keywords):
    """y, from memory between guard zones, which are checked."""
    args = arguments(x.shape, f, x.dtype, **keywords)
    order = (0, 2, 3, 1) if args.channels_last else (0, 1, 2, 3)
    elements = ctypes.c_int64()
    kernels.scratch_of(ctypes.byref(args), ctypes.byref(elements))
    stored = x.permute(order)
    x_, f_ = Guarded(stored.shape, x.dtype, stored), Guarded(f.shape, torch.float32, f)
    scratch = Guarded((elements.value,), torch.float64 if x.dtype == torch.float64 else torch.float32)
    B, C, OH, OW = args.B, args.C, args.OH, args.OW
    y_ = Guarded((B, OH, OW, C) if args.channels_last else (B, C, OH, OW), x.dtype)
    kernels.upfirdn2d(x_.tensor, f_.tensor, y_.tensor, ctypes.byref(args), scratch.tensor, None)
    assert same_bits(x_.check(), stored), "the input was changed"
    assert same_bits(f_.check(), f), "the filter was changed"
    scratch.check()
    y = y_.check()
    return y.permute(0, 3, 1, 2) if args.channels_last else y


def same_bits(a, b):
    return torch.equal(a.flatten().contiguous().view(torch.uint8), b.flatten().contiguous().view(torch.uint8))


def reference(x, f, *, flip=False, gain=1.0, up=1, down=1, padding=0, channels_last=False):
    return upfirdn2d_reference(x.double(), f.double(), up, down, padding, flip, gain)


def check(kernels, x, f, where="", **keywords):
    """Compares with what rounding can explain: a few units for each product, and half a one for the result."""
    found = run(kernels, x, f, **keywords)
    expected = reference(x, f, **keywords)
    sizes = reference(x.abs(), f.abs(), **{**keywords, "gain": abs(keywords.get("gain", 1.0))})
    info = torch.finfo(x.dtype)
    unit = (info.eps if x.dtype == torch.float64 else torch.finfo(torch.float32).eps) / 2
    taps = 2 * f.numel() if f.ndim == 1 else f.numel()
    bound = (2 * taps + 4) * unit * sizes + info.eps / 2 * expected.abs() + info.smallest_normal * info.eps
    excess = ((found.double() - expected).abs() / bound).max().item() if found.numel() else 0
    assert found.shape == expected.shape
    assert excess <= 1, f"{list(x.shape)} {list(f.shape)} {keywords} {where}: {excess:.3g} times what rounding explains"
    return found


def draw(shape, dtype, generator):
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
