"""The OpSpec of modulated_conv2d: samples for the tests, shapes for the benchmarks."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from fastgan.ops._common.activations import ACTIVATIONS
from fastgan.ops.modulated_conv2d import autograd as fused
from fastgan.ops.modulated_conv2d import styled_conv2d
from fastgan.ops.modulated_conv2d.reference import styled_conv2d_reference
from fastgan.ops.upfirdn2d.filter import setup_filter
from fastgan.registry import FLOATING, HALF, BenchShape, OpSpec, Sample, register

_SIZES: dict[str, Any] = {"up": 1, "down": 1, "padding": 0}


def _samples(device: torch.device, dtype: torch.dtype, generator: torch.Generator) -> Iterator[Sample]:
    def sample(
        x_shape: tuple[int, ...], outputs: int, kernel: int, label: str, image: tuple[int, int] | None = None,
        bias: bool = True, low: float = -2.5, **kwargs: Any,
    ) -> Sample:  # fmt: skip
        def draw(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64)

        # After demodulation the results are about as large as x: the bias keeps them away from an activation's kink.
        x, weight = 0.25 * draw(*x_shape), draw(outputs, x_shape[1], kernel, kernel)
        styles = 1 + 0.3 * draw(*x_shape[:2]).tanh()
        b = torch.tensor([2.5, low], dtype=torch.float64).repeat(outputs)[:outputs] if bias else None
        noise, strength = (None, None) if image is None else (draw(*image), torch.tensor([0.1], dtype=torch.float64))
        if "resample_filter" in kwargs:
            kwargs["resample_filter"] = kwargs["resample_filter"].to(device)
        tensors = (x, weight, styles, noise, strength, b)
        return Sample(tuple(None if t is None else t.to(device, dtype) for t in tensors), kwargs, label)

    up: dict[str, Any] = {"up": 2, "resample_filter": setup_filter([1, 3, 3, 1]), "flip_weight": False}
    down: dict[str, Any] = {"down": 2, "resample_filter": setup_filter([1, 3, 3, 1])}
    yield sample((2, 2, 3, 4), 2, 3, "layer", (3, 4), padding=1, act="lrelu", clamp=8.0)
    # The bias depends on itself in the second derivative of a smooth activation alone; it clamps one of two channels.
    # The other is not where swish is flat, and its slope small beside the last place of the argument.
    yield sample((2, 2, 3, 3), 2, 3, "smooth-clamp", (3, 3), low=-0.5, padding=1, act="swish", clamp=1.0)
    yield sample((1, 2, 2, 3), 2, 3, "up", (4, 6), padding=1, act="lrelu", **up)
    yield sample((1, 2, 4, 2), 2, 3, "down", padding=1, act="swish", **down)
    yield sample((2, 3, 2, 2), 2, 1, "to-rgb", demodulate=False, clamp=8.0)
    yield sample((1, 2, 3, 2), 1, 3, "asymmetric-padding", bias=False, padding=(2, 0, 1, 0))
    yield sample((0, 2, 3, 4), 2, 3, "empty-batch", padding=1, act="lrelu")


def _kinks(device: torch.device, dtype: torch.dtype) -> Iterator[Sample]:
    """Those of the activation, after a convolution that changes nothing."""
    z = torch.tensor([-2, -1, -0.5, -0.0, 0.0, 0.5, 1, 2], dtype=dtype, device=device).view(1, 1, 2, 4)
    one = torch.ones(1, 1, dtype=dtype, device=device)
    for act in ACTIVATIONS:
        for clamp in (None, 1.0):
            kwargs = {"act": act, "alpha": 0.5 if act == "lrelu" else None, "gain": 2.0, "clamp": clamp}
            tensors = (z, one[..., None, None], one, None, None, None)
            yield Sample(tensors, {"demodulate": False, **kwargs}, f"{kwargs}", smooth=False)


def _refuses(backend: str, sample: Sample) -> str | None:
    if backend != fused.BACKEND:
        return None
    x, weight = sample.tensors[:2]
    assert x is not None
    assert weight is not None
    return fused.unsupported(x, weight, *(sample.kwargs.get(name, default) for name, default in _SIZES.items()))


def bench_shape(label: str, B: int, inputs: int, outputs: int, R: int, up: int = 1) -> BenchShape:
    low = R // up

    def make(device: torch.device, dtype: torch.dtype) -> Sample:
        def draw(*size: int) -> Tensor:
            return torch.randn(size, device=device, dtype=dtype)

        x, weight, styles = draw(B, inputs, low, low), draw(outputs, inputs, 3, 3), 1 + 0.3 * draw(B, inputs)
        kwargs: dict[str, Any] = {"padding": 1, "act": "lrelu", "clamp": 256.0}
        if up > 1:
            kwargs |= {"up": up, "resample_filter": setup_filter([1, 3, 3, 1], device), "flip_weight": False}
        return Sample((x, weight, styles, draw(R, R), draw(1), draw(outputs)), kwargs, label=label)

    elements = B * inputs * low * low + B * outputs * R * R + 9 * inputs * outputs
    return BenchShape(label, make, lambda size: size * elements, 18 * B * inputs * outputs * low * low)


SPEC = register(
    OpSpec(
        name="modulated_conv2d",
        function=styled_conv2d,  # all that modulated_conv2d does and more
        reference=styled_conv2d_reference,
        backends={"cpu": FLOATING, "triton": (torch.float32, *HALF)},
        order=None,
        samples=_samples,
        kinks=_kinks,
        composed=("cpu",),
        refuses=_refuses,
        bench=(
            bench_shape("4x512x8x8", 4, 512, 512, 8),
            bench_shape("16x128x32x32", 16, 128, 128, 32),
            bench_shape("8x64x64x64", 8, 64, 64, 64),
            bench_shape("4x32x128x128", 4, 32, 32, 128),
            bench_shape("8x128->64x64x64 up", 8, 128, 64, 64, up=2),
        ),
        paper="Karras et al. 2020, Analyzing and Improving the Image Quality of StyleGAN, section 2.2",
    )
)
