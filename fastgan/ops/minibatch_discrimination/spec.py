"""The OpSpec of minibatch_discrimination: samples for the tests, shapes for the benchmarks."""

from collections.abc import Iterator

import torch
from torch import Tensor

from fastgan.ops.minibatch_discrimination import minibatch_discrimination
from fastgan.ops.minibatch_discrimination.reference import minibatch_discrimination_reference
from fastgan.registry import FLOATING, BenchShape, OpSpec, Sample, register


def _samples(device: torch.device, dtype: torch.dtype, generator: torch.Generator) -> Iterator[Sample]:
    def features(B: int, K: int, C: int, spread: float = 0.5) -> Tensor:
        # In every column the samples are a shuffled grid, jittered by a quarter of its spacing: no two come so close
        # that finite differences or rounding would swap them.
        order = torch.rand(B, K, C, generator=generator, dtype=torch.float64).argsort(0)
        jitter = 0.5 * torch.rand(B, K, C, generator=generator, dtype=torch.float64)
        return (spread * ((order + jitter) * 2 / max(B, 1) - 1)).to(device, dtype)

    yield Sample((features(5, 3, 4),), label="small")
    yield Sample((features(67, 2, 3),), label="across-tiles")
    yield Sample((features(9, 1, 17, spread=0.2),), label="many-dims")
    yield Sample((features(131, 8, 2),), label="many-kernels")
    yield Sample((features(4, 3, 5).transpose(0, 1),), label="transposed")
    yield Sample((features(2, 3, 1),), label="one-dim")
    yield Sample((features(1, 3, 4),), label="one-sample")
    yield Sample((features(0, 3, 4),), label="empty-batch")
    repeated = features(3, 2, 4).repeat(2, 1, 1)
    yield Sample((repeated,), label="repeated", smooth=False)


def _kinks(device: torch.device, dtype: torch.dtype) -> Iterator[Sample]:
    """Samples that agree in some features, or in all."""
    m = torch.tensor([[[0, 1], [0.5, 0]], [[-0.0, 1], [1, 0]], [[0, 2], [1, -1]]], dtype=dtype, device=device)
    yield Sample((m,), label="ties", smooth=False)


def bench_shape(B: int, K: int, C: int) -> BenchShape:
    def make(device: torch.device, dtype: torch.dtype) -> Sample:
        return Sample((torch.randn(B, K, C, device=device, dtype=dtype),), label=f"{B}x{K}x{C}")

    # Each of the B (B - 1) / 2 pairs: a difference and an addition per dimension, then exp.
    return BenchShape(f"{B}x{K}x{C}", make, lambda size: size * (B * K * C + B * K), B * (B - 1) // 2 * K * (2 * C + 1))


SPEC = register(
    OpSpec(
        name="minibatch_discrimination",
        function=minibatch_discrimination,
        reference=minibatch_discrimination_reference,
        backends={"cuda": FLOATING, "cpu": FLOATING},
        order=None,
        samples=_samples,
        kinks=_kinks,
        bench=(bench_shape(64, 100, 5), bench_shape(128, 100, 16), bench_shape(256, 64, 16)),
        paper="Salimans et al. 2016, Improved Techniques for Training GANs, section 3.2",
    )
)
