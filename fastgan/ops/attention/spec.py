"""The OpSpec of attention: samples for the tests, shapes for the benchmarks."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from fastgan.ops.attention import attention
from fastgan.ops.attention.reference import attention_reference
from fastgan.registry import FLOATING, HALF, BenchShape, OpSpec, Sample, register


def _attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None, **kwargs: Any) -> Tensor:
    return attention(q, k, v, bias=bias, **kwargs)


def _samples(device: torch.device, dtype: torch.dtype, generator: torch.Generator) -> Iterator[Sample]:
    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(device, dtype)

    def sample(label: str, q: tuple[int, ...], k: tuple[int, ...], v: tuple[int, ...], bias: Tensor | None = None,
               **kwargs: Any) -> Sample:  # fmt: skip
        return Sample((draw(*q), draw(*k), draw(*v), bias), kwargs, label)

    masks = torch.zeros(4, 6, dtype=torch.float64)
    masks[1] = -math.inf  # a query without a key
    masks[2, :4] = -math.inf
    yield sample("small", (2, 2, 5, 4), (2, 2, 7, 4), (2, 2, 7, 6))
    yield sample("across-tiles", (1, 70, 9), (1, 70, 9), (1, 70, 20))
    yield sample("one-feature", (2, 6, 1), (2, 5, 1), (2, 5, 1), scale=0.7)
    yield sample("no-batch", (5, 3), (4, 3), (4, 2), scale=-0.3)
    yield sample("broadcast", (2, 1, 4, 3), (2, 5, 3), (1, 1, 5, 2))
    yield sample("bias-of-heads", (2, 2, 4, 3), (2, 2, 5, 3), (2, 2, 5, 4), draw(2, 4, 5))
    yield sample("bias-of-samples", (2, 2, 4, 3), (2, 2, 5, 3), (2, 2, 5, 4), draw(2, 1, 1, 5))
    yield sample("bias-of-rows", (2, 4, 3), (2, 5, 3), (2, 5, 4), draw(1, 4, 1))
    yield sample("bias-apart", (2, 2, 2, 2, 3), (2, 2, 2, 3, 3), (2, 2, 2, 3, 4), draw(2, 1, 2, 2, 3))
    yield sample("bias-across-tiles", (66, 3), (67, 3), (67, 4), draw(66, 67))
    yield sample("masks", (2, 4, 3), (2, 6, 3), (2, 6, 4), masks.to(device, dtype))
    yield sample("l2", (2, 5, 3), (2, 6, 3), (2, 6, 4), kind="l2")
    yield sample("l2-bias", (5, 3), (6, 3), (6, 4), draw(5, 6), kind="l2", scale=0.4)
    yield sample("heads-last", (2, 2, 5, 4), (2, 2, 6, 4), (2, 2, 6, 4)).map(
        lambda x: x.transpose(1, 2).contiguous().transpose(1, 2)
    )
    yield sample("strided", (5, 8), (6, 8), (6, 8)).map(lambda x: x[..., ::2])
    yield sample("no-queries", (2, 0, 3), (2, 4, 3), (2, 4, 2))
    yield sample("no-keys", (2, 3, 4), (2, 0, 4), (2, 0, 2))
    yield sample("empty-batch", (0, 3, 4), (0, 5, 4), (0, 5, 2))


def bench_shape(heads: tuple[int, int], N: int, M: int, d: int, e: int) -> BenchShape:
    label = f"{heads[0]}x{heads[1]}x{N}x{d}" if (N, d) == (M, e) else f"{heads[0]}x{heads[1]}x{N}x{d} to {M}x{e}"

    def make(device: torch.device, dtype: torch.dtype) -> Sample:
        shapes = (N, d), (M, d), (M, e)
        tensors = (torch.randn(*heads, *shape, device=device, dtype=dtype) for shape in shapes)
        return Sample((*tensors, None), label=label)

    B = heads[0] * heads[1]
    moved = B * (N * d + M * d + M * e + N * e)
    return BenchShape(label, make, lambda size: size * moved, 2 * B * N * M * (d + e))


SPEC = register(
    OpSpec(
        name="attention",
        function=_attention,
        reference=attention_reference,
        backends={"triton": (torch.float32, *HALF), "cpu": FLOATING},
        order=2,
        samples=_samples,
        bench=(
            bench_shape((8, 4), 256, 256, 64, 64),  # a transformer critic's
            bench_shape((8, 1), 1024, 256, 32, 128),  # BigGAN's block at 32x32, keys pooled
            bench_shape((1, 1), 4096, 4096, 64, 64),
        ),
        paper="Vaswani et al. 2017, Attention Is All You Need, arXiv:1706.03762, equation 1",
    )
)
