"""`differentiable_critic_loss`: `critic_loss` for optimisers that differentiate its gradient again."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fastgan.backends import backend
from fastgan.losses import Loss
from fastgan.nn import statistics_of
from fastgan.penalties.critic import gradient_penalty
from fastgan.penalties.packs import of_packs
from fastgan.penalties.penalty import Penalty
from fastgan.penalties.result import CriticLoss, named, with_parts
from fastgan.penalties.witness import check_witness
from fastgan.penalties.wrappers import degree_of_packing


def differentiable_critic_loss(
    critic: Callable[..., Tensor],
    real: Tensor,  # [B, ...]
    fake: Tensor,  # [B, ...]
    loss: Loss,
    penalties: Sequence[Penalty] = (),
    labels: Tensor | None = None,
    fake_labels: Tensor | None = None,
) -> CriticLoss:
    """The value of `critic_loss`, whose gradient can be differentiated again, also with respect to `fake`.

    For optimisers of games that need second derivatives (`fastgan.games`): there the critic's loss must know of the
    generator. The points at which penalties are taken are constants. They are computed by the references, which
    differentiate a third time without a detour, and always by double backward.

    Args:
        critic: an nn.Module, or any function of a batch; packs and split batch norms as in `critic_loss`.
        real, fake: data, and samples that are not detached.
        loss: the objective; of several numbers per sample, penalties are of its witness function's gradient.
        penalties: any of `fastgan.penalties`.
        labels, fake_labels: of data and samples, [B]; both or none, none for packs. Interpolates have the labels of
            the data.

    Returns:
        A scalar with the attributes of `CriticLoss`.

    Raises:
        ValueError: there are penalties, and the loss is of several numbers per sample without a witness; a
            `PackedCritic` is given labels, or a batch that is no multiple of its m.
    """
    penalised = named(penalties)
    check_witness("differentiable_critic_loss", loss, penalised)
    if degree_of_packing(critic) > 1:
        given = [of for of in (labels, fake_labels) if of is not None]
        _, critic, (real, fake) = of_packs("differentiable_critic_loss", critic, given, real, fake)
    with torch.enable_grad():
        real_logits = critic(real) if labels is None else critic(real, labels)
        with statistics_of("fake", critic):
            fake_logits = critic(fake) if fake_labels is None else critic(fake, fake_labels)
        plain = loss.critic(real_logits, fake_logits)
        total = plain
        values, norms = {}, {}
        witness = loss.witness
        watched = critic if witness is None else lambda x, *of: witness(critic(x, *of), real_logits, fake_logits)
        at = {"real": real, "fake": fake.detach()}
        for name, penalty in penalised.items():
            points = at[penalty.at] if penalty.at in at else penalty.points(real, fake.detach())
            with backend("reference"), statistics_of(penalty.at, critic):
                of_points = fake_labels if penalty.at == "fake" else labels
                found = gradient_penalty(watched, points, penalty, labels=of_points, method="double_backward")
            total = total + found
            (values[name],), (norms[name],) = found.penalties.values(), found.gradient_norms.values()
    return with_parts(
        total,
        loss=plain.detach(),
        penalties=values,
        gradient_norms=norms,
        real_logits=real_logits.detach(),
        fake_logits=fake_logits.detach(),
        method="double_backward",
        reason=None,
        _generator_side=None,
    )
