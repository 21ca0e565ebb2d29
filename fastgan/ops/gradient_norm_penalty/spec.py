"""The OpSpec of gradient_norm_penalty: samples for the tests, shapes for the benchmarks."""

import math
from collections.abc import Iterator
from typing import Any

import torch

from fastgan.ops.gradient_norm_penalty import gradient_norm_penalty
from fastgan.ops.gradient_norm_penalty.reference import gradient_norm_penalty_reference
from fastgan.registry import FLOATING, HALF, BenchShape, OpSpec, Sample, register


def _samples(device: torch.device, dtype: torch.dtype, generator: torch.Generator) -> Iterator[Sample]:
    def sample(shape: tuple[int, ...], label: str, norms: tuple[float, ...] = (), **kwargs: Any) -> Sample:
        g = torch.randn(shape, generator=generator, dtype=torch.float64)
        if norms:  # of the samples, in turn
            wanted = torch.tensor([norms[i % len(norms)] for i in range(shape[0])], dtype=torch.float64)
            rows = g.flatten(1)
            g = (rows * (wanted / rows.norm(dim=1)).unsqueeze(1)).view(shape)
        return Sample((g.to(device, dtype),), {"weight": 10.0, **kwargs}, label, smooth=0 not in norms)

    # 1.0 itself is the kink of a one-sided penalty with target 1: norms keep away from it.
    yield sample((4, 3, 4, 4), "images")
    yield sample((4, 3, 4, 4), "images-target", norms=(0.5, 2.0), target=1.0)
    yield sample((4, 3, 4, 4), "images-one-sided", norms=(0.5, 2.0), target=1.0, one_sided=True)
    yield sample((5, 37), "odd", target=0.75)
    yield sample((3, 4, 5, 3), "channels-last", weight=0.3, target=1.5).map(
        lambda g: g.to(memory_format=torch.channels_last)
    )
    yield sample((7,), "one-dim", target=0.0, weight=-1.0)
    yield sample((3, 2, 2051), "several-blocks", norms=(0.5, 1.5, 3.0), target=1.0)
    yield sample((16, 2, 600), "many-samples")
    yield sample((4, 3, 8), "strided", target=1.0).map(lambda g: g[..., ::2])
    yield sample((6, 3, 4), "transposed", target=1.0).map(lambda g: g.transpose(0, 2))
    yield sample((0, 3, 4), "empty-batch", target=1.0)
    yield sample((3, 0), "empty-samples")
    yield sample((4, 6), "zero-gradient", norms=(0.0, 2.0), target=1.0)
    yield sample((3, 5), "target-zero-at-zero", norms=(0.0, 2.0), target=0.0, one_sided=True)


def _kinks(device: torch.device, dtype: torch.dtype) -> Iterator[Sample]:
    """Norms of 0 and of the target."""
    g = torch.tensor([[3, 4], [0, 0], [6, 8], [-0.0, 0]], dtype=dtype, device=device)
    for target, one_sided in ((None, False), (5.0, False), (5.0, True), (0.0, False), (0.0, True)):
        kwargs = {"weight": 3.0, "target": target, "one_sided": one_sided}
        yield Sample((g,), kwargs, f"{kwargs}", smooth=False)


def bench_shape(shape: tuple[int, ...], label: str, target: float | None) -> BenchShape:
    def make(device: torch.device, dtype: torch.dtype) -> Sample:
        return Sample(
            (torch.randn(shape, device=device, dtype=dtype),), {"weight": 10.0, "target": target}, label=label
        )

    elements = math.prod(shape)
    return BenchShape(label, make, lambda size: size * elements, 2 * elements)


SPEC = register(
    OpSpec(
        name="gradient_norm_penalty",
        function=gradient_norm_penalty,
        reference=gradient_norm_penalty_reference,
        backends={"cpu": FLOATING, "triton": (torch.float32, *HALF)},
        order=None,
        samples=_samples,
        kinks=_kinks,
        bench=(
            bench_shape((64, 3, 64, 64), "R1 64x3x64x64", None),
            bench_shape((256, 3, 32, 32), "WGAN-GP 256x3x32x32", 1.0),
        ),
        paper="Mescheder et al. 2018, Which Training Methods for GANs do actually Converge?, arXiv:1801.04406",
    )
)
