"""The OpSpec of frozen_bias_act: samples for the tests, shapes for the benchmarks."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from fastgan.ops.frozen_bias_act import bias_act_with_mask, frozen_bias_act
from fastgan.ops.frozen_bias_act.reference import frozen_bias_act_reference
from fastgan.registry import FLOATING, HALF, BenchShape, OpSpec, Sample, register


def _samples(device: torch.device, dtype: torch.dtype, generator: torch.Generator) -> Iterator[Sample]:
    def sample(
        shape: tuple[int, ...], label: str, with_bias: bool = True, samples: int | None = None, dim: int = 1,
        arrange: Callable[[Tensor], Tensor] = lambda x: x, **kwargs: Any,
    ) -> Sample:  # fmt: skip
        """`arrange` changes the memory order of the x that the mask is made from."""
        x = arrange(torch.randn(shape, generator=generator).to(device, dtype))
        b = torch.linspace(-0.4, 0.4, shape[dim], dtype=torch.float64).to(device, dtype) if with_bias else None
        s = None if samples is None else torch.linspace(-1, 1.5, samples, dtype=torch.float32, device=device)
        mask = bias_act_with_mask(x, b, dim, **kwargs)[1]
        u = torch.randn(shape, generator=generator, dtype=torch.float64)
        # Away from what s b may cancel, so that a small difference of large numbers is no sample's result.
        u = u + torch.sign(u)
        return Sample((u.to(device, dtype), b), {"s": s, "mask": mask, "dim": dim, **kwargs}, label)

    def channels_last(x: Tensor) -> Tensor:
        return x.to(memory_format=torch.channels_last) if x.ndim == 4 else x

    yield sample((2, 6, 3, 3), "lrelu", samples=2, act="lrelu")
    yield sample((4, 6, 5), "relu-folded", samples=2, act="relu")
    yield sample((2, 6, 4), "linear-ones", act="linear", gain=0.7)
    yield sample((3, 6, 5), "lrelu-clamp", samples=3, act="lrelu", alpha=0.1, gain=0.9, clamp=0.65)
    yield sample((2, 6, 4, 3), "channels-last", samples=2, arrange=channels_last, act="lrelu", clamp=1.0)
    yield sample((3, 2, 6), "last-dim", samples=3, dim=-1, act="relu")
    yield sample((3, 6, 5), "linear-clamp", samples=3, act="linear", gain=-1.5, clamp=0.8)
    yield sample((3, 6), "no-bias", with_bias=False, samples=3, act="relu", gain=1.0)
    yield sample((3, 6, 7), "no-bias-clamp", with_bias=False, samples=1, act="lrelu", alpha=0.0, clamp=0.5)
    yield sample((6, 3), "first-dim", samples=3, dim=0, act="lrelu")
    yield sample((6,), "one-dim", samples=3, dim=0, act="lrelu", clamp=0.6)
    yield sample((4, 6, 29, 37), "several-blocks", samples=4, act="lrelu")
    yield sample((3, 12, 7, 7), "images-7x7", samples=3, arrange=channels_last, act="relu")
    yield sample((40, 3, 7, 7), "short-rows", samples=20, act="lrelu", clamp=0.7)
    yield sample((700, 13), "features", samples=700, act="lrelu")
    yield sample((0, 6, 4), "empty-batch", samples=0, act="lrelu", clamp=1.0)
    yield sample((3, 6, 0), "no-positions", samples=3, act="lrelu", clamp=1.0)
    yield sample((2, 6, 4, 3), "strided-u", samples=2, arrange=channels_last, act="lrelu").map(
        lambda u: u.transpose(0, 3).contiguous().transpose(0, 3) if u.ndim == 4 else u
    )
    yield sample((2, 6, 4, 3), "contiguous-mask", samples=1, act="relu", clamp=1.5).map(channels_last)


def _kinks(device: torch.device, dtype: torch.dtype) -> Iterator[Sample]:
    """The mask is made exactly on the kinks."""
    x = torch.tensor([[-math.inf, -2, -1, -0.5, -0.0, 0.0, 0.5, 1, 2, math.inf]], dtype=dtype, device=device)
    u = torch.linspace(-1.25, 1, x.numel(), dtype=torch.float64, device=device).to(dtype).view_as(x)
    for act in ("linear", "relu", "lrelu"):
        for gain, clamp in ((1.0, None), (-2.0, None), (2.0, 1.0), (1.0, 1.0), (1.0, 0.0), (0.5, math.inf)):
            alpha = 0.5 if act == "lrelu" else None
            kwargs: dict[str, Any] = {"act": act, "alpha": alpha, "gain": gain, "clamp": clamp}
            mask = bias_act_with_mask(x, None, **kwargs)[1]
            yield Sample((u, None), {"s": None, "mask": mask, **kwargs}, f"{kwargs}", smooth=False)


def bench_shape(label: str, shape: tuple[int, ...]) -> BenchShape:
    def make(device: torch.device, dtype: torch.dtype) -> Sample:
        x, u = (torch.randn(shape, device=device, dtype=dtype) for _ in range(2))
        b = torch.randn(shape[1], device=device, dtype=dtype)
        s = torch.rand(shape[0], dtype=torch.float32, device=device)
        mask = bias_act_with_mask(x, b)[1]
        return Sample((u, b), {"s": s, "mask": mask, "act": "lrelu"}, label=label)

    elements = math.prod(shape)
    return BenchShape(label, make, lambda size: 2 * size * elements + elements // 8, 4 * elements)


SPEC = register(
    OpSpec(
        name="frozen_bias_act",
        function=frozen_bias_act,
        reference=frozen_bias_act_reference,
        backends={"cpu": FLOATING, "triton": (torch.float32, *HALF)},
        order=None,
        samples=_samples,
        kinks=_kinks,
        bench=(
            bench_shape("lrelu 32x64x32x32", (32, 64, 32, 32)),
            bench_shape("lrelu 64x128x8x8", (64, 128, 8, 8)),
        ),
        paper="Gulrajani et al. 2017, Improved Training of Wasserstein GANs: the penalty that it serves",
    )
)
