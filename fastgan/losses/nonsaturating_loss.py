"""The non-saturating game: the critic classifies, the generator maximises the log-probability of being taken for real.

With D the critic's logit and s the sigmoid, -log s(D) = softplus(-D) and -log(1 - s(D)) = softplus(D). The softplus
forms are exact where s(D) rounds to 0 or 1 and its logarithm would be infinite or without gradient.
"""

from torch import Tensor
from torch.nn.functional import softplus

from fastgan.losses.features import wide
from fastgan.losses.loss import Loss


def critic(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """-E_p log s(D(x)) - E_q log(1 - s(D(G(z)))).

    Args:
        real_logits: the critic's output on data, any shape, floating point.
        fake_logits: its output on samples, any shape.

    Returns:
        A scalar. It is 2 log 2 = 1.386 for a critic that cannot tell the two apart.

    Goodfellow et al. 2014, arXiv:1406.2661, equation 1.
    """
    return softplus(-wide(real_logits)).mean() + softplus(wide(fake_logits)).mean()


def generator(fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
    """-E_q log s(D(G(z))), whose gradient does not vanish when the critic wins.

    Args:
        fake_logits: the critic's output on samples, any shape, floating point.
        real_logits: not used.

    Returns:
        A scalar; log 2 = 0.693 at equilibrium.

    Goodfellow et al. 2014, arXiv:1406.2661, section 3.
    """
    return softplus(-wide(fake_logits)).mean()


nonsaturating = Loss("nonsaturating", critic, generator, "Goodfellow et al. 2014, arXiv:1406.2661", classifier=True)
