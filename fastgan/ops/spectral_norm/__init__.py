"""spectral_norm: the weights of a whole network divided by estimates of their largest singular values, in one call.

torch's spectral norms make about 17 small operations for each layer and forward. Here all layers share a few loops
(or launches), and each weight is read as few times as the arithmetic allows: csrc/spectral_norm.h has the floor.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from fastgan import _torch_private
from fastgan.ops.spectral_norm.autograd import Estimate, divided, estimate
from fastgan.ops.spectral_norm.checks import checked_dims
from fastgan.ops.spectral_norm.reference import Settings


def spectral_norm(
    weights: Sequence[Tensor],  # of any shapes with at least two dimensions
    u: Sequence[Tensor],  # [rows] each
    v: Sequence[Tensor],  # [columns] each
    *,
    n_power_iterations: int = 1,
    eps: float = 1e-12,
    dims: Sequence[int] | int = 0,
    v_first: bool = False,
) -> tuple[list[Tensor], Tensor]:  # like the weights, [number of weights]
    """Divides each weight by sigma = u' M v, after some steps of the power method, which update u and v in place.

    M is the weight as a matrix whose rows are dimension `dims`, its other dimensions flattened. A step is

        u = M v / max(|M v|, eps), then v = M' u / max(|M' u|, eps)      (`v_first`: the other way round)

    Miyato et al. 2018, Spectral Normalization for Generative Adversarial Networks, arXiv:1802.05957, algorithm 1. u and
    v are constants to the gradient, which is exact to any order: dW = (G - <G, W / sigma> u v') / sigma.

    Args:
        weights: float32, float64, float16 or bfloat16, all of one dtype and device; dense in any memory order without a
            copy. Sums are float32 (float64 for float64), also under torch.autocast.
        u, v: estimates of the first singular vectors, of the weights' dtype and device, overwritten.
        n_power_iterations: 0 leaves u and v as they are.
        eps: the least norm that a vector is divided by.
        dims: the dimension of the rows, of all weights or of each.
        v_first: the order of torch.nn.utils.spectral_norm; by default that of torch.nn.utils.parametrizations.

    Returns:
        The normalised weights, and the sigmas in float32 (float64 for float64), differentiable too.

    Raises:
        TypeError: an argument is not a floating tensor, or dtypes differ.
        ValueError: numbers of tensors, shapes, devices or numbers do not fit.
        fastgan.BackendError: a backend was forced that cannot take these arguments.
    """
    normalised, sigmas = _apply("spectral_norm", weights, u, v, dims, Settings(n_power_iterations, eps, v_first))
    return normalised, sigmas


def spectral_sigma(
    weights: Sequence[Tensor],
    u: Sequence[Tensor],
    v: Sequence[Tensor],
    *,
    n_power_iterations: int = 1,
    eps: float = 1e-12,
    dims: Sequence[int] | int = 0,
    v_first: bool = False,
) -> Tensor:  # [number of weights]
    """The sigmas of `spectral_norm` alone, for a layer that divides its output instead of its weight.

    Saves the pass that writes the normalised weights, half of the memory traffic; arguments and errors are those of
    `spectral_norm`.
    """
    return _apply("spectral_sigma", weights, u, v, dims, Settings(n_power_iterations, eps, v_first, scale=False))[1]


def estimates(
    weights: Sequence[Tensor],
    u: Sequence[Tensor],
    v: Sequence[Tensor],
    *,
    n_power_iterations: int = 1,
    eps: float = 1e-12,
    dims: Sequence[int] | int = 0,
    v_first: bool = False,
) -> list[Estimate]:
    """What `spectral_norm` would find for each weight, without a graph; u and v stay as they are.

    For those who do not know yet whether they want it. `autograd.divided` makes the normalised weight of
    it. Arguments and errors are those of `spectral_norm`.
    """
    settings = Settings(n_power_iterations, eps, v_first)
    rows = checked_dims("spectral_norm", weights, u, v, dims, settings)
    return estimate(weights, list(zip(u, v, strict=True)), rows, settings) if weights else []


def _apply(
    name: str, weights: Sequence[Tensor], u: Sequence[Tensor], v: Sequence[Tensor], dims: Sequence[int] | int,
    settings: Settings,
) -> tuple[list[Tensor], Tensor]:  # fmt: skip
    rows = checked_dims(name, weights, u, v, dims, settings)
    if not weights:
        return [], torch.empty(0, dtype=torch.float32)
    found = estimate(weights, list(zip(u, v, strict=True)), rows, settings)
    if settings.iterations:
        with torch.no_grad():
            _torch_private.foreach_copy_([*u, *v], [*(each.u for each in found), *(each.v for each in found)])
    normalised, sigmas = zip(*(divided(weight, each) for weight, each in zip(weights, found, strict=True)), strict=True)
    return list(normalised) if settings.scale else [], torch.stack(sigmas)
