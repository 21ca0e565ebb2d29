"""The least-squares game: the critic regresses 1 on data and 0 on samples, the generator asks for 1.

A sample far on the right side of the decision still has a gradient, which pulls it towards the data.
"""

from torch import Tensor

from fastgan.losses.features import wide
from fastgan.losses.loss import Loss


def critic(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """1/2 E_p (D(x) - 1)^2 + 1/2 E_q D(G(z))^2.

    Args:
        real_logits: the critic's output on data, any shape, floating point.
        fake_logits: its output on samples, any shape.

    Returns:
        A scalar; 1/4 for the best critic that cannot tell the two apart, which says 1/2 everywhere.

    Mao et al. 2017, arXiv:1611.04076, equation 9.
    """
    return (wide(real_logits) - 1).square().mean() / 2 + wide(fake_logits).square().mean() / 2


def generator(fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
    """1/2 E_q (D(G(z)) - 1)^2.

    Args:
        fake_logits: the critic's output on samples, any shape, floating point.
        real_logits: not used.

    Returns:
        A scalar; 1/8 at equilibrium.

    Mao et al. 2017, arXiv:1611.04076, equation 9.
    """
    return (wide(fake_logits) - 1).square().mean() / 2


least_squares = Loss("least_squares", critic, generator, "Mao et al. 2017, arXiv:1611.04076", classifier=True)
