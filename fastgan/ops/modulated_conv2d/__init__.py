"""modulated_conv2d and styled_conv2d: StyleGAN2's convolution, whose weights are scaled per sample by its styles.

A sample's weights w'_oi = s_i w_oi, divided by the norm of each filter (demodulation), would take a grouped convolution
of B times as many weights. The same result, by one ordinary convolution of the whole batch:

    y_o = d_o conv(s x, w)_o,    d_o = 1 / sqrt(sum over i of s_i^2 (sum over taps of w_oi^2) + eps)

The scalings around the convolution, noise, bias and activation are one pass each (`scaled_bias_act`), d is a small
matrix product, the convolution is `convolution` with `upfirdn2d` for another resolution: all exact to any derivative
order.
"""

from typing import NamedTuple

from torch import Tensor

from fastgan.backends import BackendError, select, wanted
from fastgan.ops._common.activations import Activated, resolved
from fastgan.ops._common.precision import compute_dtype
from fastgan.ops.conv2d_resample import Resampling, resampled, result_size
from fastgan.ops.modulated_conv2d import autograd as fused
from fastgan.ops.modulated_conv2d.checks import check, check_noise
from fastgan.ops.modulated_conv2d.filter_norms import demodulation, normalised
from fastgan.ops.scaled_bias_act import scaled_bias_act
from fastgan.ops.scaled_bias_act.backends import Coefficients
from fastgan.ops.upfirdn2d.filter import Padding


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
    resampling = Resampling(up, down, padding, flip_weight=flip_weight)
    tensors = LayerTensors(x, weight, styles, noise, None, None, resample_filter)
    return _layer("modulated_conv2d", tensors, resampling, demodulate, LayerActivation())


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
    resampling = Resampling(up, down, padding, flip_weight=flip_weight)
    tensors = LayerTensors(x, weight, styles, noise, noise_strength, bias, resample_filter)
    return _layer("styled_conv2d", tensors, resampling, demodulate, LayerActivation(act, alpha, gain, clamp))


class LayerTensors(NamedTuple):
    """The arguments of `styled_conv2d` that are tensors."""

    x: Tensor
    weight: Tensor
    styles: Tensor
    noise: Tensor | None
    noise_strength: Tensor | None
    bias: Tensor | None
    resample_filter: Tensor | None


class LayerActivation(NamedTuple):
    """The activation of `styled_conv2d` as it is given; None stands for the activation's default."""

    act: str = "linear"
    alpha: float | None = None
    gain: float | None = None
    clamp: float | None = None


def _layer(
    op: str, tensors: LayerTensors, resampling: Resampling, demodulate: bool, activation: LayerActivation
) -> Tensor:
    """`styled_conv2d` of its arguments in groups; `op` is the public function that was called, for the messages."""
    check(op, tensors)
    x, weight, styles, noise, noise_strength, bias, resample_filter = tensors
    size = result_size(op, x, weight, resampling.up, resampling.down, resampling.padding)
    check_noise(op, noise, (x.shape[0], *size))
    act, alpha, gain, clamp = activation
    defaults = resolved(op, act, alpha, gain, clamp)
    # On the CPU the convolution is PyTorch's; this raises where a forced backend cannot run what there is of ours.
    select("modulated_conv2d", x)
    # The fused kernel has not been measured (docs/gpu-todo.md): until then it runs where it is asked for.
    one_kernel = wanted() == fused.BACKEND
    if one_kernel:
        reason = fused.unsupported(x, weight, resampling.up, resampling.down, resampling.padding)
        if reason is not None:
            raise BackendError(f"fastgan.ops.{op} cannot run on backend 'triton': {reason}")
    weight, styles = weight.to(compute_dtype(x)), styles.to(compute_dtype(x))
    if demodulate:
        weight, styles, eps = normalised(weight, styles, x.dtype)
        scale = demodulation(weight, styles, eps)
    else:
        scale = styles.new_ones(x.shape[0], weight.shape[0])
    if one_kernel:
        noise = noise[None, None] if noise is not None and noise.ndim == 2 else noise
        weight = weight if resampling.flip_weight else weight.flip((2, 3))
        coefficients = Coefficients(scale, noise, noise_strength, bias)
        bound = None if clamp is None else float(clamp)
        return fused.fused(x, weight, styles, coefficients, Activated(act, *defaults, bound))
    z = resampled(scaled_bias_act(x, styles), weight.to(x.dtype), resample_filter, resampling)
    return scaled_bias_act(z, scale, noise, noise_strength, bias, act, alpha, gain, clamp)
