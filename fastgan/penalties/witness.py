"""Penalties of critics that give several numbers: the gradient is that of the objective's witness function.

    w(x) = witness(phi(x); phi(real), phi(fake)),        g_i = (d phi/dx)(x_i)^T u_i,        u_i = dw/dphi(x_i)

One number per sample, in which phi(real) and phi(fake) are held while x moves, and through which the penalty's gradient
goes to the critic's parameters all the same. The slopes u are found by themselves and then pulled back through the
critic, so that R1 and R2 need no pass of their own: at data, phi(x_i) is the moving one and one of those held. Where
one of the outputs is a logit, or makes one (log Z of class logits), that is the witness.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fastgan.losses import Loss
from fastgan.nn import statistics_of
from fastgan.penalties.checks import one_tensor
from fastgan.penalties.lean import lean_derivatives
from fastgan.penalties.penalty import Penalty

Witness = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Features of points, of data and of samples to a number for each point: `fastgan.losses.Loss.witness`."""


def check_witness(owner: str, loss: Loss, penalties: Mapping[str, Penalty]) -> None:
    """Raises ValueError for penalties of several numbers that no witness makes one of: of which would they be?"""
    if penalties and loss.witness is None and loss.output not in ("logit", "error"):
        raise ValueError(
            f"{owner}: penalties is {tuple(penalties.values())}, expected () for {loss.name}, a loss of {loss.output} "
            "without a witness: a penalty is of the gradient of one number per sample"
        )


def gradients(
    critic: Callable[..., Tensor],
    real: Tensor,
    fake: Tensor,
    witness: Witness,
    penalties: dict[str, Penalty],
    rest: Sequence[Any],
    fake_rest: Sequence[Any],
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """The features of data and of samples, and the witness function's gradient at each penalty's points.

    Returns:
        (phi(real), phi(fake), the gradients [B, ...] by the penalties' names), all differentiable.
    """
    passes: dict[str, tuple[Tensor, Tensor]] = {}
    for at, x, more in (("real", real, rest), ("fake", fake, fake_rest)):
        if any(penalty.at == at for penalty in penalties.values()):
            passes[at] = _forward(critic, at, x, more)
        else:
            with statistics_of(at, critic), torch.enable_grad():
                passes[at] = x, one_tensor(critic(x.detach(), *more))
    held = passes["real"][1], passes["fake"][1]
    found: dict[str, Tensor] = {}
    for name, penalty in penalties.items():
        at = penalty.at
        x, features = passes.get(at) or _forward(critic, at, penalty.points(real.detach(), fake.detach()), rest)
        with torch.enable_grad(), lean_derivatives():
            moving = features.view_as(features)  # another node of the graph, so that those held are not differentiated
            (slopes,) = torch.autograd.grad(witness(moving, *held).sum(), moving, create_graph=True)
            (found[name],) = torch.autograd.grad(features, x, slopes, create_graph=True)
    return *held, found


def _forward(critic: Callable[..., Tensor], at: str, x: Tensor, rest: Sequence[Any]) -> tuple[Tensor, Tensor]:
    """(the points as a leaf, their features)."""
    with statistics_of(at, critic), torch.enable_grad(), lean_derivatives():
        x = x.detach().requires_grad_()
        return x, one_tensor(critic(x, *rest))
