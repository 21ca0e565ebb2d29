"""The hinge game: the critic stops pushing a sample once it is on the right side of its margin.

With D the critic's logit, the margins are D >= 1 on data and D <= -1 on samples.
"""

from torch import Tensor
from torch.nn.functional import relu

from fastgan.losses.features import wide
from fastgan.losses.loss import Loss


def critic(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """E_p max(0, 1 - D(x)) + E_q max(0, 1 + D(G(z))).

    Args:
        real_logits: the critic's output on data, any shape, floating point.
        fake_logits: its output on samples, any shape.

    Returns:
        A scalar; 2 for a critic that cannot tell the two apart, 0 for one that keeps its margins.

    Lim & Ye 2017, arXiv:1705.02894; as in SAGAN (Zhang et al. 2019, arXiv:1805.08318, equation 4).
    """
    return relu(1 - wide(real_logits)).mean() + relu(1 + wide(fake_logits)).mean()


def generator(fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
    """-E_q D(G(z)).

    Args:
        fake_logits: the critic's output on samples, any shape, floating point.
        real_logits: not used.

    Returns:
        A scalar.

    Lim & Ye 2017, arXiv:1705.02894; as in SAGAN (Zhang et al. 2019, arXiv:1805.08318, equation 4).
    """
    return -wide(fake_logits).mean()


hinge = Loss("hinge", critic, generator, "Lim & Ye 2017, arXiv:1705.02894")
