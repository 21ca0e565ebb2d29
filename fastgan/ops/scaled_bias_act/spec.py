"""The OpSpec of scaled_bias_act: samples for the tests, shapes for the benchmarks."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from fastgan.ops._common.activations import ACTIVATIONS
from fastgan.ops.bias_act.reference import bias_act_reference
from fastgan.ops.scaled_bias_act import scaled_bias_act
from fastgan.ops.scaled_bias_act.checks import check
from fastgan.ops.scaled_bias_act.reference import scaled_bias_act_reference
from fastgan.registry import FLOATING, HALF, BenchShape, OpSpec, Sample, register


def _samples(device: torch.device, dtype: torch.dtype, generator: torch.Generator) -> Iterator[Sample]:
    def sample(
        shape: tuple[int, ...], label: str, noise: tuple[int, ...] | None = None, strength: bool = False,
        bias: bool = True, **kwargs: Any,
    ) -> Sample:  # fmt: skip
        def draw(size: tuple[int, ...]) -> Tensor:
            return torch.randn(size, generator=generator, dtype=torch.float64)

        scale = 0.7 + 0.3 * draw(shape[:2]).tanh()
        n = None if noise is None else 0.5 * draw(noise)
        sigma = torch.tensor([0.3], dtype=torch.float64) if strength else None
        b = torch.linspace(-0.1, 0.1, shape[1], dtype=torch.float64) if bias else None
        v = draw(shape)
        v = v + 0.06 * torch.sign(v)  # away from the kink at 0, so that rounding and finite differences do not cross it
        clamp = kwargs.get("clamp")
        if clamp is not None:
            y = bias_act_reference(v, None, 1, **{**kwargs, "clamp": None})
            v = torch.where((y.abs() - clamp).abs() < 0.06, 0.3, v)
        rest = scaled_bias_act_reference(
            torch.zeros_like(v), scale, None if n is None else check(v, scale, n, sigma, b), sigma, b
        )
        x = (v - rest) / scale.view(*scale.shape, *(1 for _ in shape[2:]))
        tensors = (x, scale, n, sigma, b)
        return Sample(tuple(None if t is None else t.to(device, dtype) for t in tensors), kwargs, label)

    # The gradient of the strength is a sum over everything, which cancels: only few samples have one.
    for act in ACTIVATIONS:
        yield sample((2, 3, 5, 4), act, noise=(5, 4), act=act)
        yield sample((2, 3, 4, 5), f"{act}-clamp", noise=(2, 1, 4, 5), act=act, gain=0.9, clamp=0.65)
    yield sample((2, 4, 3, 3), "scale-alone", bias=False)
    yield sample((2, 4, 7), "one-dim", noise=(1, 1, 7), strength=True, act="lrelu", alpha=0.1)
    yield sample((2, 2, 70, 67), "several-tasks", noise=(70, 67), act="lrelu", clamp=2.0)
    yield sample((3, 40, 4, 4), "small-planes", noise=(3, 1, 4, 4), act="lrelu")
    yield sample((0, 4, 3, 3), "empty-batch", noise=(3, 3), act="lrelu")
    yield sample((2, 4, 0, 3), "no-positions", noise=(0, 3), act="lrelu")
    yield sample((2, 4, 3, 5), "channels-last", noise=(3, 5), strength=True, act="lrelu").map(
        lambda t: t.to(memory_format=torch.channels_last) if t.ndim == 4 else t
    )
    yield sample((2, 4, 3, 6), "strided", act="lrelu").map(lambda t: t[..., ::2] if t.ndim == 4 else t)


def _kinks(device: torch.device, dtype: torch.dtype) -> Iterator[Sample]:
    """Those of bias_act, reached by all that is added up."""
    z = torch.tensor([-2, -1, -0.5, -0.0, 0.0, 0.5, 1, 2], dtype=torch.float64)
    scale, noise, sigma, b = (torch.tensor([n], dtype=torch.float64) for n in (2.0, 2.0, 0.5, 0.5))
    for act in ACTIVATIONS:
        for clamp in (None, 1.0):
            kwargs = {"act": act, "alpha": 0.5 if act == "lrelu" else None, "gain": 2.0, "clamp": clamp}
            tensors = ((z - 1.5).view(1, 1, -1) / 2, scale.view(1, 1), noise.expand(len(z)), sigma, b)
            yield Sample(tuple(t.to(device, dtype) for t in tensors), kwargs, f"{kwargs}", smooth=False)


def bench_shape(label: str, B: int, C: int, R: int) -> BenchShape:
    def make(device: torch.device, dtype: torch.dtype) -> Sample:
        def draw(*size: int) -> Tensor:
            return torch.randn(size, device=device, dtype=dtype)

        tensors = (draw(B, C, R, R), draw(B, C), draw(R, R), draw(1), draw(C))
        return Sample(tensors, {"act": "lrelu", "clamp": 256.0}, label=label)

    return BenchShape(label, make, lambda size: 2 * size * B * C * R * R, 8 * B * C * R * R)


SPEC = register(
    OpSpec(
        name="scaled_bias_act",
        function=scaled_bias_act,
        reference=scaled_bias_act_reference,
        backends={"cpu": FLOATING, "triton": (torch.float32, *HALF)},
        order=None,
        samples=_samples,
        kinks=_kinks,
        bench=(
            bench_shape("16x512x8x8", 16, 512, 8),
            bench_shape("16x128x32x32", 16, 128, 32),
            bench_shape("8x64x64x64", 8, 64, 64),
            bench_shape("4x32x128x128", 4, 32, 128),
        ),
        paper="Karras et al. 2020, Analyzing and Improving the Image Quality of StyleGAN, section 2",
    )
)
