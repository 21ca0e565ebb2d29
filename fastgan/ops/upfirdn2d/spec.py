"""The OpSpec of upfirdn2d: samples for the tests, shapes for the benchmarks."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from fastgan.ops.upfirdn2d import upfirdn2d
from fastgan.ops.upfirdn2d.filter import setup_filter
from fastgan.ops.upfirdn2d.reference import upfirdn2d_reference
from fastgan.registry import FLOATING, BenchShape, OpSpec, Sample, register


def _samples(device: torch.device, dtype: torch.dtype, generator: torch.Generator) -> Iterator[Sample]:
    # Pixels and taps are positive: no sum cancels, so that a relative error can be asked for.
    def taps(*shape: int) -> Tensor:
        return (torch.rand(shape, generator=generator, dtype=torch.float32) + 0.1).to(device)

    def sample(shape: tuple[int, ...], label: str, f: Tensor | None, **kwargs: Any) -> Sample:
        x = torch.rand(shape, generator=generator, dtype=torch.float64) + 0.1
        return Sample((x.to(device, dtype),), {"f": f, **kwargs}, label=label)

    binomial = setup_filter([1, 3, 3, 1], device)
    outer = torch.outer(taps(3), taps(5))
    yield sample((2, 3, 7, 9), "blur", binomial, padding=(2, 1, 2, 1))
    yield sample((2, 2, 5, 6), "up", binomial, up=2, padding=(2, 1, 2, 1), gain=4)
    yield sample((2, 2, 8, 7), "down", binomial, down=2, padding=1)
    yield sample((2, 3, 4, 5), "not-separable", taps(3, 5), up=(3, 1), down=(2, 3), padding=(3, 1), flip_filter=True)
    yield sample((2, 3, 5, 4), "one-dim", taps(6), up=2, down=3, padding=(4, 5, 2, 7), gain=0.7)
    yield sample((2, 5, 4, 6), "channels-last", outer, up=(1, 2), padding=2).map(_channels_last)
    yield sample((2, 5, 6, 7), "channels-last-down", binomial, down=2, padding=1).map(_channels_last)
    yield sample((2, 3, 4, 4), "channels-last-not-separable", taps(2, 3), down=(1, 2)).map(_channels_last)
    yield sample((1, 2, 5, 6), "outer-product", outer, flip_filter=True, padding=(0, 3, -1, 2), gain=1.7)
    yield sample((2, 2, 6, 9), "cropped", taps(2, 2), up=2, padding=(-3, 1, 2, -4))
    yield sample((2, 2, 3, 2), "filter-beyond-image", taps(9), padding=(5, 4, 3, 6))
    yield sample((1, 2, 3, 2), "large-not-separable", taps(6, 7), up=2, padding=(5, 4))
    yield sample((2, 2, 1, 1), "one-pixel", binomial, up=2, padding=(2, 1, 2, 1))
    yield sample((2, 2, 3, 4), "no-filter", None, up=(2, 3), padding=(1, 0), gain=3)
    yield sample((2, 3, 4, 10), "strided", binomial, padding=2).map(lambda t: t[..., ::2])
    yield sample((5, 3, 4, 6), "transposed", binomial, padding=2).map(lambda t: t.transpose(2, 3))
    yield sample((0, 3, 4, 5), "empty-batch", binomial, up=2, padding=2)
    yield sample((1, 2, 40, 75), "vectors", binomial, padding=(2, 1, 2, 1))
    yield sample((2, 1, 33, 67), "vectors-up", taps(12), up=2, padding=6)
    yield sample((1, 1, 36, 140), "vectors-down", taps(5), down=2)
    yield sample((1, 1, 60, 41), "vectors-not-separable", taps(5, 3), padding=2)
    yield sample((1, 1, 140, 150), "several-items", binomial, padding=2)
    yield sample((1, 20, 5, 6), "wide-pixels", taps(3, 2), down=(2, 1), padding=1).map(_channels_last)
    yield sample((2, 20, 4, 5), "wide-pixels-up", outer, up=(3, 2), down=(1, 3), padding=3).map(_channels_last)
    yield sample((5, 900, 2, 2), "many-small", binomial, padding=(2, 1, 2, 1))
    yield sample((3, 400, 4, 5), "many-small-up", binomial, up=2, padding=(2, 1, 2, 1))
    yield sample((1, 256, 3, 20), "channel-blocks", binomial, up=2, padding=2).map(_channels_last)


def _channels_last(x: Tensor) -> Tensor:
    return x.to(memory_format=torch.channels_last)


def bench_shape(what: str, B: int, C: int, size: int) -> BenchShape:
    """StyleGAN2's filter: "blur", or "up" or "down" by 2."""
    up, down = 2 if what == "up" else 1, 2 if what == "down" else 1
    out = size * up // down
    kwargs = {"up": up, "down": down, "padding": (1, 1) if what == "down" else (2, 1, 2, 1), "gain": up**2}

    def make(device: torch.device, dtype: torch.dtype) -> Sample:
        x = torch.randn(B, C, size, size, device=device, dtype=dtype)
        return Sample((x,), {"f": setup_filter([1, 3, 3, 1], device), **kwargs}, label=what)

    # Columns, then rows: 4 / up taps that do not meet inserted zeros.
    operations = 2 * (4 // up) * B * C * (out * size + out * out)
    return BenchShape(f"{what} {B}x{C}x{size}x{size}", make, lambda item: item * B * C * (size**2 + out**2), operations)


SPEC = register(
    OpSpec(
        name="upfirdn2d",
        function=upfirdn2d,
        reference=upfirdn2d_reference,
        backends={"cpu": FLOATING, "cuda": FLOATING},
        order=None,
        samples=_samples,
        bench=tuple(
            bench_shape(what, *shape)
            for what in ("blur", "up", "down")
            for shape in ((16, 64, 32), (8, 64, 64), (4, 32, 128))
        ),
        paper="Karras et al. 2019, Analyzing and Improving the Image Quality of StyleGAN, arXiv:1912.04958",
    )
)
