"""Objectives: pure functions of the critic's logits, listed by name in `LOSSES`."""

from fastgan.losses import nonsaturating
from fastgan.losses.loss import Loss

LOSSES: dict[str, Loss] = {loss.name: loss for loss in (nonsaturating.NONSATURATING,)}
"""Every objective that `fastgan train` can be asked for, by name."""

__all__ = ["LOSSES", "Loss", "nonsaturating"]
