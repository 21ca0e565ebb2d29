"""The Wasserstein game: the critic's mean difference, an estimate of the earth mover's distance.

It is one only for a critic that is 1-Lipschitz; nothing here makes it so. A gradient penalty does (`wgan-gp`), and
without one the critic's loss has no lower bound.
"""

from torch import Tensor

from fastgan.losses.features import wide
from fastgan.losses.loss import Loss


def critic(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """E_q D(G(z)) - E_p D(x).

    Args:
        real_logits: the critic's output on data, any shape, floating point.
        fake_logits: its output on samples, any shape.

    Returns:
        A scalar; minus the estimated distance, 0 for a critic that cannot tell the two apart.

    Arjovsky et al. 2017, arXiv:1701.07875, equation 3.
    """
    return wide(fake_logits).mean() - wide(real_logits).mean()


def generator(fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
    """-E_q D(G(z)).

    Args:
        fake_logits: the critic's output on samples, any shape, floating point.
        real_logits: not used.

    Returns:
        A scalar.

    Arjovsky et al. 2017, arXiv:1701.07875, theorem 3.
    """
    return -wide(fake_logits).mean()


wasserstein = Loss("wasserstein", critic, generator, "Arjovsky et al. 2017, arXiv:1701.07875")
