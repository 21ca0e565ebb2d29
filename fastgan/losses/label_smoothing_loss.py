"""One-sided label smoothing: the critic's target for data is below 1, so that its gradient stays moderate.

Only the target of data is lowered. With a target above 0 for samples, the best critic would be (a p + b q) / (p + q),
in which q stands in the numerator: samples far from all data would be held where they are.
"""

from torch import Tensor

from fastgan.losses.features import wide
from fastgan.losses.loss import Loss


def label_smoothing(loss: Loss, real: float = 0.9) -> Loss:
    """A classifier's objective with the target `real` for data in place of 1; the target of samples stays 0.

    Of both a cross entropy of s(D) and half a squared error of D, that adds (1 - real) E_p D to the critic's loss, up
    to a constant. The best critic becomes

        s(D(x)) = real p(x) / (p(x) + q(x))

    (D itself for least squares). The generator's loss stays what it is.

    Args:
        loss: one whose critic is a classifier: nonsaturating, minimax, maximum_likelihood, least_squares, fgan("gan")
            or fgan("jensen_shannon").
        real: the target of data, above 0 and at most 1.

    Returns:
        A `Loss`, named `label_smoothing:0.9:nonsaturating` as `fastgan.losses.parse` reads it.

    Raises:
        TypeError: loss is no `Loss`.
        ValueError: its critic is no classifier, so that there is no target to smooth, or the target is out of range.

    Salimans et al. 2016, arXiv:1606.03498, section 3.4.
    """
    if not isinstance(loss, Loss):
        raise TypeError(f"label_smoothing: loss is {type(loss).__name__}, expected a Loss")
    if not loss.classifier:
        raise ValueError(
            f"label_smoothing: loss is {loss.name}, whose critic has no target for data; expected a loss whose critic "
            "classifies, as nonsaturating, minimax, maximum_likelihood, least_squares, fgan:gan, fgan:jensen_shannon"
        )
    if not 0 < real <= 1:
        raise ValueError(f"label_smoothing: real is {real!r}, expected a number above 0 and at most 1")

    def critic(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        real_logits = wide(real_logits)  # once, so that in half precision the two gradients are added before rounding
        return loss.critic(real_logits, fake_logits) + (1 - real) * real_logits.mean()

    name = f"label_smoothing:{real}:{loss.name}"
    # Smoothed twice it would be another thing, so this one is no plain classifier.
    return Loss(name, critic, loss.generator, "Salimans et al. 2016, arXiv:1606.03498", loss.needs_real)
