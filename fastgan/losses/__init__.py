"""Objectives: pure functions of the critic's logits, listed by name in `LOSSES`."""

from fastgan.losses import hinge, least_squares, nonsaturating, relativistic_pairing, wasserstein
from fastgan.losses.loss import Loss

LOSSES: dict[str, Loss] = {
    loss.name: loss
    for loss in (
        nonsaturating.NONSATURATING,
        hinge.HINGE,
        wasserstein.WASSERSTEIN,
        least_squares.LEAST_SQUARES,
        relativistic_pairing.RELATIVISTIC_PAIRING,
    )
}
"""Every objective that `fastgan train` can be asked for, by name."""

__all__ = ["LOSSES", "Loss", "hinge", "least_squares", "nonsaturating", "relativistic_pairing", "wasserstein"]
