"""`generator_loss_from`: the generator's loss of a simultaneous step, from what the critic's step has computed."""

from typing import Any

import torch
from torch import Tensor

from fastgan.losses import LOSSES, Loss, parse
from fastgan.penalties.one_pass import not_again
from fastgan.penalties.result import CriticLoss


class _PullBack(torch.autograd.Function):
    """The number `value`, whose gradient with respect to the samples is known; the rest of it is autograd's.

    That gradient depends on the samples and on the critic; its loss comes in a list, which autograd takes for no input.
    """

    @staticmethod
    def forward(ctx: Any, value: Tensor, fake: Tensor, gradient: Tensor, critic_loss: list[Tensor]) -> Tensor:
        ctx.save_for_backward(fake, gradient)
        ctx.critic_loss = critic_loss
        return value.clone()

    @staticmethod
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor, Tensor, None, None]:
        fake, gradient = ctx.saved_tensors
        with torch.no_grad():
            product = gradient * scale.to(gradient.dtype)
        return scale, not_again(product, scale, fake, *ctx.critic_loss), None, None


def generator_loss_from(critic_loss: CriticLoss, loss: str | Loss | None = None) -> Tensor:
    """The generator's objective at the critic that `critic_loss` saw, without another pass through the critic.

    A penalty on the fakes (R2) has computed grad_x D(G(z)) already; the generator's gradient is its per-sample multiple
    pulled back through G. So a simultaneous step costs no critic pass for the generator:

        total = fastgan.critic_loss(critic, real, generator(z), penalties=(R1(10.0), R2(10.0)))
        total.backward()                               # the critic's parameters only
        fastgan.generator_loss_from(total).backward()  # the generator's parameters only

    Where the critic was differentiated twice, a sample's output may depend on the others (batch norm), and the sum's
    gradient is no gradient of each: only a loss of equal slopes (wasserstein, hinge) is taken then.

    Args:
        critic_loss: of a call whose `fake` was not detached from the generator, with a penalty on the fakes.
        loss: the generator's objective; default that of the critic's call, if it was named or a `Loss`.

    Returns:
        A scalar whose `.backward()` deposits the gradient in the generator's parameters.

    Raises:
        ValueError: there is nothing to compute it from; says what the critic's call lacked.
    """
    side = critic_loss._generator_side
    if side is None:
        raise ValueError(
            "generator_loss_from: fake was detached in the call of critic_loss, expected the generator's output"
        )
    if side.gradient is None:
        raise ValueError(
            "generator_loss_from: no penalty was on the fakes, expected one such as R2 in critic_loss, and a loss of "
            "logits: of features, its gradient is the witness function's"
        )
    chosen = side.objective if loss is None else loss
    if isinstance(chosen, str):
        try:
            chosen = parse(chosen)
        except ValueError as error:
            raise ValueError(f"generator_loss_from: loss is {error}, or a Loss") from None
    if not isinstance(chosen, Loss):
        raise ValueError(f"generator_loss_from: loss is {chosen!r}, expected one of {', '.join(LOSSES)}, or a Loss")
    assert critic_loss.fake_logits is not None
    if critic_loss.fake_logits.numel() != len(side.gradient):
        raise ValueError(
            f"generator_loss_from: the critic gave fake logits of shape {list(critic_loss.fake_logits.shape)}, "
            "expected one number for each sample"
        )
    with torch.enable_grad():
        fake_logits = critic_loss.fake_logits.detach().requires_grad_()
        value = chosen.generator(fake_logits.clone(), critic_loss.real_logits)
        (t,) = torch.autograd.grad(value, fake_logits, retain_graph=True)
    if bool((t != t.flatten()[:1]).any()) and not side.separate():
        raise ValueError(
            "generator_loss_from: the critic may mix the samples of a batch, so that the gradient of the sum of its "
            "outputs is known, not that of each; expected one that fastgan.explain finds piecewise affine sample by "
            "sample, or a loss of equal slopes such as wasserstein; call the critic on the samples again"
        )
    t = t.reshape(-1, *[1] * (side.gradient.ndim - 1))
    return _PullBack.apply(value, side.fake, (t * side.gradient).to(side.fake.dtype), [critic_loss])
