"""bias_act: bias, activation, gain and clamp in one pass over memory.

Eager PyTorch reads and writes the tensor once for each of the four steps between two convolutions of a GAN. The first
two derivatives are kernels too; the third is composed of torch operations. At most one tensor of the size of the
activations is saved (fastgan/ops/_common/activations.py says which).
"""

from typing import Any

from torch import Tensor

from fastgan.backends import select
from fastgan.ops._common.activations import defaults, resolved
from fastgan.ops._common.checks import check_floating
from fastgan.ops.bias_act.autograd import BiasAct
from fastgan.ops.bias_act.backends import BiasActConfig
from fastgan.ops.bias_act.reference import bias_act_reference


def bias_act(
    x: Tensor,  # [..., channels, ...]
    b: Tensor | None = None,  # [channels]
    dim: int = 1,
    act: str = "linear",
    alpha: float | None = None,
    gain: float | None = None,
    clamp: float | None = None,
) -> Tensor:  # like x
    """Adds a bias, applies an activation, scales by a gain and clamps, in that order.

        y = clamp(gain * act(x + b), -clamp, clamp)

    The signature and the defaults are those that users of StyleGAN know. Differentiable to any order: the first two by
    compiled kernels, with no gradient at all (None) from the second derivative of linear, relu and lrelu to x, where it
    is zero almost everywhere. Where the clamp is reached (|y| >= clamp) the slope is zero; docs/kinks.md has the rest.

    Args:
        x: float32, float64, float16 or bfloat16, of any shape; in any memory order without a copy.
        b: one value for each index of dimension `dim` of x, in any floating dtype; None adds nothing.
        dim: the dimension of x that b runs along.
        act: linear, relu, lrelu, tanh, sigmoid, elu, selu, softplus or swish.
        alpha: negative slope of lrelu (default 0.2), >= 0; None for every other activation.
        gain: scale after the activation; default sqrt(2) for relu, lrelu and swish, 1 for the others.
        clamp: bound of the absolute value of the result, >= 0; None for no bound.

    Returns:
        A tensor of the shape, dtype and memory order of x; the arithmetic is float32 (float64 for float64).

    Raises:
        TypeError: an argument is not a floating tensor.
        ValueError: an argument has a wrong shape, name or range.
        fastgan.BackendError: a backend was forced that cannot take these arguments.
    """
    _check(x, b, dim, act, alpha, clamp)
    backend = select("bias_act", x)
    if backend == "reference":
        return bias_act_reference(x, b, dim, act, alpha, gain, clamp)
    alpha, gain = defaults(act, alpha, gain)
    bound = None if clamp is None else float(clamp)
    return BiasAct.apply(x, b, BiasActConfig(dim % x.ndim, act, alpha, gain, bound, backend))


def _check(x: Any, b: Any, dim: int, act: str, alpha: float | None, clamp: float | None) -> None:
    for name, tensor in (("x", x), ("b", b)):
        if tensor is None and name == "b":
            continue
        check_floating("bias_act", name, tensor)
    if x.ndim == 0:
        raise ValueError("bias_act: x has no dimensions, expected at least one")
    if not -x.ndim <= dim < x.ndim:
        raise ValueError(f"bias_act: dim is {dim}, expected a dimension of x, which has {x.ndim}")
    if b is not None and (b.ndim != 1 or b.shape[0] != x.shape[dim]):
        raise ValueError(f"bias_act: b has shape {list(b.shape)}, expected [{x.shape[dim]}] (dimension {dim} of x)")
    if b is not None and b.device != x.device:
        raise ValueError(f"bias_act: b is on {b.device}, expected {x.device} like x")
    resolved("bias_act", act, alpha, None, clamp)
