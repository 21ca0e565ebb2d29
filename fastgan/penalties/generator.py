"""`generator_loss_from`: the generator's loss of a simultaneous step, from what the critic's step has computed."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fastgan.losses import LOSSES, Loss, parse
from fastgan.losses.several_outputs import summed
from fastgan.losses.structure import map_parts, tensors_of
from fastgan.penalties.objective import copied
from fastgan.penalties.one_pass import not_again
from fastgan.penalties.result import CriticLoss, GeneratorSide


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

    Where a sample has several outputs whose slopes differ (a map and most losses), or where the critic was
    differentiated twice and the outputs may depend on other samples (batch norm), the sum's gradient is not enough.
    One more pass backward through the critic finds it then, as long as its graph is there: before `total.backward()`,
    or after `total.backward(retain_graph=True)`. A loss of equal slopes (wasserstein, hinge) needs nothing.

    Args:
        critic_loss: of a call whose `fake` was not detached from the generator, with a penalty on the fakes.
        loss: the generator's objective; default that of the critic's call, if it was named or a `Loss`.

    Returns:
        A scalar whose `.backward()` deposits the gradient in the generator's parameters.

    Raises:
        ValueError: there is nothing to compute it from; says what the critic's call lacked.
        RuntimeError: the critic's graph is needed, and a weight has been changed.
    """
    if not isinstance(critic_loss, CriticLoss) or not hasattr(critic_loss, "_generator_side"):
        raise TypeError(
            f"generator_loss_from: critic_loss is a {type(critic_loss).__name__} of other computations, expected what "
            "fastgan.critic_loss returned"
        )
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
    with torch.enable_grad():
        leaves = map_parts(_leaf, critic_loss.fake_logits)
        value = summed(chosen.generator)(map_parts(copied, leaves), critic_loss.real_logits)
        outputs = tensors_of(leaves)
        slopes = torch.autograd.grad(value, outputs, retain_graph=True, allow_unused=True)
    t = [torch.zeros_like(y) if t is None else t for t, y in zip(slopes, outputs, strict=True)]
    gradient = _multiple(t, side)
    if gradient is None:
        gradient = side.pull(t)
    if gradient is None:
        raise ValueError(f"generator_loss_from: {_GONE}")
    return _PullBack.apply(value, side.fake, gradient.to(side.fake.dtype), [critic_loss])


_GONE = (
    "the slopes of the loss differ within a sample, or the critic may mix the samples of a batch, so that the gradient "
    "of the sum of its outputs, which is known, is not enough, and the critic's graph is not there any more; call "
    "generator_loss_from before total.backward(), or total.backward(retain_graph=True), and critic_loss without "
    "compile; or take a loss of equal slopes such as wasserstein, or call the critic on the samples again"
)


def _multiple(slopes: Sequence[Tensor], side: GeneratorSide) -> Tensor | None:
    """The gradient of <slopes, outputs> as a multiple of each sample's known one; None if it is none."""
    assert side.gradient is not None
    samples = len(side.gradient)
    if any(slope.numel() != samples and (not slope.ndim or len(slope) % samples) for slope in slopes):
        return None
    rows = [slope.reshape(samples, -1) for slope in slopes]
    if side.reduce == "mean":
        rows = [row * row.shape[1] for row in rows]
    every = torch.cat(rows, 1)
    t = every[:, 0]
    if every.shape[1] > 1 and bool((every != every[:, :1]).any()):
        return None
    if bool((t != t[:1]).any()) and not side.separate():
        return None
    return t.reshape(-1, *[1] * (side.gradient.ndim - 1)) * side.gradient


def _leaf(part: Any) -> Any:
    return part.detach().requires_grad_() if isinstance(part, Tensor) else part
