"""The minimax game as it was first written: both players have one and the same value, which the generator lowers.

With D the critic's logit and s the sigmoid, log(1 - s(D)) = -softplus(D). The generator's gradient vanishes where the
critic is sure of a sample: that is why `nonsaturating` is trained instead, and why this one is here to be compared.
"""

from torch import Tensor
from torch.nn.functional import softplus

from fastgan.losses.features import wide
from fastgan.losses.loss import Loss
from fastgan.losses.nonsaturating_loss import critic as critic  # the same


def generator(fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
    """E_q log(1 - s(D(G(z)))), whose gradient saturates.

    Args:
        fake_logits: the critic's output on samples, any shape, floating point.
        real_logits: not used.

    Returns:
        A scalar; -log 2 = -0.693 at equilibrium.

    Goodfellow et al. 2014, arXiv:1406.2661, equation 1.
    """
    return -softplus(wide(fake_logits)).mean()


minimax = Loss("minimax", critic, generator, "Goodfellow et al. 2014, arXiv:1406.2661", classifier=True)
