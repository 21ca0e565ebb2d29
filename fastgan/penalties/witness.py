"""Penalties of critics that give several numbers: the gradient is that of the objective's witness function.

    w(x) = witness(phi(x); phi(real), phi(fake)),        g_i = (d phi/dx)(x_i)^T u_i,        u_i = dw/dphi(x_i)

One number per sample, in which phi(real) and phi(fake) are held while x moves, and through which the penalty's gradient
goes to the critic's parameters all the same. The slopes u are found by themselves and then pulled back through the
critic, so that R1 and R2 need no pass of their own: at data, phi(x_i) is the moving one and one of those held. Where
one of the outputs is a logit, or makes one (log Z of class logits), that is the witness.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastgan.losses import Loss
from fastgan.nn import statistics_of
from fastgan.penalties.double_backward import leaf
from fastgan.penalties.lean import lean_derivatives
from fastgan.penalties.outputs import Outputs
from fastgan.penalties.penalty import Penalty

Witness = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(features of points, of data, of samples) -> a number for each point: `fastgan.losses.Loss.witness`."""


def check_witness(owner: str, loss: Loss, penalties: Mapping[str, Penalty]) -> None:
    """Raises ValueError for penalties on a loss of several numbers per sample that has no witness function."""
    if penalties and loss.witness is None and loss.output not in ("logit", "error"):
        raise ValueError(
            f"{owner}: penalties is {tuple(penalties.values())}, expected () for {loss.name}, a loss of {loss.output} "
            "without a witness: a penalty is of the gradient of one number per sample"
        )


class Pass(NamedTuple):
    """Points and the critic's features of them; the points are a leaf where their gradient is wanted."""

    x: Tensor
    features: Tensor

    @classmethod
    def differentiable(
        cls, critic: Callable[..., Any], outputs: Outputs, at: str, x: Tensor, labels: Sequence[Any]
    ) -> "Pass":
        """Runs the critic on a leaf x, with the statistics of the side `at`, to be differentiated twice."""
        with statistics_of(at, critic), torch.enable_grad(), lean_derivatives():
            x = leaf(x)
            return cls(x, outputs.features(critic(x, *labels)))


def witness_gradient(witness: Witness, points: Pass, held: tuple[Tensor, Tensor]) -> Tensor:
    """The witness function's gradient at the points, [B, ...], differentiable.

    Args:
        witness: the function of the points' features and of those held.
        points: where it is differentiated.
        held: the features of real and of fake samples.
    """
    with torch.enable_grad(), lean_derivatives():
        # Another node of the graph, so that those held are not differentiated where they are the same tensor.
        moving = points.features.view_as(points.features)
        (slopes,) = torch.autograd.grad(witness(moving, *held).sum(), moving, create_graph=True)
        (g,) = torch.autograd.grad(points.features, points.x, slopes, create_graph=True)
    return g
