"""The OpSpec of conv3x3: samples for the tests, shapes for the benchmarks."""

from collections.abc import Iterator

import torch

from fastgan.ops.conv3x3 import conv3x3
from fastgan.ops.conv3x3.reference import conv3x3_reference
from fastgan.ops.convolution.minimal_filtering import DTYPES, channels_last, sample_of
from fastgan.registry import BenchShape, OpSpec, Sample, register


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
    yield sample(2, 2, 3, 4, 5, 3, "grouped", bias=True, groups=3)
    yield sample(1, 16, 32, 6, 5, 3, "grouped-lanes", padding=0, groups=3)
    yield sample(2, 16, 17, 5, 8, 3, "grouped-channels-last", bias=True, groups=2).map(channels_last)
    yield sample(0, 2, 3, 4, 5, 3, "grouped-empty-batch", bias=True, groups=2)


def bench_shape(B: int, C: int, R: int, groups: int = 1) -> BenchShape:
    def make(device: torch.device, dtype: torch.dtype) -> Sample:
        x = torch.randn(B, C, R, R, device=device, dtype=dtype)
        return Sample((x, torch.randn(C, I, 3, 3, device=device, dtype=dtype), None), {"groups": groups})

    I = C // groups  # noqa: E741
    label = f"{B}x{C}x{R}x{R}" + (f" in {groups} groups" if groups > 1 else "")
    return BenchShape(label, make, lambda size: size * (2 * B * C * R * R + 9 * C * I), 18 * B * C * I * R * R)


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
            bench_shape(*shape)
            for shape in ((4, 512, 8), (16, 96, 16), (8, 128, 32), (8, 64, 64), (4, 32, 128), (16, 192, 32, 12))
        ),
        paper="Lavin and Gray 2015, Fast Algorithms for Convolutional Neural Networks, section 4.1",
    )
)
