"""The gradient of a critic by double backward: differentiable by autograd, for any critic.

Convolutions and piecewise linear activations are replaced on the way by ours, whose second derivatives do no needless
work (fastgan/penalties/lean.py).
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fastgan.penalties.checks import one_tensor
from fastgan.penalties.lean import lean_derivatives


def gradient(critic: Callable[..., Tensor], x: Tensor, rest: Sequence[Any]) -> tuple[Tensor, Tensor]:
    """D(x) and its gradient with respect to x, sample by sample, both differentiable.

    A critic that gives several numbers per sample (a map of patches) has the gradient of their sum.

    Returns:
        (output, gradient [B, ...]).
    """
    with torch.enable_grad(), lean_derivatives():
        x = leaf(x)
        output = one_tensor(critic(x, *rest))
        (g,) = torch.autograd.grad(output.sum(), x, create_graph=True)
    return output, g


def leaf(x: Tensor) -> Tensor:
    """The points x as a leaf of autograd, of which `.backward()` keeps no gradient.

    Nobody asks for it; and it may be PyTorch's tensor of zeros without memory, to which a second `.backward()` of a
    retained graph could add nothing.
    """
    x = x.detach().requires_grad_()
    x.register_post_accumulate_grad_hook(_drop)
    return x


def _drop(x: Tensor) -> None:
    x.grad = None
