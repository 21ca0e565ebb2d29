"""The OpSpec of minibatch_stddev: samples for the tests, shapes for the benchmarks."""

import math
from collections.abc import Iterator

import torch

from fastgan.ops.minibatch_stddev import minibatch_stddev
from fastgan.ops.minibatch_stddev.reference import minibatch_stddev_reference
from fastgan.registry import FLOATING, BenchShape, OpSpec, Sample, register


def _samples(device: torch.device, dtype: torch.dtype, generator: torch.Generator) -> Iterator[Sample]:
    def sample(shape: tuple[int, ...], label: str, group_size: int | None, num_channels: int = 1) -> Sample:
        # In every position the samples are a shuffled grid of spacing 1, jittered by a quarter of it: no two are close,
        # so that no standard deviation is near 0, where the square root bends.
        order = torch.rand(shape, generator=generator, dtype=torch.float64).argsort(0)
        jitter = 0.5 * torch.rand(shape, generator=generator, dtype=torch.float64)
        x = (order + jitter - shape[0] / 2).to(device, dtype)
        return Sample((x,), {"group_size": group_size, "num_channels": num_channels}, label)

    yield sample((4, 3, 3, 3), "one-group", 4)
    yield sample((8, 6, 2, 3), "two-groups-two-features", 4, 2)
    yield sample((7, 4, 2, 3), "unequal-groups", 3, 4)
    yield sample((5, 3, 2, 2), "pairs-of-an-odd-batch", 2)
    yield sample((3, 2, 3, 5), "whole-batch", None)
    yield sample((6, 4, 3, 2), "channels-last", 3, 2).map(lambda x: x.to(memory_format=torch.channels_last))
    yield sample((6, 3, 4, 6), "strided", 4).map(lambda x: x[..., ::2])
    yield sample((4, 5, 2, 3), "transposed", 4).map(lambda x: x.transpose(0, 2).contiguous().transpose(0, 2))
    yield sample((21, 2, 9, 16), "long-sums", None, 2)
    yield sample((8, 70, 9, 4), "several-blocks", 4)
    yield sample((4, 300, 2, 3), "channels-last-tiles", 4, 2).map(lambda x: x.to(memory_format=torch.channels_last))
    yield sample((4, 1100, 1, 2), "channels-last-blocks", 2).map(lambda x: x.to(memory_format=torch.channels_last))
    yield sample((1, 2, 3, 3), "one-sample", 4)
    yield sample((3, 2, 2, 2), "groups-of-one", 1)
    yield sample((0, 4, 3, 3), "empty-batch", 4)
    yield sample((7, 4, 3, 0), "no-positions", 4)
    yield sample((3, 4, 0, 3), "no-pixels", 4)


def bench_shape(shape: tuple[int, int, int, int], group_size: int | None) -> BenchShape:
    label = f"{'x'.join(map(str, shape))} {'whole batch' if group_size is None else f'groups of {group_size}'}"

    def make(device: torch.device, dtype: torch.dtype) -> Sample:
        return Sample((torch.randn(shape, device=device, dtype=dtype),), {"group_size": group_size}, label)

    N, C, H, W = shape
    written = N * (C + 1) * H * W
    # For each element: two additions for the mean and the deviation, a square and its addition.
    return BenchShape(label, make, lambda size: size * (math.prod(shape) + written), 4 * math.prod(shape))


SPEC = register(
    OpSpec(
        name="minibatch_stddev",
        function=minibatch_stddev,
        reference=minibatch_stddev_reference,
        backends={"cuda": FLOATING, "cpu": FLOATING},
        order=None,
        samples=_samples,
        bench=(
            bench_shape((32, 512, 4, 4), 4),
            bench_shape((64, 512, 4, 4), 4),
            bench_shape((16, 256, 8, 8), 4),
            bench_shape((64, 128, 8, 8), None),
        ),
        paper="Karras et al. 2018, Progressive Growing of GANs, section 3",
    )
)
