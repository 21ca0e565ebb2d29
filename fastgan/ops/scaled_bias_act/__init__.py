"""scaled_bias_act: scale per sample and channel, noise, bias, activation, gain and clamp in one pass over memory.

It is what surrounds the convolution of a StyleGAN2 layer: before it, the input times the styles; after it, the result
times the demodulation, plus noise and bias, through the activation. Eager PyTorch passes over memory for each step.

The first derivative is a kernel and saves x alone, from which it computes the rest again. Higher ones differentiate the
same formula composed of two steps, `scaled_with_noise` and `bias_act`, whose derivatives are kernels.
"""

from torch import Tensor

from fastgan.backends import select
from fastgan.ops._common.activations import resolved
from fastgan.ops.scaled_bias_act.autograd import ScaledBiasAct
from fastgan.ops.scaled_bias_act.backends import ScaledBiasActConfig
from fastgan.ops.scaled_bias_act.checks import check
from fastgan.ops.scaled_bias_act.reference import scaled_bias_act_reference


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
    numbers = resolved("scaled_bias_act", act, alpha, gain, clamp)
    backend = select("scaled_bias_act", x)
    if backend == "reference":
        return scaled_bias_act_reference(x, scale, noise, strength, b, act, alpha, gain, clamp)
    config = ScaledBiasActConfig(act, *numbers, None if clamp is None else float(clamp), backend)
    return ScaledBiasAct.apply(x, scale, noise, strength, b, config)
