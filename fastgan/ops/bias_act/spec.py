"""The OpSpec of bias_act: samples for the tests, shapes for the benchmarks."""

import math
from collections.abc import Iterator
from typing import Any

import torch

from fastgan.ops._common.activations import ACTIVATIONS
from fastgan.ops.bias_act import bias_act
from fastgan.ops.bias_act.reference import bias_act_eager, bias_act_reference
from fastgan.registry import FLOATING, HALF, BenchShape, OpSpec, Sample, register


def _samples(device: torch.device, dtype: torch.dtype, generator: torch.Generator) -> Iterator[Sample]:
    bias = torch.linspace(-0.02, 0.02, 6, dtype=torch.float64)

    def sample(shape: tuple[int, ...], label: str, with_bias: bool = True, dim: int = 1, **kwargs: Any) -> Sample:
        x = torch.randn(shape, generator=generator, dtype=torch.float64)
        b = bias if with_bias else None
        # Away from the kinks, at z = 0 and where the clamp sets in, so that finite differences and rounding to a low
        # precision do not cross them.
        x = x + 0.05 * torch.sign(x)
        clamp = kwargs.get("clamp")
        if clamp is not None:
            y = bias_act_reference(x, b, dim, **{**kwargs, "clamp": None})
            x = torch.where((y.abs() - clamp).abs() < 0.05, 0.3, x)
        return Sample((x.to(device, dtype), None if b is None else b.to(device, dtype)), {"dim": dim, **kwargs}, label)

    # 0.65 rounds down in float16 and bfloat16: a clamped result is below it.
    for act in ACTIVATIONS:
        yield sample((2, 6, 3, 3), act, act=act)
        yield sample((2, 6, 5), f"{act}-clamp", act=act, gain=0.9, clamp=0.65)
    yield sample((3, 6), "no-bias", with_bias=False, act="swish", gain=-1.5)
    yield sample((4, 6), "alpha-0", act="lrelu", alpha=0.0)
    yield sample((4, 6), "gain-0", act="tanh", gain=0.0)
    yield sample((2, 3, 6), "last-dim", dim=-1, act="elu")
    yield sample((6, 2, 3), "first-dim", dim=0, act="tanh", gain=2.0)
    yield sample((6,), "one-dim", dim=0, act="sigmoid")
    yield sample((3, 6, 37, 41), "several-blocks", act="selu")
    yield sample((0, 6, 4), "empty-batch", act="lrelu")
    yield sample((2, 6, 0), "no-positions", act="elu")
    yield sample((2, 0), "no-channels", with_bias=False, act="lrelu", clamp=1.0)
    yield sample((2, 6, 4, 3), "channels-last", act="softplus", clamp=1.0).map(
        lambda x: x.to(memory_format=torch.channels_last) if x.ndim == 4 else x
    )
    yield sample((2, 6, 4, 6), "strided", act="sigmoid").map(lambda x: x[..., ::2] if x.ndim == 4 else x)
    yield sample((2, 6, 3), "transposed", act="lrelu").map(
        lambda x: x.transpose(0, 2).contiguous().transpose(0, 2) if x.ndim == 3 else x
    )


def _kinks(device: torch.device, dtype: torch.dtype) -> Iterator[Sample]:
    """x + b = 0, results at the clamp, and infinity, in numbers that every dtype has."""
    z = [-math.inf, -2, -1, -0.5, -0.0, 0.0, 0.5, 1, 2, math.inf]
    x = torch.tensor(z, dtype=dtype, device=device).view(1, 1, -1)
    half = torch.tensor([0.5], dtype=dtype, device=device)
    for act in ACTIVATIONS:
        # Reached: a clamp of 1 at 0.5 with a gain of 2, at 0 by sigmoid, at -1 by lrelu; with a gain of 1 at infinity
        # by tanh.
        clamped = (2.0, 1.0, None), (1.0, 1.0, half), (1.0, 0.0, None)
        for gain, clamp, b in ((1.0, None, None), (-2.0, None, half), *clamped):
            kwargs = {"act": act, "alpha": 0.5 if act == "lrelu" else None, "gain": gain, "clamp": clamp}
            yield Sample((x if b is None else x - b, b), kwargs, f"{kwargs}, b = {b}", smooth=False)


def bench_shape(label: str, shape: tuple[int, ...], act: str, clamp: float | None = None) -> BenchShape:
    def make(device: torch.device, dtype: torch.dtype) -> Sample:
        x = torch.randn(shape, device=device, dtype=dtype)
        b = torch.randn(shape[1], device=device, dtype=dtype)
        return Sample((x, b), {"act": act, "clamp": clamp}, label=label)

    elements = math.prod(shape)
    return BenchShape(label, make, lambda size: 2 * size * elements, 4 * elements)


SPEC = register(
    OpSpec(
        name="bias_act",
        function=bias_act,
        reference=bias_act_reference,
        backends={"cpu": FLOATING, "triton": (torch.float32, *HALF)},
        order=None,
        samples=_samples,
        kinks=_kinks,
        eager=bias_act_eager,
        bench=(
            bench_shape("lrelu 64x64", (64, 64), "lrelu"),
            bench_shape("lrelu 64x128x8x8", (64, 128, 8, 8), "lrelu"),
            bench_shape("lrelu+clamp 32x64x32x32", (32, 64, 32, 32), "lrelu", 256.0),
            bench_shape("lrelu+clamp 16x128x64x64", (16, 128, 64, 64), "lrelu", 256.0),
            bench_shape("swish 32x64x32x32", (32, 64, 32, 32), "swish"),
        ),
        paper="Karras et al. 2020, Analyzing and Improving the Image Quality of StyleGAN",
    )
)
