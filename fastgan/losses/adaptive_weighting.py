"""The weight of an adversarial loss beside a reconstruction loss, for autoencoders trained with a critic."""

import math

import torch
from torch import Tensor

from fastgan.ops._common.precision import compute_dtype


def adaptive_weight(
    reconstruction: Tensor, adversarial: Tensor, weight: Tensor, *, eps: float = 1e-4, largest: float = 1e4
) -> Tensor:
    """||grad_W reconstruction|| / (||grad_W adversarial|| + eps), at most `largest`, with W the decoder's last layer.

    Both losses then move the last layer by as much:

        factor = adaptive_weight(reconstruction, adversarial, decoder.conv_out.weight)
        (reconstruction + factor * adversarial).backward()

    The two gradients are computed by a backward pass each, as far as W; no graph is made of them, and both losses keep
    theirs. Where gradients are averaged over processes, each process has a weight of its own, as in the authors' code.

    Args:
        reconstruction: how well the decoder's image is like the data (and perceptually like it), [].
        adversarial: the generator's loss of that image, [].
        weight: W, any shape, floating point, on which both losses depend.
        eps: what keeps the quotient finite where the critic has nothing to say.
        largest: where the quotient is cut.

    Returns:
        A constant, [] in float32 (float64 for float64): finite for finite gradients of any type.

    Raises:
        ValueError: a loss is no scalar or does not depend on `weight`; eps or `largest` is not above 0.

    Esser et al. 2021, arXiv:2012.09841, equation 7.
    """
    for name, number in (("eps", eps), ("largest", largest)):
        if not (number > 0 and math.isfinite(number)):
            raise ValueError(f"adaptive_weight: {name} is {number}, expected a finite number above 0")
    norms = [
        _norm_of_gradient(name, loss, weight)
        for name, loss in (("reconstruction", reconstruction), ("adversarial", adversarial))
    ]
    return (norms[0] / (norms[1] + eps)).clamp(max=largest).to(compute_dtype(weight))


def _norm_of_gradient(name: str, loss: Tensor, weight: Tensor) -> Tensor:
    if loss.ndim != 0:
        raise ValueError(f"adaptive_weight: {name} has shape {list(loss.shape)}, expected a scalar")
    found = None
    if loss.requires_grad and weight.requires_grad:
        (found,) = torch.autograd.grad(loss, weight, retain_graph=True, allow_unused=True)
    if found is None:
        raise ValueError(f"adaptive_weight: {name} does not depend on weight, a tensor of shape {list(weight.shape)}")
    return torch.linalg.vector_norm(found, dtype=torch.float64)  # of float32, squares above 1e38 would be infinite
