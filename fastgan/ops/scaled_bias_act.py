"""scaled_bias_act: scale per sample and channel, noise, bias, activation, gain and clamp in one pass over memory.

It is what surrounds the convolution of a StyleGAN2 layer: before it, the input times the styles; after it, the result
times the demodulation, plus noise and bias, through the activation. Eager PyTorch passes over memory for each step.

The first derivative is a kernel and saves x alone, from which it computes the rest again. Higher ones differentiate the
same formula composed of two steps, `scaled_with_noise` and `bias_act`, whose derivatives are kernels.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastgan import backends
from fastgan.ops import scaled_bias_act_backends as kernels
from fastgan.ops.activations import ACTIVATIONS
from fastgan.ops.bias_act import bias_act_on, bias_act_reference, resolved
from fastgan.ops.checks import check_floating
from fastgan.ops.partial_gradients import partial_gradients
from fastgan.ops.scaled_with_noise import noise_gradient_of, scaled_with_noise, total_like
from fastgan.registry import FLOATING, HALF, BenchShape, OpSpec, Sample, register


class Config(NamedTuple):
    """The arguments that are not tensors, with every default resolved."""

    act: str
    alpha: float
    gain: float
    clamp: float | None
    backend: str


def scaled_bias_act(
    x: Tensor,  # [B, C, *image]
    scale: Tensor,  # [B, C]
    noise: Tensor | None = None,  # [*image] or [1 or B, 1, *image]
    strength: Tensor | None = None,  # one number
    b: Tensor | None = None,  # [C]
    act: str = "linear",
    alpha: float | None = None,
    gain: float | None = None,
    clamp: float | None = None,
) -> Tensor:  # like x
    """Scales each sample's channels, adds noise and a bias, applies an activation and a gain, and clamps.

        y = clamp(gain * act(x * scale + strength * noise + b), -clamp, clamp)

    With `scale` the demodulation coefficients this is the end of StyleGAN2's layer (Karras et al. 2020, Analyzing and
    Improving the Image Quality of StyleGAN, section 2); with the styles and nothing else it is its beginning.
    Differentiable to any order.

    Args:
        x: float32, float64, float16 or bfloat16, with at least one dimension after the channels.
        scale: one value for each sample and channel.
        noise: one value for each pixel, of one image or of every sample; None adds none.
        strength: a tensor with a single element that multiplies the noise; None for 1.
        b: one value for each channel; None adds nothing.
        act, alpha, gain, clamp: as in `bias_act`.

    Returns:
        A tensor of the shape and dtype of x; the arithmetic is float32 (float64 for float64).

    Raises:
        TypeError: an argument is not a floating tensor.
        ValueError: an argument has a wrong shape, device, name or range.
        fastgan.BackendError: a backend was forced that cannot take these arguments.
    """
    noise = check(x, scale, noise, strength, b)
    alpha, gain = resolved("scaled_bias_act", act, alpha, gain, clamp)
    config = Config(act, alpha, gain, None if clamp is None else float(clamp), backends.select(SPEC, x))
    if config.backend == "reference":
        return _composed(x, scale, noise, strength, b, config)
    return _ScaledBiasAct.apply(x, scale, noise, strength, b, config)


def scaled_bias_act_on(
    backend: str, x: Tensor, scale: Tensor, noise: Tensor | None, strength: Tensor | None, b: Tensor | None,
    act: str, alpha: float, gain: float, clamp: float | None,
) -> Tensor:  # fmt: skip
    """`scaled_bias_act` of arguments that were checked and resolved, on a compiled backend that was chosen."""
    return _ScaledBiasAct.apply(x, scale, noise, strength, b, Config(act, alpha, gain, clamp, backend))


def check(x: Any, scale: Any, noise: Any, strength: Any, b: Any) -> Tensor | None:
    """Raises for a wrong argument; returns the noise as [1 or B, 1, *image]."""
    named = {"x": x, "scale": scale, "noise": noise, "strength": strength, "b": b}
    for name, tensor in named.items():
        if tensor is None and name not in ("x", "scale"):
            continue
        check_floating("scaled_bias_act", name, tensor)
        if tensor.device != x.device:
            raise ValueError(f"scaled_bias_act: {name} is on {tensor.device}, expected {x.device} like x")
    if x.ndim < 3:
        raise ValueError(f"scaled_bias_act: x has shape {list(x.shape)}, expected [batch, channels, ...]")
    B, C, image = x.shape[0], x.shape[1], list(x.shape[2:])
    if scale.shape != (B, C):
        raise ValueError(f"scaled_bias_act: scale has shape {list(scale.shape)}, expected {[B, C]}")
    if b is not None and b.shape != (C,):
        raise ValueError(f"scaled_bias_act: b has shape {list(b.shape)}, expected [{C}]")
    if strength is not None and strength.numel() != 1:
        raise ValueError(f"scaled_bias_act: strength has shape {list(strength.shape)}, expected a single element")
    if noise is None:
        return None
    if noise.shape == tuple(image):
        return noise[None, None]
    if noise.shape not in ((1, 1, *image), (B, 1, *image)):
        expected = f"{image}, {[1, 1, *image]} or {[B, 1, *image]}"
        raise ValueError(f"scaled_bias_act: noise has shape {list(noise.shape)}, expected {expected}")
    return noise


def scaled_bias_act_reference(
    x: Tensor,
    scale: Tensor,
    noise: Tensor | None = None,
    strength: Tensor | None = None,
    b: Tensor | None = None,
    act: str = "linear",
    alpha: float | None = None,
    gain: float | None = None,
    clamp: float | None = None,
) -> Tensor:
    """`scaled_bias_act` in plain PyTorch: the oracle, the fallback and what the benchmarks call eager."""
    alpha, gain = resolved("scaled_bias_act", act, alpha, gain, clamp)
    return _composed(x, scale, noise, strength, b, Config(act, alpha, gain, clamp, "reference"))


def _composed(
    x: Tensor, scale: Tensor, noise: Tensor | None, strength: Tensor | None, b: Tensor | None, config: Config
) -> Tensor:
    """The formula in torch operations, or in two that are compiled: differentiable to any order."""
    act, alpha, gain, clamp, backend = config
    parameter = None if ACTIVATIONS[act].default_alpha is None else alpha
    if backend != "reference":
        v = scaled_with_noise(x, scale, noise, strength, backend)
        return bias_act_on(backend, v, b, 1, act, parameter, gain, clamp)
    v = x * scale.to(x.dtype).view(*scale.shape, *(1 for _ in x.shape[2:]))
    if noise is not None:
        noise = noise.to(x.dtype)
        v = v + (noise if strength is None else noise * strength.to(x.dtype).view(()))
    return bias_act_reference(v, b, 1, act, parameter, gain, clamp)


# --- differentiable functions -------------------------------------------------------------------------------------


class _ScaledBiasAct(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Tensor, noise: Tensor | None, strength: Tensor | None, b: Tensor | None,
        config: Config,
    ) -> Tensor:  # fmt: skip
        ctx.save_for_backward(x, scale, noise, strength, b)
        ctx.config = config
        ctx.set_materialize_grads(False)
        return kernels.scaled_bias_act(x, scale, noise, strength, b, *config)

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None) -> tuple[Tensor | None, ...]:
        if dy is None:
            return (None,) * 6
        if torch.is_grad_enabled():  # only with create_graph=True
            composed = partial(_composed, config=ctx.config)
            return *partial_gradients(composed, ctx.saved_tensors, ctx.needs_input_grad, dy), None
        x, scale, noise, strength, b = ctx.saved_tensors
        needs = ctx.needs_input_grad
        dx, sums = kernels.scaled_bias_act_grad(dy, x, scale, noise, strength, b, *ctx.config, False)
        dnoise = noise_gradient(dy, x, scale, noise, strength, b, *ctx.config) if needs[2] else None
        dscale, dstrength, db = gradients_of_sums(sums, scale, strength, b, (needs[1], needs[3], needs[4]))
        return dx if needs[0] else None, dscale, dnoise, dstrength, db, None


def gradients_of_sums(
    sums: Tensor, scale: Tensor, strength: Tensor | None, b: Tensor | None, needs: tuple[bool, bool, bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The gradients of scale, strength and b, where needed, from the kernel's [B, C, 3] (csrc/scaled_bias_act.h)."""
    of_scale, of_strength, of_bias = sums.unbind(2)
    return (
        of_scale.to(scale.dtype) if needs[0] else None,
        of_strength.sum().to(strength.dtype).view_as(strength) if strength is not None and needs[1] else None,
        of_bias.sum(0).to(b.dtype) if b is not None and needs[2] else None,
    )


def noise_gradient(
    dy: Tensor, x: Tensor, scale: Tensor, noise: Tensor, strength: Tensor | None, b: Tensor | None, *config: Any
) -> Tensor:
    """A pass of its own, since noise is drawn, not learnt, in nearly every network."""
    t, _ = kernels.scaled_bias_act_grad(dy, x, scale, noise, strength, b, *config, True)
    return noise_gradient_of(total_like(noise, t), noise, strength)


# --- what the tests and the benchmarks call it with ------------------------------------------------------------------


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
