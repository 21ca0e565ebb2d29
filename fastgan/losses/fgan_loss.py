"""The games over f-divergences: the critic's loss is minus a lower bound of one, tight for the best critic.

    sup over T of E_p T - E_q f*(T) = D_f(p, q),      T = g(D), g the divergence's output activation

`divergences.py` has the eleven divergences.
"""

from functools import partial, update_wrapper

from torch import Tensor

from fastgan.losses.divergences import DIVERGENCES, Divergence
from fastgan.losses.features import wide
from fastgan.losses.loss import Loss

CROSS_ENTROPIES = ("gan", "jensen_shannon")
"""Divergences whose critic's loss is a classifier's, up to a constant."""


def critic(divergence: Divergence, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """-(E_p T - E_q f*(T)).

    Args:
        divergence: what T and f* are of.
        real_logits: the critic's output on data, any shape, floating point.
        fake_logits: its output on samples, any shape.

    Returns:
        A scalar; minus the divergence for the best critic.

    Nowozin et al. 2016, arXiv:1606.00709, equation 4.
    """
    return divergence.conjugate_of_logit(wide(fake_logits)).mean() - divergence.activation(wide(real_logits)).mean()


def generator(divergence: Divergence, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
    """-E_q T, the non-saturating form: samples are pushed to where the critic's T is larger.

    Args:
        divergence: what T is of.
        fake_logits: the critic's output on samples, any shape, floating point.
        real_logits: not used.

    Returns:
        A scalar.

    Nowozin et al. 2016, arXiv:1606.00709, section 3.2.
    """
    return -divergence.activation(wide(fake_logits)).mean()


def saturating_generator(divergence: Divergence, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
    """-E_q f*(T), the generator's part of the bound itself; arguments as `generator`.

    Nowozin et al. 2016, arXiv:1606.00709, equation 4.
    """
    return -divergence.conjugate_of_logit(wide(fake_logits)).mean()


def fgan(divergence: str | Divergence = "jensen_shannon", saturating: bool = False) -> Loss:
    """The game of an f-divergence.

    Args:
        divergence: a name in `fastgan.losses.divergences.DIVERGENCES`, or one with its parameter, as in
            `divergences.alpha(0.5)`.
        saturating: whether the generator lowers the bound itself instead of the non-saturating form. The name says it
            last, as in `fgan:alpha:0.5:saturating`.

    Raises:
        ValueError: there is no such divergence.
    """
    if isinstance(divergence, str):
        if divergence not in DIVERGENCES:
            raise ValueError(f"fgan: divergence is {divergence!r}, expected one of {', '.join(DIVERGENCES)}")
        divergence = DIVERGENCES[divergence]()
    of_generator = saturating_generator if saturating else generator
    return Loss(
        f"fgan:{divergence.name}:saturating" if saturating else f"fgan:{divergence.name}",
        update_wrapper(partial(critic, divergence), critic),
        update_wrapper(partial(of_generator, divergence), of_generator),
        "Nowozin et al. 2016, arXiv:1606.00709",
        classifier=divergence.name in CROSS_ENTROPIES,
    )
