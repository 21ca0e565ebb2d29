"""The OpSpec of conv_stride2: samples for the tests, shapes for the benchmarks."""

from collections.abc import Iterator

import torch

from fastgan.ops.conv_stride2 import conv_stride2
from fastgan.ops.conv_stride2.reference import conv_stride2_reference
from fastgan.ops.convolution.minimal_filtering import DTYPES, channels_last, sample_of
from fastgan.registry import BenchShape, OpSpec, Sample, register


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
