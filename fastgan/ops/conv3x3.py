"""conv3x3: 3x3 convolutions of stride 1 with 16 products for each tile of 2x2 pixels instead of 36, on the CPU.

Winograd's minimal filtering (csrc/conv3x3.h has the formulas). PyTorch's convolutions there are direct ones at the peak
of the processor's arithmetic: what is faster has to multiply less. `convolution` takes it wherever it pays; this is
the same function for those who want it alone.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from fastgan import backends
from fastgan.ops.conv3x3_backends import fits, output_size
from fastgan.ops.convolution import convolution, minimal_convolution
from fastgan.ops.minimal_filtering import DTYPES, channels_last, check, check_size, sample_of
from fastgan.registry import BenchShape, OpSpec, Sample, register


def conv3x3(
    x: Tensor,  # [B, I, H, W]
    weight: Tensor,  # [O, I, 3, 3]
    bias: Tensor | None = None,  # [O]
    padding: int = 1,
) -> Tensor:  # [B, O, H + 2 padding - 2, W + 2 padding - 2]
    """A 3x3 convolution of stride 1, on the CPU by minimal filtering whatever the size.

        y = F.conv2d(x, weight, bias, padding=padding)

    Differentiable to any order, each by the same two kernels. Winograd's F(2x2, 3x3): Lavin and Gray 2015, Fast
    Algorithms for Convolutional Neural Networks, arXiv:1509.09308, section 4.1. Sums are taken over tiles of four by
    four pixels: errors are as those of a direct convolution relative to the largest pixel of a tile, and infinity
    or NaN reach every pixel of it.

    Args:
        x, weight, bias: of one dtype; the kernel takes float32 and float64, contiguous or channels_last.
        padding: zeros on all four sides, 0 to 2.

    Returns:
        A tensor of the dtype of x.

    Raises:
        TypeError: an argument is not a floating-point tensor.
        ValueError: an argument has a wrong shape, or padding is out of range.
        fastgan.BackendError: a backend was forced that cannot take these arguments.
    """
    check("conv3x3", x, weight, bias, 3)
    if padding not in (0, 1, 2):
        raise ValueError(f"conv3x3: padding is {padding!r}, expected 0, 1 or 2")
    check_size("conv3x3", x, padding, output_size(x, (padding, padding)))
    if backends.select("conv3x3", x) == "reference" or not fits(x, weight, bias, (padding, padding)):
        return convolution(x, weight, bias, padding=padding)
    return minimal_convolution(x, weight, bias, stride=1, padding=(padding, padding))


def conv3x3_reference(x: Tensor, weight: Tensor, bias: Tensor | None = None, padding: int = 1) -> Tensor:
    """`conv3x3` in plain PyTorch: the oracle, the fallback and what the benchmarks call eager."""
    return F.conv2d(x, weight, bias, padding=padding)


# --- what the tests and the benchmarks call it with ------------------------------------------------------------------


def _samples(device: torch.device, dtype: torch.dtype, generator: torch.Generator) -> Iterator[Sample]:
    sample = sample_of(device, dtype, generator)
    yield sample(2, 2, 3, 4, 5, 3, "small")
    yield sample(1, 3, 2, 5, 4, 3, "bias", bias=True)
    yield sample(1, 2, 2, 3, 3, 3, "valid", padding=0)
    yield sample(1, 2, 3, 1, 2, 3, "full", bias=True, padding=2)
    yield sample(2, 1, 1, 3, 4, 3, "one-channel")
    yield sample(2, 17, 35, 6, 7, 3, "lanes-left-over", bias=True)
    yield sample(1, 70, 16, 4, 4, 3, "long-sums")
    yield sample(1, 16, 64, 3, 20, 3, "wide", padding=0)
    yield sample(3, 16, 32, 16, 16, 3, "several-blocks")
    yield sample(1, 8, 8, 2, 150, 3, "cut-rows")
    yield sample(2, 5, 3, 4, 6, 3, "channels-last", bias=True).map(channels_last)
    yield sample(2, 32, 16, 5, 8, 3, "channels-last-lanes", padding=2).map(channels_last)
    yield sample(2, 3, 2, 4, 10, 3, "strided").map(lambda t: t[..., ::2] if t.ndim == 4 and t.shape[2] != 3 else t)
    yield sample(5, 3, 2, 4, 6, 3, "transposed").map(lambda t: t.transpose(2, 3) if t.ndim == 4 else t)
    yield sample(0, 2, 3, 4, 5, 3, "empty-batch", bias=True)


def bench_shape(B: int, C: int, R: int) -> BenchShape:
    def make(device: torch.device, dtype: torch.dtype) -> Sample:
        x = torch.randn(B, C, R, R, device=device, dtype=dtype)
        return Sample((x, torch.randn(C, C, 3, 3, device=device, dtype=dtype), None))

    return BenchShape(
        f"{B}x{C}x{R}x{R}", make, lambda size: size * (2 * B * C * R * R + 9 * C * C), 18 * B * C * C * R * R
    )


SPEC = register(
    OpSpec(
        name="conv3x3",
        function=conv3x3,
        reference=conv3x3_reference,
        backends={"cpu": DTYPES},
        order=None,
        samples=_samples,
        tiled=True,
        bench=tuple(
            bench_shape(*shape) for shape in ((4, 512, 8), (16, 96, 16), (8, 128, 32), (8, 64, 64), (4, 32, 128))
        ),
        paper="Lavin and Gray 2015, Fast Algorithms for Convolutional Neural Networks, section 4.1",
    )
)
