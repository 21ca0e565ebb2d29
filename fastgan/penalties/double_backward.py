"""The gradient of a critic by double backward: differentiable by autograd, for any critic.

Convolutions and piecewise linear activations are replaced on the way by ours, whose second derivatives do no needless
work (fastgan/penalties/lean.py).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastgan.penalties.lean import lean_derivatives
from fastgan.penalties.outputs import Outputs, Read


class Gradient(NamedTuple):
    """A critic at points x.

    Attributes:
        x: the points, as autograd knows them.
        output: what the critic gave.
        g: the gradient of each sample's number with respect to x, [B, ...].
    """

    x: Tensor
    output: Read
    g: Tensor


def gradient(critic: Callable[..., Any], x: Tensor, rest: Sequence[Any], outputs: Outputs) -> Gradient:
    """D(x) and its gradient with respect to x, sample by sample, both differentiable.

    A critic that gives several numbers per sample (a map of patches) has the gradient of their sum or mean.
    """
    with torch.enable_grad(), lean_derivatives():
        x = leaf(x)
        output = outputs.read(critic(x, *rest))
        (g,) = torch.autograd.grad(outputs.number(output.judged, len(x)), x, create_graph=True)
    return Gradient(x, output, g)


def pulled(outputs: Sequence[Tensor], x: Tensor, slopes: Sequence[Tensor]) -> Tensor | None:
    """The gradient of <slopes, outputs> with respect to the points x; None where their graph is freed."""
    try:
        return torch.autograd.grad(outputs, x, slopes, retain_graph=True)[0]
    except RuntimeError as error:
        if "second time" not in str(error):
            raise
        return None


def leaf(x: Tensor) -> Tensor:
    """The points x as a leaf of autograd, of which `.backward()` keeps no gradient.

    Nobody asks for it; and it may be PyTorch's tensor of zeros without memory, to which a second `.backward()` of a
    retained graph could add nothing.
    """
    x = x.detach().requires_grad_()
    x.register_post_accumulate_grad_hook(drop)
    return x


def drop(x: Tensor) -> None:
    """Forgets the gradient of points."""
    x.grad = None
