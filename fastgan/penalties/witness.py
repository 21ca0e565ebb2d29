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
from fastgan.penalties.checks import one_tensor
from fastgan.penalties.double_backward import leaf
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


class Pass(NamedTuple):
    """Points, a leaf where their penalty's gradient is wanted, and the critic's features of them."""

    x: Tensor
    features: Tensor


def passes(
    critic: Callable[..., Tensor],
    real: Tensor,
    fake: Tensor,
    penalties: dict[str, Penalty],
    rest: Sequence[Any],
    fake_rest: Sequence[Any],
) -> dict[str, Pass]:
    """The features of data (`real`) and of samples (`fake`)."""
    found: dict[str, Pass] = {}
    for at, x, more in (("real", real, rest), ("fake", fake, fake_rest)):
        if any(penalty.at == at for penalty in penalties.values()):
            found[at] = _forward(critic, at, x, more)
        else:
            with statistics_of(at, critic), torch.enable_grad():
                found[at] = Pass(x, one_tensor(critic(x.detach(), *more)))
    return found


def gradients(
    critic: Callable[..., Tensor],
    made: dict[str, Pass],
    witness: Witness,
    penalties: dict[str, Penalty],
    rest: Sequence[Any],
) -> dict[str, Tensor]:
    """The witness function's gradient at each penalty's points, [B, ...], by the penalties' names, differentiable."""
    held = made["real"].features, made["fake"].features
    found: dict[str, Tensor] = {}
    for name, penalty in penalties.items():
        at = penalty.at
        points = made["real"].x.detach(), made["fake"].x.detach()
        x, features = made.get(at) or _forward(critic, at, penalty.points(*points), rest)
        with torch.enable_grad(), lean_derivatives():
            moving = features.view_as(features)  # another node of the graph, so that those held are not differentiated
            (slopes,) = torch.autograd.grad(witness(moving, *held).sum(), moving, create_graph=True)
            (found[name],) = torch.autograd.grad(features, x, slopes, create_graph=True)
    return found


def _forward(critic: Callable[..., Tensor], at: str, x: Tensor, rest: Sequence[Any]) -> Pass:
    with statistics_of(at, critic), torch.enable_grad(), lean_derivatives():
        x = leaf(x)
        return Pass(x, one_tensor(critic(x, *rest)))
