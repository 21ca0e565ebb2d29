"""The relativistic pairing game: the critic says how much more real one image is than another.

The real image i is paired with the sample i. Only differences count, so the generator gains nothing by moving all of
its samples to the same place: each is compared with a different real image, and the landscape has no bad local minima
(Sun et al. 2020, arXiv:2011.04926). It trains stably with R1 and R2.
"""

from torch import Tensor
from torch.nn.functional import softplus

from fastgan.losses.features import wide
from fastgan.losses.loss import Loss


def critic(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """E softplus(-(D(x_i) - D(G(z_i)))).

    Args:
        real_logits: the critic's output on data, any shape, floating point.
        fake_logits: its output on as many samples, of the same shape.

    Returns:
        A scalar; log 2 = 0.693 for a critic that cannot tell the two apart.

    Raises:
        ValueError: the shapes differ.

    Jolicoeur-Martineau 2018, arXiv:1807.00734, section 4.1; Huang et al. 2024, arXiv:2501.05441, equation 2.
    """
    _check_pairs(real_logits, fake_logits)
    return softplus(wide(fake_logits) - wide(real_logits)).mean()


def generator(fake_logits: Tensor, real_logits: Tensor | None) -> Tensor:
    """E softplus(-(D(G(z_i)) - D(x_i))).

    Args:
        fake_logits: the critic's output on samples, any shape, floating point.
        real_logits: its output on as many images of the data, of the same shape.

    Returns:
        A scalar; log 2 = 0.693 at equilibrium.

    Raises:
        ValueError: the real logits are missing, or the shapes differ.

    Jolicoeur-Martineau 2018, arXiv:1807.00734, section 4.1; Huang et al. 2024, arXiv:2501.05441, equation 2.
    """
    if real_logits is None:
        raise ValueError("relativistic_pairing: real_logits is None, expected the critic's output on data")
    _check_pairs(real_logits, fake_logits)
    return softplus(wide(real_logits) - wide(fake_logits)).mean()


def _check_pairs(real_logits: Tensor, fake_logits: Tensor) -> None:
    # Broadcasting would turn other shapes into a loss of all pairs without a word.
    if real_logits.shape != fake_logits.shape:
        raise ValueError(
            f"relativistic_pairing: real_logits has shape {list(real_logits.shape)} and fake_logits "
            f"{list(fake_logits.shape)}, expected the same, as image i is compared with sample i"
        )


relativistic_pairing = Loss(
    "relativistic_pairing", critic, generator, "Huang et al. 2024, arXiv:2501.05441", needs_real=True
)
