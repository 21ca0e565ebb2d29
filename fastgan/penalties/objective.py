"""The loss of a critic's outputs and its gradient with respect to them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastgan.affine import NotAffineError
from fastgan.losses import Loss
from fastgan.losses import parse as parse_loss
from fastgan.losses.began_loss import Began
from fastgan.losses.several_outputs import summed
from fastgan.losses.structure import is_floating, map_parts, tensors_of
from fastgan.penalties.checks import check_scalar
from fastgan.penalties.graph_nodes import leaf_of, nodes_below
from fastgan.penalties.outputs import Form
from fastgan.penalties.penalty import Penalty
from fastgan.penalties.witness import Witness, check_witness

Objective = str | Loss | Callable[[Any, Any], Tensor]


def objective_of(
    owner: str, loss: Objective, penalised: Mapping[str, Penalty]
) -> tuple[Callable[[Any, Any], Tensor], Witness | None]:
    """The loss as a function of real and fake outputs, and its witness if it is of several numbers per sample.

    One that is named, or a `Loss`, is of what is judged, and added up where that is several tensors.
    """
    if isinstance(loss, str):
        name = loss
        try:
            loss = parse_loss(name)
        except ValueError as error:
            raise ValueError(f"{owner}: loss is {error}, or a function") from None
        if isinstance(loss, Began):  # a fresh one at every call, whose k never moves
            raise ValueError(
                f"{owner}: loss is {name!r}, which has a state, expected an object that is kept: "
                f"began = fastgan.losses.parse({name!r}), and began.update(total.real_logits, total.fake_logits) after "
                "each of the critic's steps"
            )
    if isinstance(loss, Loss):
        check_witness(owner, loss, penalised)
        return summed(loss.critic), loss.witness
    if not callable(loss):
        raise TypeError(f"{owner}: loss is {type(loss).__name__}, expected a name, a Loss or a function")
    return loss, None


class Slopes(NamedTuple):
    """A loss, and its gradient with respect to the outputs of a critic.

    Attributes:
        loss: the scalar; its graph is kept where `further` is true.
        of: dl/dy at `real` and `fake` for each of their parts; None for one that the loss does not depend on.
        further: whether the loss depends on tensors besides the outputs that want a gradient: a temperature, weights.
    """

    loss: Tensor
    of: dict[str, list[Tensor | None]]
    further: bool


def slopes(
    objective: Callable[[Any, Any], Tensor],
    outputs: Mapping[str, tuple[Sequence[Tensor], Form]],
    inputs: Sequence[Tensor],
) -> Slopes:
    """Differentiates the objective with respect to the outputs `real` and `fake`.

    `outputs` are these with their forms; `inputs` the leaves at which the critic was recorded without its activations.

    Raises:
        NotAffineError: the loss depends on the critic's activations besides its outputs, which are not kept.
    """
    with torch.enable_grad():
        logits = {at: map_parts(_leaf, form.split(parts)) for at, (parts, form) in outputs.items()}
        loss = objective(*(map_parts(copied, logits[at]) for at in ("real", "fake")))
        check_scalar("critic_loss", loss)
    leaves = leaves_of(loss)
    if any(leaf is x for leaf in leaves for x in inputs):
        raise NotAffineError("the loss depends on activations of the critic, besides its outputs")
    of_each = {at: tensors_of(tree) for at, tree in logits.items()}
    tensors = [y for of_one in of_each.values() for y in of_one]
    further = any(all(leaf is not y for y in tensors) for leaf in leaves)
    found: Sequence[Any] = [None] * len(tensors)
    if leaves:
        found = torch.autograd.grad(loss, tensors, allow_unused=True, retain_graph=further)
    each = iter(found)
    of_shown = {at: [next(each) for _ in of_one] for at, of_one in of_each.items()}
    return Slopes(loss, {at: form.slopes(of_shown[at], parts) for at, (parts, form) in outputs.items()}, further)


def copied(part: Any) -> Any:
    """A copy of an output, which the loss may change in place."""
    return part.clone() if isinstance(part, Tensor) else part


def _leaf(part: Any) -> Any:
    return part.detach().requires_grad_() if is_floating(part) else part


def leaves_of(tensor: Tensor) -> list[Tensor]:
    """The leaves of autograd's graph below a tensor, itself included."""
    if tensor.grad_fn is None:
        return [tensor] if tensor.requires_grad else []
    return [leaf for node in nodes_below([tensor]) if (leaf := leaf_of(node)) is not None]
