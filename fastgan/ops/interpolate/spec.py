"""The OpSpec of interpolate: samples for the tests, shapes for the benchmarks."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from fastgan.ops.interpolate import interpolate
from fastgan.ops.interpolate.reference import interpolate_reference
from fastgan.registry import FLOATING, HALF, BenchShape, OpSpec, Sample, register


def _samples(device: torch.device, dtype: torch.dtype, generator: torch.Generator) -> Iterator[Sample]:
    def sample(shape: tuple[int, ...], label: str, seed: int | Tensor = 0) -> Sample:
        x, y = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
        y = torch.copysign(y, x)  # otherwise the two terms may cancel, and no relative error can be asked for
        return Sample((x.to(device, dtype), y.to(device, dtype)), {"seed": seed}, label=label)

    yield sample((3, 5, 7), "odd", 0xFEDCBA987654321)  # a seed of more than 32 bits
    yield sample((4, 3, 2, 2), "image", -1)
    yield sample((5, 3), "seed-tensor", torch.tensor(2**40 + 7, device=device))
    yield sample((3, 4, 5, 3), "channels-last").map(lambda t: t.to(memory_format=torch.channels_last))
    yield sample((17,), "one-dim", torch.tensor([3], device=device))
    yield sample((3, 4099), "several-blocks")
    yield sample((2, 3, 1000), "large-samples")
    yield sample((4, 6, 8), "strided").map(lambda t: t[..., ::2])
    yield sample((6, 3, 4), "transposed").map(lambda t: t.transpose(0, 2))
    yield sample((0, 3, 4), "empty-batch")
    yield sample((3, 0), "empty-samples")


def bench_shape(shape: tuple[int, ...]) -> BenchShape:
    def make(device: torch.device, dtype: torch.dtype) -> Sample:
        x, y = (torch.randn(shape, device=device, dtype=dtype) for _ in range(2))
        return Sample((x, y), {"seed": 1}, label="x".join(map(str, shape)))

    elements = math.prod(shape)
    return BenchShape("x".join(map(str, shape)), make, lambda size: 3 * size * elements, 3 * elements)


SPEC = register(
    OpSpec(
        name="interpolate",
        function=interpolate,
        reference=interpolate_reference,
        backends={"cpu": FLOATING, "triton": (torch.float32, *HALF)},
        order=None,
        samples=_samples,
        bench=(bench_shape((64, 3, 64, 64)), bench_shape((256, 3, 32, 32))),
        paper="Gulrajani et al. 2017, Improved Training of Wasserstein GANs, arXiv:1704.00028",
    )
)
