"""EBGAN's game with the regulariser that keeps the samples of a batch apart."""

from dataclasses import replace

from torch import Tensor

from fastgan.losses import Loss, pulling_away


def with_pulling_away(loss: Loss, weight: float) -> Loss:
    """The game of reconstruction errors, whose generator pays for samples that the encoder finds alike.

    Args:
        loss: of errors.
        weight: of the term in the generator's loss alone; 0.1 in the paper.

    Returns:
        A `Loss` of outputs [B, 1 + F]: the error, then the encoder's output. Gradient penalties are of the error.

    Zhao et al. 2017, arXiv:1609.03126, section 2.4.
    """

    def critic(real: Tensor, fake: Tensor) -> Tensor:
        return loss.critic(real[:, :1], fake[:, :1])

    def generator(fake: Tensor, real: Tensor | None) -> Tensor:
        return loss.generator(fake[:, :1], None) + weight * pulling_away(fake[:, 1:])

    return replace(loss, critic=critic, generator=generator, output="logit and features", witness=_error)


def _error(outputs: Tensor, real_outputs: Tensor, fake_outputs: Tensor) -> Tensor:
    return outputs[:, 0]
