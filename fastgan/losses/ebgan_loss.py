"""The energy-based game: the critic is an autoencoder that reconstructs data well and samples badly.

D is its reconstruction error, as `fastgan.nn.ReconstructionError` computes it: an energy, low on data. Samples whose
error exceeds the margin are left alone, or the critic would spend itself on making bad samples worse. A critic of any
other kind, whose output has no lower bound, would lower E_p D for ever.
"""

import math
from dataclasses import replace
from functools import partial, update_wrapper

import torch
from torch import Tensor
from torch.nn.functional import normalize, relu

from fastgan.losses.features import leading_logit, wide, without_autocast
from fastgan.losses.loss import Loss
from fastgan.ops._common.checks import check_shape

MARGIN = 1.0


def critic(margin: float, real_errors: Tensor, fake_errors: Tensor) -> Tensor:
    """E_p D(x) + E_q max(0, m - D(G(z))).

    Args:
        margin: m, the error up to which samples are pushed.
        real_errors: the critic's reconstruction errors of data, any shape, floating point, at least 0.
        fake_errors: those of samples, any shape.

    Returns:
        A scalar; m for the best critic that cannot tell the two apart.

    Zhao et al. 2017, arXiv:1609.03126, equation 1.
    """
    return wide(real_errors).mean() + relu(margin - wide(fake_errors)).mean()


def generator(fake_errors: Tensor, real_errors: Tensor | None = None) -> Tensor:
    """E_q D(G(z)).

    Args:
        fake_errors: the critic's reconstruction errors of samples, any shape, floating point.
        real_errors: not used.

    Returns:
        A scalar.

    Zhao et al. 2017, arXiv:1609.03126, equation 2.
    """
    return wide(fake_errors).mean()


def ebgan(margin: float = MARGIN) -> Loss:
    """The energy-based game with a margin.

    Args:
        margin: above 0, in the units of the reconstruction error: what the critic should come to make of samples. It
            must be well above the error on data and within what a sample can have, or it never ends the pushing, which
            is what it is for. The mean of squares of images in [-1, 1] is at most 4, and at most 1 for a critic that
            answers 0, which is why the default is 1; for images that are mostly near 0, or a sum in place of the mean,
            take the error of an autoencoder that answers with the mean image.

    Raises:
        ValueError: it is not above 0.
    """
    if not 0 < margin < math.inf:
        raise ValueError(f"ebgan: margin is {margin!r}, expected a number above 0")
    return Loss(
        "ebgan" if margin == MARGIN else f"ebgan:{margin}",
        update_wrapper(partial(critic, margin), critic),
        generator,
        "Zhao et al. 2017, arXiv:1609.03126",
        output="error",
    )


def pulling_away(features: Tensor) -> Tensor:
    """1/(B(B-1)) sum_i sum_{j≠i} (S_i·S_j / (||S_i|| ||S_j||))^2.

    The generator adds it, weighed 0.1 in the paper, with S the encoder's output on its samples: they should not all
    point in one direction.

    Args:
        features: S, floating point [B, F], B at least 2. A row of zeros is orthogonal to all. Half precision is
            computed in float32, under torch.autocast too.

    Returns:
        A scalar in float32 (float64 for float64), from 0 to 1.

    Raises:
        TypeError, ValueError: it is no such tensor.

    Zhao et al. 2017, arXiv:1609.03126, section 2.4.
    """
    check_shape("pulling_away", "features", features, ["B", "F"])
    n = len(features)
    if n < 2:
        raise ValueError(f"pulling_away: features has shape {list(features.shape)}, expected at least 2 samples")
    with without_autocast(features):
        directions = normalize(wide(features), dim=1)
        squares = (directions @ directions.mT).square()
    itself = torch.eye(n, dtype=torch.bool, device=features.device)
    return squares.masked_fill(itself, 0).sum() / (n * (n - 1))


def with_pulling_away(loss: Loss, weight: float) -> Loss:
    """A game of reconstruction errors, whose generator pays for samples that the encoder finds alike.

    Args:
        loss: of errors.
        weight: of `pulling_away` in the generator's loss; 0.1 in the paper.

    Returns:
        A `Loss` of outputs [B, 1 + F]: the error, then the encoder's output. Gradient penalties are of the error.

    Zhao et al. 2017, arXiv:1609.03126, section 2.4.
    """

    def of_critic(real: Tensor, fake: Tensor) -> Tensor:
        return loss.critic(real[:, :1], fake[:, :1])

    def of_generator(fake: Tensor, real: Tensor | None) -> Tensor:
        return loss.generator(fake[:, :1], None) + weight * pulling_away(fake[:, 1:])

    return replace(
        loss, critic=of_critic, generator=of_generator, output="logit and features", witness=leading_logit, least=2
    )
