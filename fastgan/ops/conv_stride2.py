"""conv_stride2: 3x3 and 4x4 convolutions of stride 2 with 25 or 36 products for each 2x2 pixels instead of 36 or 64.

Minimal filtering of the even and of the odd pixels, on the CPU (csrc/conv_stride2.h has the formulas). DCGAN's critics
and those of StyleGAN2 halve the resolution by them, and their generators double it by the transposes. `convolution`
takes it wherever it pays; this is the same function for those who want it alone.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from fastgan import backends
from fastgan.ops.conv_stride2_backends import fits, output_size
from fastgan.ops.convolution import convolution, minimal_convolution
from fastgan.ops.minimal_filtering import DTYPES, channels_last, check, check_size, sample_of
from fastgan.registry import BenchShape, OpSpec, Sample, register


def conv_stride2(
    x: Tensor,  # [B, I, H, W]
    weight: Tensor,  # [O, I, 3, 3] or [O, I, 4, 4]
    bias: Tensor | None = None,  # [O]
    padding: int = 1,
) -> Tensor:  # [B, O, H', W'], H' = floor((H + 2 padding - kernel) / 2) + 1
    """A 3x3 or 4x4 convolution of stride 2, on the CPU by minimal filtering whatever the size.

        y = F.conv2d(x, weight, bias, stride=2, padding=padding)

    Differentiable to any order, by this kernel, its transpose and its gradient to the filters. Winograd's F(2, 2)
    (Winograd 1980, Arithmetic Complexity of Computations; Lavin and Gray 2015, arXiv:1509.09308) along each axis, of
    the even pixels and taps and of the odd ones. Sums are taken over tiles of five or six pixels' side: errors are
    as those of a direct convolution relative to the largest pixel of a tile, and infinity or NaN reach every pixel
    of it.

    Args:
        x, weight, bias: of one dtype; the kernel takes float32 and float64, contiguous or channels_last.
        padding: zeros on all four sides.

    Returns:
        A tensor of the dtype of x.

    Raises:
        TypeError: an argument is not a floating-point tensor.
        ValueError: an argument has a wrong shape, or padding is negative.
        fastgan.BackendError: a backend was forced that cannot take these arguments.
    """
    check("conv_stride2", x, weight, bias, 3, 4)
    if not isinstance(padding, int) or padding < 0:
        raise ValueError(f"conv_stride2: padding is {padding!r}, expected an integer of at least 0")
    check_size("conv_stride2", x, padding, output_size(x, weight, padding))
    if backends.select("conv_stride2", x) == "reference" or not fits(x, weight, bias, (padding, padding)):
        return convolution(x, weight, bias, stride=2, padding=padding)
    return minimal_convolution(x, weight, bias, stride=2, padding=(padding, padding))


def conv_stride2_reference(x: Tensor, weight: Tensor, bias: Tensor | None = None, padding: int = 1) -> Tensor:
    """`conv_stride2` in plain PyTorch: the oracle, the fallback and what the benchmarks call eager."""
    return F.conv2d(x, weight, bias, stride=2, padding=padding)


# --- what the tests and the benchmarks call it with ------------------------------------------------------------------


def _samples(device: torch.device, dtype: torch.dtype, generator: torch.Generator) -> Iterator[Sample]:
    sample = sample_of(device, dtype, generator)
    yield sample(2, 2, 3, 6, 8, 3, "even")
    yield sample(2, 2, 3, 6, 8, 4, "even-4")
    yield sample(1, 3, 2, 7, 5, 3, "valid", bias=True, padding=0)
    yield sample(1, 3, 2, 7, 9, 4, "valid-4", bias=True, padding=0)
    yield sample(1, 2, 3, 1, 2, 3, "full", bias=True, padding=2)
    yield sample(1, 2, 3, 2, 1, 4, "full-4", bias=True, padding=3)
    yield sample(2, 1, 1, 5, 4, 3, "one-channel")
    yield sample(2, 17, 35, 7, 6, 3, "lanes-left-over", bias=True)
    yield sample(1, 70, 16, 4, 4, 4, "long-sums")
    yield sample(3, 16, 32, 17, 17, 3, "several-blocks", padding=0)
    yield sample(1, 8, 8, 4, 150, 4, "cut-rows")
    yield sample(2, 5, 3, 4, 6, 3, "channels-last", bias=True).map(channels_last)
    yield sample(2, 32, 16, 5, 8, 4, "channels-last-lanes", padding=2).map(channels_last)
    yield sample(2, 3, 2, 4, 10, 4, "strided").map(
        lambda t: t[..., ::2] if t.ndim == 4 and t.shape[2] != t.shape[3] else t
    )
    yield sample(0, 2, 3, 4, 5, 3, "empty-batch", bias=True)


def bench_shape(B: int, inputs: int, outputs: int, R: int, taps: int, padding: int) -> BenchShape:
    out = (R + 2 * padding - taps) // 2 + 1

    def make(device: torch.device, dtype: torch.dtype) -> Sample:
        x = torch.randn(B, inputs, R, R, device=device, dtype=dtype)
        weight = torch.randn(outputs, inputs, taps, taps, device=device, dtype=dtype)
        return Sample((x, weight, None), {"padding": padding})

    elements = B * (inputs * R * R + outputs * out * out) + taps * taps * inputs * outputs
    return BenchShape(
        f"{B}x{inputs}->{outputs}x{R}x{R} {taps}x{taps}",
        make,
        lambda size: size * elements,
        2 * taps * taps * B * inputs * outputs * out * out,
    )


SPEC = register(
    OpSpec(
        name="conv_stride2",
        function=conv_stride2,
        reference=conv_stride2_reference,
        backends={"cpu": DTYPES},
        order=None,
        samples=_samples,
        tiled=True,
        bench=tuple(
            bench_shape(*shape)
            for shape in (
                (16, 96, 96, 17, 3, 0),  # StyleGAN2's critic, after its blur
                (8, 64, 128, 65, 3, 0),
                (64, 64, 128, 16, 4, 1),  # DCGAN's
                (64, 128, 256, 8, 4, 1),
            )
        ),
        paper="Lavin and Gray 2015, Fast Algorithms for Convolutional Neural Networks, section 4",
    )
)
