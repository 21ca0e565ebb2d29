"""The maximum-likelihood game: samples are weighted by how much too rare they are, as in the gradient of KL(p, q).

For the best critic exp(D) = p / q, so that the gradient of -E_q exp(D(G(z))) is that of the data's log-likelihood
(Goodfellow 2014, On distinguishability criteria, arXiv:1412.6515). The weights exp(D) of a batch differ by orders of
magnitude: its gradient is carried by the few samples that the critic likes best.

`maximum_likelihood` divides that gradient by E_q exp(D) of the batch, `maximum_likelihood:plain` does not.
"""

import math

import torch
from torch import Tensor

from fastgan.losses.divergences import exp
from fastgan.losses.features import wide
from fastgan.losses.loss import Loss
from fastgan.losses.nonsaturating_loss import critic as classification


def critic(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """-E_p log s(D(x)) - E_q log(1 - s(D(G(z)))), whose best logit is log(p / q).

    Args:
        real_logits: the critic's output on data, any shape, floating point.
        fake_logits: its output on samples, any shape.

    Returns:
        A scalar. It is 2 log 2 = 1.386 for a critic that cannot tell the two apart.

    Goodfellow 2016, NIPS tutorial, arXiv:1701.00160, section 3.2.1.
    """
    return classification(real_logits, fake_logits)


def generator(fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
    """-log E_q exp(D(G(z))), whose slope by the logit D_i of a sample is -exp(D_i) / sum_j exp(D_j) over the batch

    Its gradient is that of -E_q exp(D(G(z))) divided by E_q exp(D(G(z))), which is 1 for the best critic: the
    direction is the same, and no exponential overflows. In a batch of one sample the slope is -1 whatever the logit,
    where the tutorial's figure draws -1/2 exp(D): that is half of the slope of `plain_generator`.

    Args:
        fake_logits: the critic's output on samples, any shape, floating point.
        real_logits: not used.

    Returns:
        A scalar; 0 at equilibrium.

    Goodfellow 2016, NIPS tutorial, arXiv:1701.00160, section 3.2.4.
    """
    # Of the differences to the largest: beside 1e4 a float32 is known to 1e-3, and so would be the weights' exponents.
    logits = wide(fake_logits)
    largest = logits.detach().max()
    return math.log(logits.numel()) - largest - torch.logsumexp((logits - largest).flatten(), 0)


def plain_generator(fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
    """-E_q exp(D(G(z))), the tutorial's loss twice, as the critic's is: its slope for one sample is -exp(D)

    Beyond a logit of 30 the exponential goes on as its tangent, so that nothing overflows.

    Args:
        fake_logits: the critic's output on samples, any shape, floating point.
        real_logits: not used.

    Returns:
        A scalar; -1 at equilibrium.

    Goodfellow 2016, NIPS tutorial, arXiv:1701.00160, section 3.2.4 and figure 16.
    """
    return -exp(wide(fake_logits)).mean()


PAPER = "Goodfellow 2016, arXiv:1701.00160"
maximum_likelihood = Loss("maximum_likelihood", critic, generator, PAPER, classifier=True)
plain_maximum_likelihood = Loss("maximum_likelihood:plain", critic, plain_generator, PAPER, classifier=True)
