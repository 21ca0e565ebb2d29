"""modulated_conv2d and styled_conv2d: StyleGAN2's convolution, whose weights are scaled per sample by its styles.

A sample's weights w'_oi = s_i w_oi, divided by the norm of each filter (demodulation), would take a grouped convolution
of B times as many weights. The same result, by one ordinary convolution of the whole batch:

    y_o = d_o conv(s x, w)_o,    d_o = 1 / sqrt(sum over i of s_i^2 (sum over taps of w_oi^2) + eps)

The scalings around the convolution, noise, bias and activation are one pass each (`scaled_bias_act`), d is a small
matrix product, the convolution is `convolution` with `upfirdn2d` for another resolution: all exact to any derivative
order.
"""

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from fastgan import backends
from fastgan.ops import modulated_conv2d_fused as fused
from fastgan.ops._common.activations import ACTIVATIONS, resolved
from fastgan.ops._common.autocast import autocasts
from fastgan.ops._common.checks import check_floating
from fastgan.ops._common.precision import compute_dtype
from fastgan.ops.conv2d_resample import resampled, result_size
from fastgan.ops.scaled_bias_act import scaled_bias_act
from fastgan.ops.upfirdn2d.filter import Padding, check_filter, setup_filter
from fastgan.registry import FLOATING, HALF, BenchShape, OpSpec, Sample, register

EPS = 1e-8
_SIZES: dict[str, Any] = {"up": 1, "down": 1, "padding": 0}


def modulated_conv2d(
    x: Tensor,  # [B, I, H, W]
    weight: Tensor,  # [O, I, kh, kw]
    styles: Tensor,  # [B, I]
    noise: Tensor | None = None,  # [H', W'], or [1 or B, 1, H', W']
    up: int = 1,
    down: int = 1,
    padding: Padding = 0,
    resample_filter: Tensor | None = None,
    demodulate: bool = True,
    flip_weight: bool = True,
) -> Tensor:  # [B, O, H', W']
    """A convolution whose weights are scaled by each sample's styles and, with `demodulate`, to unit norm per filter.

    The signature is the one that users of StyleGAN2-ADA know. Karras et al. 2020, Analyzing and Improving the Image
    Quality of StyleGAN, arXiv:1912.04958, section 2.2, equations 1 and 3.

    Args:
        x: any floating dtype.
        weight, styles: any floating dtype; the coefficients are computed in float32 (float64 for float64).
        noise: added to the result; None adds none.
        up, down, padding, resample_filter, flip_weight: as in `conv2d_resample`.
        demodulate: whether each filter is divided by the root of its squared norm plus 1e-8, as in the published code.

    Returns:
        A tensor of the dtype of x.

    Raises:
        TypeError: an argument is not a floating tensor.
        ValueError: an argument has a wrong shape or range.
        fastgan.BackendError: a backend was forced that cannot take these arguments.
    """
    return _layer(
        "modulated_conv2d", x, weight, styles, noise, up=up, down=down, padding=padding,
        resample_filter=resample_filter, demodulate=demodulate, flip_weight=flip_weight,
    )  # fmt: skip


def styled_conv2d(
    x: Tensor,
    weight: Tensor,
    styles: Tensor,
    noise: Tensor | None = None,
    noise_strength: Tensor | None = None,  # one number
    bias: Tensor | None = None,  # [O]
    up: int = 1,
    down: int = 1,
    padding: Padding = 0,
    resample_filter: Tensor | None = None,
    demodulate: bool = True,
    flip_weight: bool = True,
    act: str = "linear",
    alpha: float | None = None,
    gain: float | None = None,
    clamp: float | None = None,
) -> Tensor:
    """`modulated_conv2d` with everything that a layer of StyleGAN2 does to its result, in the same pass over memory.

        y = clamp(gain * act(modulated_conv2d(x, weight, styles) + noise_strength * noise + bias), -clamp, clamp)

    Args:
        x, weight, styles, up, down, padding, resample_filter, demodulate, flip_weight: as in `modulated_conv2d`.
        noise, act, alpha, gain, clamp: as in `scaled_bias_act`.
        noise_strength: a tensor with a single element that multiplies the noise; None for 1.
        bias: one value for each output channel; None adds nothing.

    Returns:
        [B, O, H', W'] in the dtype of x; channels_last from the fused kernel.

    `with fastgan.backend("triton")` runs the whole layer as one kernel on a GPU where the size is kept (up = down = 1,
    a kernel of 3x3 or 1x1 with a padding of 1 or 0), and raises elsewhere.

    Raises:
        TypeError, ValueError, fastgan.BackendError: as `modulated_conv2d`.
    """
    return _layer(
        "styled_conv2d", x, weight, styles, noise, noise_strength, bias, up=up, down=down, padding=padding,
        resample_filter=resample_filter, demodulate=demodulate, flip_weight=flip_weight,
        act=act, alpha=alpha, gain=gain, clamp=clamp,
    )  # fmt: skip


def _layer(
    op: str, x: Tensor, weight: Tensor, styles: Tensor, noise: Tensor | None, noise_strength: Tensor | None = None,
    bias: Tensor | None = None, *, up: int, down: int, padding: Padding, resample_filter: Tensor | None,
    demodulate: bool, flip_weight: bool, act: str = "linear", alpha: float | None = None, gain: float | None = None,
    clamp: float | None = None,
) -> Tensor:  # fmt: skip
    """`styled_conv2d` by the name under which it was called, `op`."""
    _check(op, x, weight, styles, resample_filter, bias=bias, noise_strength=noise_strength, noise=noise)
    size = result_size(op, x, weight, up, down, padding)
    _check_noise(op, noise, (x.shape[0], *size))
    defaults = resolved(op, act, alpha, gain, clamp)
    # On the CPU the convolution is PyTorch's; this raises where a forced backend cannot run what there is of ours.
    backends.select("modulated_conv2d", x)
    # The fused kernel has not been measured (docs/gpu-todo.md): until then it runs where it is asked for.
    one_kernel = backends.wanted() == fused.BACKEND
    if one_kernel:
        reason = fused.unsupported(x, weight, up, down, padding)
        if reason is not None:
            raise backends.BackendError(f"fastgan.ops.{op} cannot run on backend 'triton': {reason}")
    weight, styles = weight.to(compute_dtype(x)), styles.to(compute_dtype(x))
    if demodulate:
        weight, styles, eps = _normalised(weight, styles, x.dtype)
        scale = demodulation(weight, styles, eps)
    else:
        scale = styles.new_ones(x.shape[0], weight.shape[0])
    if one_kernel:
        noise = noise[None, None] if noise is not None and noise.ndim == 2 else noise
        config = fused.Config(act, *defaults, None if clamp is None else float(clamp))
        weight = weight if flip_weight else weight.flip((2, 3))
        return fused.fused(x, weight, styles, scale, noise, noise_strength, bias, config)
    z = resampled(
        scaled_bias_act(x, styles), weight.to(x.dtype), resample_filter, up, down, padding, flip_weight=flip_weight
    )
    return scaled_bias_act(z, scale, noise, noise_strength, bias, act, alpha, gain, clamp)


def _check(op: str, x: Any, weight: Any, styles: Any, f: Any, **optional: Any) -> None:
    given = {name: tensor for name, tensor in optional.items() if tensor is not None}
    for name, tensor in {"x": x, "weight": weight, "styles": styles, **given}.items():
        check_floating(op, name, tensor)
        if tensor.device != x.device:
            raise ValueError(f"{op}: {name} is on {tensor.device}, expected {x.device} like x")
    check_filter(op, f, x.device, "resample_filter")
    if x.ndim != 4 or 0 in x.shape[1:]:
        raise ValueError(f"{op}: x has shape {list(x.shape)}, expected [batch, channels, height, width]")
    if weight.ndim != 4 or 0 in weight.shape or weight.shape[1] != x.shape[1]:
        raise ValueError(f"{op}: weight has shape {list(weight.shape)}, expected [out, {x.shape[1]}, height, width]")
    if styles.shape != x.shape[:2]:
        raise ValueError(f"{op}: styles has shape {list(styles.shape)}, expected {list(x.shape[:2])}")
    bias, strength = optional["bias"], optional["noise_strength"]
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"{op}: bias has shape {list(bias.shape)}, expected [{weight.shape[0]}]")
    if strength is not None and strength.numel() != 1:
        raise ValueError(f"{op}: noise_strength has shape {list(strength.shape)}, expected a single element")


def _check_noise(op: str, noise: Tensor | None, result: tuple[int, int, int]) -> None:
    """`result` is its batch size, height and width."""
    B, H, W = result
    if noise is not None and noise.shape not in ((H, W), (1, 1, H, W), (B, 1, H, W)):
        raise ValueError(
            f"{op}: noise has shape {list(noise.shape)}, expected {[H, W]}, {[1, 1, H, W]} or "
            f"{[B, 1, H, W]}, with the size of the result"
        )


def styled_conv2d_reference(*tensors: Tensor | None, **kwargs: Any) -> Tensor:
    """`styled_conv2d` with every step in plain PyTorch: the oracle, the fallback and what the benchmarks call eager."""
    with backends.backend("reference"):
        return styled_conv2d(*tensors, **kwargs)  # type: ignore[arg-type]


def demodulation(weight: Tensor, styles: Tensor, eps: float | Tensor = EPS) -> Tensor:
    """What the filters' norms are divided out by: [O, I, kh, kw] and [B, I] -> [B, O].

    Not in half precision, where squares overflow, under torch.autocast neither. Differentiable to any order.
    """
    device = weight.device.type
    with torch.autocast(device, enabled=False) if autocasts(device) else nullcontext():
        squares = weight.square().sum((2, 3))  # [O, I]
        return (styles.square() @ squares.t() + eps).rsqrt()


def _normalised(weight: Tensor, styles: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, float | Tensor]:
    """Weights and styles for a result that is the same after demodulation, small enough for float16 on the way.

    float16 ends at 65,504, which a sum of a thousand products with styles of 10 exceeds. Every filter is divided by its
    largest weight times the root of its fan-in, every sample's styles by the largest. eps is divided likewise, so that
    the result does not depend on these divisors: they are constants to the gradient, exactly.
    """
    if dtype != torch.float16:
        return weight, styles, EPS
    filters = weight.detach().abs().amax((1, 2, 3), keepdim=True) * weight[0].numel() ** 0.5  # [O, 1, 1, 1]
    samples = styles.detach().abs().amax(1, keepdim=True)  # [B, 1]
    filters, samples = (torch.where(t > 0, t, 1.0) for t in (filters, samples))
    return weight / filters, styles / samples, EPS / (samples * filters.view(1, -1)).square()


# --- what the tests and the benchmarks call it with ------------------------------------------------------------------


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
