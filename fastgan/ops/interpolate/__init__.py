"""interpolate: a random point on the line between each sample of one batch and its partner of another.

WGAN-GP penalises the critic's gradient at such points. Eager PyTorch draws the weights and makes three more passes
over memory; here they are drawn inside the one pass, from a counter-based generator, and drawn again in the derivatives
instead of being saved.
"""

from typing import Any

from torch import Tensor

from fastgan.backends import select
from fastgan.ops._common.checks import check_floating
from fastgan.ops.interpolate.autograd import Interpolate
from fastgan.ops.interpolate.reference import interpolate_reference, interpolation_weights, seed_tensor

__all__ = ["interpolate", "interpolation_weights"]


def interpolate(
    x: Tensor,  # [B, ...]
    y: Tensor,  # [B, ...]
    seed: int | Tensor,
) -> Tensor:  # like x
    """Mixes two batches with one random weight for each sample.

        o_i = e_i x_i + (1 - e_i) y_i,    e_i ~ U[0, 1)

    Gulrajani et al. 2017, Improved Training of Wasserstein GANs, arXiv:1704.00028. The weight is per sample, as in the
    paper's algorithm 1: one weight for the whole batch, or one for each pixel, is a frequent mistake. `e_i` depends on
    the seed and on i alone, not on backend, dtype or shape: `interpolation_weights` returns it. Differentiable to any
    order, with respect to x and y.

    Args:
        x: float32, float64, float16 or bfloat16, contiguous or channels_last without a copy.
        y: of the shape, dtype and device of x.
        seed: 64 bits; the same seed draws the same weights. Or an int64 tensor of one element on the device of x, which
            is read by the kernel without a synchronisation: a CUDA graph draws new weights once it has changed. It must
            not change between forward and backward.

    Returns:
        A tensor of the shape and dtype of x; the arithmetic is float32 (float64 for float64).

    Raises:
        TypeError: x or y is not a floating tensor, their dtypes differ, or seed is no integer.
        ValueError: shapes or devices differ, or seed has a wrong size or range.
        fastgan.BackendError: a backend was forced that cannot take these arguments.
    """
    _check(x, y)
    word = seed_tensor("interpolate", seed, x.device)
    backend = select("interpolate", x)
    if backend == "reference":
        return interpolate_reference(x, y, word)
    return Interpolate.apply(x, y, word, backend)


def _check(x: Any, y: Any) -> None:
    for name, tensor in (("x", x), ("y", y)):
        check_floating("interpolate", name, tensor)
    if y.dtype != x.dtype:
        raise TypeError(f"interpolate: y is {y.dtype}, expected {x.dtype} like x")
    if x.ndim == 0:
        raise ValueError("interpolate: x has no dimensions, expected at least one")
    if y.shape != x.shape:
        raise ValueError(f"interpolate: y has shape {list(y.shape)}, expected {list(x.shape)} like x")
    if y.device != x.device:
        raise ValueError(f"interpolate: y is on {y.device}, expected {x.device} like x")
